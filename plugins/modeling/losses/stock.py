"""The losses of fastreid, under the settings that it has for them."""

from fastreid.modeling.losses import (
    cross_entropy_loss,
    pairwise_circleloss,
    pairwise_cosface,
    triplet_loss,
)
from torch import Tensor

from plugins.modeling.losses.base import Loss
from plugins.registry import LOSS


@LOSS.register()
class CrossEntropyLoss(Loss):
    """Cross-entropy with label smoothing, on the classifier's outputs.

    Attributes:
        epsilon: label smoothing; 0: none, negative: adaptive.
        alpha: share of the adaptive smoothing.
    """

    key, section = "loss_cls", "CE"
    epsilon: float
    alpha: float

    def value(self, outputs: dict[str, Tensor], targets: Tensor, modalities: Tensor) -> Tensor:
        """Compute the unweighted loss; see ``Loss``."""
        return cross_entropy_loss(outputs["cls_outputs"], targets, self.epsilon, self.alpha)


@LOSS.register()
class TripletLoss(Loss):
    """Triplet loss over the whole batch, whatever the modality.

    Attributes:
        margin: feature units; 0: soft margin.
        norm_feat: cosine instead of Euclidean distances.
        hard_mining: hardest pairs instead of softmax-weighted ones.
    """

    key, section = "loss_triplet", "TRI"
    margin: float
    norm_feat: bool
    hard_mining: bool

    def value(self, outputs: dict[str, Tensor], targets: Tensor, modalities: Tensor) -> Tensor:
        """Compute the unweighted loss; see ``Loss``."""
        features = outputs["features"]
        return triplet_loss(features, targets, self.margin, self.norm_feat, self.hard_mining)


@LOSS.register()
class CircleLoss(Loss):
    """Pairwise circle loss on the features, arXiv 2002.10857.

    Attributes:
        margin: relaxation m of the similarities, in cosine units.
        gamma: inverse temperature.
    """

    key, section = "loss_circle", "CIRCLE"
    margin: float
    gamma: float

    def value(self, outputs: dict[str, Tensor], targets: Tensor, modalities: Tensor) -> Tensor:
        """Compute the unweighted loss; see ``Loss``."""
        return pairwise_circleloss(outputs["features"], targets, self.margin, self.gamma)


@LOSS.register()
class Cosface(Loss):
    """Pairwise CosFace loss on the features.

    Attributes:
        margin: added to the similarity of negatives, in cosine units.
        gamma: inverse temperature.
    """

    key, section = "loss_cosface", "COSFACE"
    margin: float
    gamma: float

    def value(self, outputs: dict[str, Tensor], targets: Tensor, modalities: Tensor) -> Tensor:
        """Compute the unweighted loss; see ``Loss``."""
        return pairwise_cosface(outputs["features"], targets, self.margin, self.gamma)
