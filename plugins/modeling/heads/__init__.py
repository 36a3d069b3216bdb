"""Heads: clip features to logits in training, to the test feature in evaluation."""

from plugins.modeling.heads.video_head import VideoHead

__all__ = ["VideoHead"]
