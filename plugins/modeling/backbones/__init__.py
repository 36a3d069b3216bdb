"""Backbones: images to feature maps."""

from plugins.modeling.backbones.trunks import STAGES, stage_channels
from plugins.modeling.backbones.two_stream import TwoStreamBackbone, build_two_stream_backbone

__all__ = ["STAGES", "TwoStreamBackbone", "build_two_stream_backbone", "stage_channels"]
