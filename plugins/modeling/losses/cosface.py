"""Pairwise CosFace."""

from fastreid.config import CfgNode, configurable
from fastreid.modeling.losses import pairwise_cosface
from torch import Tensor

from plugins.modeling.losses.base import Loss
from plugins.registry import LOSS


@LOSS.register()
class Cosface(Loss):
    """fastreid's pairwise CosFace loss on the features.

    Args:
        margin: added to the similarity of negatives, in cosine units.
        gamma: inverse temperature.
        scale: weight.
    """

    key = "loss_cosface"

    @configurable
    def __init__(self, *, margin: float, gamma: float, scale: float):
        super().__init__()
        self.margin = margin
        self.gamma = gamma
        self.scale = scale

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict:
        """Read ``MODEL.LOSSES.COSFACE``."""
        settings = cfg.MODEL.LOSSES.COSFACE
        return {"margin": settings.MARGIN, "gamma": settings.GAMMA, "scale": settings.SCALE}

    def forward(self, outputs: dict[str, Tensor], targets: Tensor, modalities: Tensor) -> Tensor:
        """Scalar; see ``Loss``."""
        features = outputs["features"]
        return self.scale * pairwise_cosface(features, targets, self.margin, self.gamma)
