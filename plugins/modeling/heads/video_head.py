"""fastreid's embedding head for features that are already pooled over space and time."""

import torch
import torch.nn.functional as F
from fastreid.config import CfgNode
from fastreid.modeling.heads import EmbeddingHead
from torch import Tensor

from plugins.registry import HEADS


@HEADS.register()
class VideoHead(EmbeddingHead):
    """BNNeck and classifier of fastreid's EmbeddingHead, fed with clip features.

    Training returns its dict (``cls_outputs``, ``pred_class_logits``, ``features``: before or after
    the BNNeck, as ``MODEL.HEADS.NECK_FEAT`` says); evaluation returns the L2-normalised feature
    after the BNNeck. ``MODEL.HEADS.POOL_LAYER`` is not read: features come pooled.
    """

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict:
        """EmbeddingHead's settings, without its pooling."""
        return {**super().from_config(cfg), "pool_type": "Identity"}

    def forward(
        self, features: Tensor, targets: Tensor | None = None
    ) -> dict[str, Tensor] | Tensor:
        """Classify or embed.

        Args:
            features: (B, C), pooled over space and time.
            targets: (B,) person labels, for the margin-based classifiers in training.

        Returns:
            In training the dict above, (B, classes) and (B, D); else (B, D). All float32.
        """
        # The margin classifiers take an arc cosine, which half precision turns into NaN.
        with torch.autocast(features.device.type, enabled=False):
            outputs = super().forward(features.float()[..., None, None], targets)
        return outputs if self.training else F.normalize(outputs)
