"""The two modalities of a person predict alike."""

from fastreid.config import CfgNode, configurable
from torch import Tensor

from plugins.modeling.losses.base import Loss
from plugins.modeling.losses.functional import modality_divergence
from plugins.registry import LOSS


@LOSS.register()
class KLConsistency(Loss):
    """Symmetric KL between a person's mean predictions; see ``functional.modality_divergence``.

    Args:
        scale: weight.
    """

    key = "loss_kl_consistency"

    @configurable
    def __init__(self, *, scale: float):
        super().__init__()
        self.scale = scale

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict:
        """Read ``MODEL.LOSSES.KL_CONSISTENCY``."""
        return {"scale": cfg.MODEL.LOSSES.KL_CONSISTENCY.SCALE}

    def forward(self, outputs: dict[str, Tensor], targets: Tensor, modalities: Tensor) -> Tensor:
        """Scalar; see ``Loss``."""
        logits = outputs["pred_class_logits"]
        return self.scale * modality_divergence(logits, targets, modalities)
