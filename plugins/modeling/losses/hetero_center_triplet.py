"""Triplet loss between the centres of people in each modality."""

from fastreid.config import CfgNode, configurable
from torch import Tensor

from plugins.modeling.losses.base import Loss
from plugins.modeling.losses.functional import hetero_center_triplet
from plugins.registry import LOSS


@LOSS.register()
class HeteroCenterTriplet(Loss):
    """Hetero-centre triplet loss; see ``functional.hetero_center_triplet``.

    Args:
        margin: rho, feature units.
        scale: weight.
    """

    key = "loss_hetero_center_triplet"

    @configurable
    def __init__(self, *, margin: float, scale: float):
        super().__init__()
        self.margin = margin
        self.scale = scale

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict:
        """Read ``MODEL.LOSSES.HETERO_CENTER_TRI``."""
        settings = cfg.MODEL.LOSSES.HETERO_CENTER_TRI
        return {"margin": settings.MARGIN, "scale": settings.SCALE}

    def forward(self, outputs: dict[str, Tensor], targets: Tensor, modalities: Tensor) -> Tensor:
        """Scalar; see ``Loss``."""
        features = outputs["features"]
        return self.scale * hetero_center_triplet(features, targets, modalities, self.margin)
