"""Loss arithmetic: pure functions, tensors in, tensors out.

Legend: B clips in the batch, D feature length. Distances are Euclidean, in feature units.
"""

import torch
from torch import Tensor


def pairwise_distances(rows: Tensor, columns: Tensor) -> Tensor:
    """Euclidean distances between features (B, D) and (G, D).

    Returns:
        (B, G). Computed from differences, not from products: exact for near features, and with
        gradient 0 where two features are identical.
    """
    return torch.cdist(rows, columns, compute_mode="donot_use_mm_for_euclid_dist")


def mean_hinge(gaps: Tensor, valid: Tensor) -> Tensor:
    """Mean of max(gap, 0) over the valid anchors.

    Args:
        gaps: (B,) values to push below 0; those of invalid anchors may be infinite or NaN.
        valid: (B,) bool.

    Returns:
        Scalar; with no valid anchor 0 that still carries a graph.
    """
    hinges = torch.where(valid, gaps, torch.zeros_like(gaps)).relu()
    return hinges.sum() / valid.sum().clamp_min(1)


def cross_modal_triplet(
    features: Tensor, targets: Tensor, modalities: Tensor, margin: float
) -> Tensor:
    """Hinge on the hardest positive and the hardest negative, both from the *other* modality.

    Args:
        features: (B, D).
        targets: (B,) person labels.
        modalities: (B,) 0 visible, 1 infrared.
        margin: gap to enforce between the two distances, feature units.

    Returns:
        Scalar mean over the anchors that have both; with none, 0 that still carries a graph.
    """
    distances = pairwise_distances(features, features)
    same = targets[:, None] == targets
    other_modality = modalities[:, None] != modalities
    positive, negative = same & other_modality, ~same & other_modality
    farthest_positive = distances.masked_fill(~positive, -torch.inf).amax(dim=1)
    nearest_negative = distances.masked_fill(~negative, torch.inf).amin(dim=1)
    valid = positive.any(dim=1) & negative.any(dim=1)
    return mean_hinge(margin + farthest_positive - nearest_negative, valid)
