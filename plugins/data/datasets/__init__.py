"""Readers of data sets."""

from plugins.data.datasets.hitsz_vcm import HITSZVCM
from plugins.data.datasets.tracklet import INFRARED, MODALITIES, VISIBLE, Tracklet
from plugins.data.datasets.video_dataset import VideoDataset

__all__ = ["HITSZVCM", "INFRARED", "MODALITIES", "VISIBLE", "Tracklet", "VideoDataset"]
