"""Identity classification."""

from fastreid.config import CfgNode, configurable
from fastreid.modeling.losses import cross_entropy_loss
from torch import Tensor

from plugins.modeling.losses.base import Loss
from plugins.registry import LOSS


@LOSS.register()
class CrossEntropyLoss(Loss):
    """fastreid's cross-entropy with label smoothing, on the classifier's outputs.

    Args:
        epsilon: label smoothing; 0 none, negative: adaptive.
        alpha: share of the adaptive smoothing.
        scale: weight.
    """

    key = "loss_cls"

    @configurable
    def __init__(self, *, epsilon: float, alpha: float, scale: float):
        super().__init__()
        self.epsilon = epsilon
        self.alpha = alpha
        self.scale = scale

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict:
        """Read ``MODEL.LOSSES.CE``."""
        settings = cfg.MODEL.LOSSES.CE
        return {"epsilon": settings.EPSILON, "alpha": settings.ALPHA, "scale": settings.SCALE}

    def forward(self, outputs: dict[str, Tensor], targets: Tensor, modalities: Tensor) -> Tensor:
        """Scalar; see ``Loss``."""
        logits = outputs["cls_outputs"]
        return self.scale * cross_entropy_loss(logits, targets, self.epsilon, self.alpha)
