"""Backbones: images to feature maps."""

from plugins.modeling.backbones.two_stream import TwoStreamBackbone, build_two_stream_backbone

__all__ = ["TwoStreamBackbone", "build_two_stream_backbone"]
