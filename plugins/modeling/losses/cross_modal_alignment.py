"""Aligns the modalities as M3-ReID does, by a soft margin instead of a triplet."""

from fastreid.config import CfgNode, configurable
from torch import Tensor

from plugins.modeling.losses.alignment import cross_modal_alignment
from plugins.modeling.losses.base import Loss
from plugins.registry import LOSS


@LOSS.register()
class CrossModalAlignment(Loss):
    """Soft margin on mean cosine distances; see ``alignment.cross_modal_alignment``.

    Args:
        scale: weight.
    """

    key = "loss_cross_modal_alignment"

    @configurable
    def __init__(self, *, scale: float):
        super().__init__()
        self.scale = scale

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict:
        """Read ``MODEL.LOSSES.CROSS_MODAL_ALIGNMENT``."""
        return {"scale": cfg.MODEL.LOSSES.CROSS_MODAL_ALIGNMENT.SCALE}

    def forward(self, outputs: dict[str, Tensor], targets: Tensor, modalities: Tensor) -> Tensor:
        """Scalar; see ``Loss``."""
        return self.scale * cross_modal_alignment(outputs["features"], targets, modalities)
