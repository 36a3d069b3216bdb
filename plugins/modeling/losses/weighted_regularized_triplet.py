"""Triplet loss of AGW over all pairs, whatever the modality."""

from fastreid.config import CfgNode, configurable
from torch import Tensor

from plugins.modeling.losses.base import Loss
from plugins.modeling.losses.functional import weighted_regularized_triplet
from plugins.registry import LOSS


@LOSS.register()
class WeightedRegularizedTriplet(Loss):
    """Softmax-weighted triplet loss; see ``functional.weighted_regularized_triplet``.

    Args:
        scale: weight.
    """

    key = "loss_weighted_regularized_triplet"

    @configurable
    def __init__(self, *, scale: float):
        super().__init__()
        self.scale = scale

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict:
        """Read ``MODEL.LOSSES.WEIGHTED_REG_TRI``."""
        return {"scale": cfg.MODEL.LOSSES.WEIGHTED_REG_TRI.SCALE}

    def forward(self, outputs: dict[str, Tensor], targets: Tensor, modalities: Tensor) -> Tensor:
        """Scalar; see ``Loss``."""
        return self.scale * weighted_regularized_triplet(outputs["features"], targets)
