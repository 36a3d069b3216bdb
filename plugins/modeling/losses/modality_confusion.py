"""Train features from which a classifier cannot tell the modality."""

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

    CE(C(sg f), modality) + KL(uniform || C'(f)), where C' is C without a gradient: the first term
    trains the classifier alone, the second the features alone, both in one pass. Confusion towards
    the uniform distribution: Tzeng et al., ICCV 2015; MITML (CVPR 2022) takes a third class for it
    and starts after 60 of its epochs. An optimal pair has the value log 2 + 0.

    Args:
        channels: D, length of the features.
        hidden: length of the classifier's hidden layer.
        scale: weight of both terms.
    """

    key, section = "loss_modality_confusion", "MODALITY_CONFUSION"

    @configurable
    def __init__(self, *, channels: int, hidden: int, scale: float):
        super().__init__(scale=scale)
        self.classifier = nn.Sequential(
            nn.Linear(channels, hidden), nn.ReLU(), nn.Linear(hidden, 2)
        )

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict:
        """Read the section and the length of the features."""
        embedding_dim = cfg.MODEL.HEADS.NECK_FEAT == "after" and cfg.MODEL.HEADS.EMBEDDING_DIM
        channels = embedding_dim or cfg.MODEL.BACKBONE.FEAT_DIM
        return {**super().from_config(cfg), "channels": channels}

    def value(self, outputs: dict[str, Tensor], targets: Tensor, modalities: Tensor) -> Tensor:
        """Compute the sum of both terms, the second one without its constant log 2."""
        features = standardized(outputs["features"])
        classification = F.cross_entropy(self.classifier(features.detach()), modalities)
        fixed = {name: weight.detach() for name, weight in self.classifier.named_parameters()}
        logits = functional_call(self.classifier, fixed, (features,))
        return classification + confusion_loss(logits, 1.0) - math.log(logits.shape[1])
