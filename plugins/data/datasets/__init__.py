"""Readers of data sets."""

from plugins.data.datasets.base import ReidDataset
from plugins.data.datasets.bupt_campus import BUPTCampus
from plugins.data.datasets.folder import FolderDataset
from plugins.data.datasets.held_out import HeldOutPeople, check_held_out
from plugins.data.datasets.hitsz_vcm import HITSZVCM
from plugins.data.datasets.image_set import ImageSet
from plugins.data.datasets.llcm import LLCM
from plugins.data.datasets.manifest import ManifestDataset
from plugins.data.datasets.regdb import RegDB
from plugins.data.datasets.sysu_mm01 import SYSUMM01
from plugins.data.datasets.thinned import ThinnedDataset
from plugins.data.datasets.tracklet import INFRARED, MODALITIES, VISIBLE, Tracklet

__all__ = [
    "HITSZVCM",
    "INFRARED",
    "LLCM",
    "MODALITIES",
    "SYSUMM01",
    "VISIBLE",
    "BUPTCampus",
    "FolderDataset",
    "HeldOutPeople",
    "ImageSet",
    "ManifestDataset",
    "RegDB",
    "ReidDataset",
    "ThinnedDataset",
    "Tracklet",
    "check_held_out",
]
