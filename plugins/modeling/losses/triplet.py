"""Triplet loss over the whole batch, whatever the modality."""

from fastreid.config import CfgNode, configurable
from fastreid.modeling.losses import triplet_loss
from torch import Tensor

from plugins.modeling.losses.base import Loss
from plugins.registry import LOSS


@LOSS.register()
class TripletLoss(Loss):
    """fastreid's triplet loss on the features.

    Args:
        margin: feature units; 0: soft margin.
        norm_feat: cosine instead of Euclidean distances.
        hard_mining: hardest pairs instead of softmax-weighted ones.
        scale: weight.
    """

    key = "loss_triplet"

    @configurable
    def __init__(self, *, margin: float, norm_feat: bool, hard_mining: bool, scale: float):
        super().__init__()
        self.margin = margin
        self.norm_feat = norm_feat
        self.hard_mining = hard_mining
        self.scale = scale

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict:
        """Read ``MODEL.LOSSES.TRI``."""
        settings = cfg.MODEL.LOSSES.TRI
        return {
            "margin": settings.MARGIN,
            "norm_feat": settings.NORM_FEAT,
            "hard_mining": settings.HARD_MINING,
            "scale": settings.SCALE,
        }

    def forward(self, outputs: dict[str, Tensor], targets: Tensor, modalities: Tensor) -> Tensor:
        """Scalar; see ``Loss``."""
        features = outputs["features"]
        return self.scale * triplet_loss(
            features, targets, self.margin, self.norm_feat, self.hard_mining
        )
