"""Pulls the centers of a person in the two modalities together."""

from fastreid.config import CfgNode, configurable
from torch import Tensor

from plugins.modeling.losses.alignment import center_alignment
from plugins.modeling.losses.base import Loss
from plugins.registry import LOSS


@LOSS.register()
class CenterAlignment(Loss):
    """Hetero-center loss; see ``alignment.center_alignment``.

    Args:
        scale: weight.
    """

    key = "loss_center_alignment"

    @configurable
    def __init__(self, *, scale: float):
        super().__init__()
        self.scale = scale

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict:
        """Read ``MODEL.LOSSES.CENTER_ALIGNMENT``."""
        return {"scale": cfg.MODEL.LOSSES.CENTER_ALIGNMENT.SCALE}

    def forward(self, outputs: dict[str, Tensor], targets: Tensor, modalities: Tensor) -> Tensor:
        """Scalar; see ``Loss``."""
        return self.scale * center_alignment(outputs["features"], targets, modalities)
