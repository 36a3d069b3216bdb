"""Triplet loss whose pairs always join the two modalities."""

from fastreid.config import CfgNode, configurable
from torch import Tensor

from plugins.modeling.losses.base import Loss
from plugins.modeling.losses.functional import cross_modal_triplet
from plugins.registry import LOSS


@LOSS.register()
class CrossModalTriplet(Loss):
    """Batch-hard triplet loss across modalities; see ``functional.cross_modal_triplet``.

    Args:
        margin: feature units.
        scale: weight.
    """

    key = "loss_cross_modal_triplet"

    @configurable
    def __init__(self, *, margin: float, scale: float):
        super().__init__()
        self.margin = margin
        self.scale = scale

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict:
        """Read ``MODEL.LOSSES.CROSS_MODAL_TRI``."""
        settings = cfg.MODEL.LOSSES.CROSS_MODAL_TRI
        return {"margin": settings.MARGIN, "scale": settings.SCALE}

    def forward(self, outputs: dict[str, Tensor], targets: Tensor, modalities: Tensor) -> Tensor:
        """Scalar; see ``Loss``."""
        features = outputs["features"]
        return self.scale * cross_modal_triplet(features, targets, modalities, self.margin)
