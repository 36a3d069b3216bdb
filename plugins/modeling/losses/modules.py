"""The losses of this package: thin modules around ``functional`` and ``alignment``."""

from torch import Tensor

from plugins.modeling.losses.alignment import center_alignment, cross_modal_alignment, separation
from plugins.modeling.losses.base import Loss
from plugins.modeling.losses.functional import (
    cross_modal_triplet,
    hetero_center_triplet,
    modality_divergence,
    weighted_regularized_triplet,
)
from plugins.registry import LOSS


@LOSS.register()
class CrossModalTriplet(Loss):
    """Batch-hard triplet loss whose pairs always join the two modalities.

    Attributes:
        margin: feature units.
    """

    key, section = "loss_cross_modal_triplet", "CROSS_MODAL_TRI"
    margin: float

    def value(self, outputs: dict[str, Tensor], targets: Tensor, modalities: Tensor) -> Tensor:
        """Compute ``functional.cross_modal_triplet``."""
        return cross_modal_triplet(outputs["features"], targets, modalities, self.margin)


@LOSS.register()
class HeteroCenterTriplet(Loss):
    """Triplet loss between the centers of people in each modality.

    Attributes:
        margin: rho, feature units.
    """

    key, section = "loss_hetero_center_triplet", "HETERO_CENTER_TRI"
    margin: float

    def value(self, outputs: dict[str, Tensor], targets: Tensor, modalities: Tensor) -> Tensor:
        """Compute ``functional.hetero_center_triplet``."""
        return hetero_center_triplet(outputs["features"], targets, modalities, self.margin)


@LOSS.register()
class WeightedRegularizedTriplet(Loss):
    """Softmax-weighted triplet loss of AGW over all pairs, whatever the modality."""

    key, section = "loss_weighted_regularized_triplet", "WEIGHTED_REG_TRI"

    def value(self, outputs: dict[str, Tensor], targets: Tensor, modalities: Tensor) -> Tensor:
        """Compute ``functional.weighted_regularized_triplet``."""
        return weighted_regularized_triplet(outputs["features"], targets)


@LOSS.register()
class CrossModalAlignment(Loss):
    """Soft margin of M3-ReID on mean cosine distances between the modalities."""

    key, section = "loss_cross_modal_alignment", "CROSS_MODAL_ALIGNMENT"

    def value(self, outputs: dict[str, Tensor], targets: Tensor, modalities: Tensor) -> Tensor:
        """Compute ``alignment.cross_modal_alignment``."""
        return cross_modal_alignment(outputs["features"], targets, modalities)


@LOSS.register()
class CenterAlignment(Loss):
    """Hetero-center loss, which pulls a person's centers in the two modalities together."""

    key, section = "loss_center_alignment", "CENTER_ALIGNMENT"

    def value(self, outputs: dict[str, Tensor], targets: Tensor, modalities: Tensor) -> Tensor:
        """Compute ``alignment.center_alignment``."""
        return center_alignment(outputs["features"], targets, modalities)


@LOSS.register()
class KLConsistency(Loss):
    """Symmetric KL divergence between a person's mean predictions in the two modalities."""

    key, section = "loss_kl_consistency", "KL_CONSISTENCY"

    def value(self, outputs: dict[str, Tensor], targets: Tensor, modalities: Tensor) -> Tensor:
        """Compute ``functional.modality_divergence``."""
        return modality_divergence(outputs["pred_class_logits"], targets, modalities)


@LOSS.register()
class FrameSeparation(Loss):
    """Pushes the embeddings of a clip's frames apart.

    It belongs to the losses on clips, MODEL.LOSSES.NAME, and needs MODEL.HEADS.NECK_LEVEL frame:
    before a BNNeck all frames share a large mean, which this loss would separate instead.

    Attributes:
        needs_frames: read by the meta-architecture.
    """

    key, section = "loss_frame_separation", "FRAME_SEPARATION"
    needs_frames = True

    def value(self, outputs: dict[str, Tensor], targets: Tensor, modalities: Tensor) -> Tensor:
        """Compute ``alignment.separation``."""
        return separation(outputs["frame_features"])
