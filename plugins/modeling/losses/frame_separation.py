"""Pushes the embeddings of a clip's frames apart."""

from fastreid.config import CfgNode, configurable
from torch import Tensor

from plugins.modeling.losses.alignment import separation
from plugins.modeling.losses.base import Loss
from plugins.registry import LOSS


@LOSS.register()
class FrameSeparation(Loss):
    """Separation of the embeddings of a clip's frames; see ``alignment.separation``.

    It belongs to the losses on clips, MODEL.LOSSES.NAME, and needs MODEL.HEADS.NECK_LEVEL frame:
    before a BNNeck all frames share a large mean, which would be what is separated.

    Attributes:
        needs_frames: read by the meta-architecture.

    Args:
        scale: weight.
    """

    key = "loss_frame_separation"
    needs_frames = True

    @configurable
    def __init__(self, *, scale: float):
        super().__init__()
        self.scale = scale

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict:
        """Read ``MODEL.LOSSES.FRAME_SEPARATION``."""
        return {"scale": cfg.MODEL.LOSSES.FRAME_SEPARATION.SCALE}

    def forward(self, outputs: dict[str, Tensor], targets: Tensor, modalities: Tensor) -> Tensor:
        """Scalar; see ``Loss``."""
        return self.scale * separation(outputs["frame_features"])
