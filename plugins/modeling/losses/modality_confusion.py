"""Makes features from which a classifier cannot tell the modality."""

import math

import torch.nn.functional as F
from fastreid.config import CfgNode, configurable
from torch import Tensor, nn
from torch.func import functional_call

from plugins.modeling.losses.alignment import standardized
from plugins.modeling.losses.base import Loss
from plugins.modeling.losses.functional import confusion_loss
from plugins.registry import LOSS


@LOSS.register()
class ModalityConfusion(Loss):
    """A classifier learns to tell the modalities, the features learn that it cannot.

    CE(C(sg f), modality) + KL(uniform || C'(f)), where C' is C without a gradient: the first trains
    the classifier alone, the second the features alone, both in one pass. Confusion towards the
    uniform distribution: Tzeng et al., ICCV 2015; MITML (CVPR 2022) takes a third class for it and
    starts after 60 of its epochs. An optimal pair has the value log 2 + 0.

    Args:
        channels: D, length of the features.
        hidden: length of the classifier's hidden layer.
        scale: weight of both terms.
    """

    key = "loss_modality_confusion"

    @configurable
    def __init__(self, *, channels: int, hidden: int, scale: float):
        super().__init__()
        self.classifier = nn.Sequential(
            nn.Linear(channels, hidden), nn.ReLU(), nn.Linear(hidden, 2)
        )
        self.scale = scale

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict:
        """Read ``MODEL.LOSSES.MODALITY_CONFUSION`` and the length of the features."""
        settings = cfg.MODEL.LOSSES.MODALITY_CONFUSION
        behind = cfg.MODEL.HEADS.NECK_FEAT == "after" and cfg.MODEL.HEADS.EMBEDDING_DIM
        return {
            "channels": behind or cfg.MODEL.BACKBONE.FEAT_DIM,
            "hidden": settings.HIDDEN,
            "scale": settings.SCALE,
        }

    def forward(self, outputs: dict[str, Tensor], targets: Tensor, modalities: Tensor) -> Tensor:
        """Scalar; see ``Loss``."""
        features = standardized(outputs["features"])
        told = F.cross_entropy(self.classifier(features.detach()), modalities)
        fixed = {name: weight.detach() for name, weight in self.classifier.named_parameters()}
        logits = functional_call(self.classifier, fixed, (features,))
        return self.scale * (told + confusion_loss(logits, 1.0) - math.log(logits.shape[1]))
