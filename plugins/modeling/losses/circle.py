"""Circle loss, arXiv 2002.10857."""

from fastreid.config import CfgNode, configurable
from fastreid.modeling.losses import pairwise_circleloss
from torch import Tensor

from plugins.modeling.losses.base import Loss
from plugins.registry import LOSS


@LOSS.register()
class CircleLoss(Loss):
    """fastreid's pairwise circle loss on the features.

    Args:
        margin: relaxation m of the similarities, in cosine units.
        gamma: inverse temperature.
        scale: weight.
    """

    key = "loss_circle"

    @configurable
    def __init__(self, *, margin: float, gamma: float, scale: float):
        super().__init__()
        self.margin = margin
        self.gamma = gamma
        self.scale = scale

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict:
        """Read ``MODEL.LOSSES.CIRCLE``."""
        settings = cfg.MODEL.LOSSES.CIRCLE
        return {"margin": settings.MARGIN, "gamma": settings.GAMMA, "scale": settings.SCALE}

    def forward(self, outputs: dict[str, Tensor], targets: Tensor, modalities: Tensor) -> Tensor:
        """Scalar; see ``Loss``."""
        features = outputs["features"]
        return self.scale * pairwise_circleloss(features, targets, self.margin, self.gamma)
