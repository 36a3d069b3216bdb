"""Compute losses that bring the modalities together: pure functions, tensors in, tensors out.

Legend: B clips (or frames) in the batch, D feature length, T frames of a clip.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from plugins.modeling.losses.functional import group_means, valid_mean

# Least length of a feature; the direction of a shorter one is noise.
TINY = 1e-6


def unit(features: Tensor) -> Tensor:
    """Scale features (..., D) to length 1, those shorter than 1e-6 to less: finite gradients."""
    return F.normalize(features, dim=-1, eps=TINY)


def masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """Average each row of (B, G) where ``mask`` is True; a row without any is 0."""
    return (values * mask).sum(dim=1) / mask.sum(dim=1).clamp_min(1)


def cross_modal_alignment(features: Tensor, targets: Tensor, modalities: Tensor) -> Tensor:
    """Compute log(1 + exp(p - n)), a soft margin between distances to the same and other people.

    p and n are an anchor's mean distances (1 - cos) / 2, within 0 and 1, to all its positives and
    to all its negatives of the other modality. Liang et al. (M3-ReID), TIFS 2025, "multi-modality
    alignment".

    Args:
        features: (B, D).
        targets: (B,) person labels.
        modalities: (B,) 0 visible, 1 infrared.

    Returns:
        Scalar between log(1 + 1 / e) and log(1 + e): mean over the anchors of a modality that have
        both, then over the modalities that have such anchors; with none, 0 that still carries a
        graph.
    """
    directions = unit(features)
    distances = (1 - directions @ directions.T) / 2
    same = targets[:, None] == targets
    other_modality = modalities[:, None] != modalities
    positive, negative = same & other_modality, ~same & other_modality
    gaps = masked_mean(distances, positive) - masked_mean(distances, negative)
    complete = positive.any(dim=1) & negative.any(dim=1)
    sides = torch.stack([complete & (modalities == modality) for modality in (0, 1)])
    means = torch.stack([valid_mean(F.softplus(gaps), side) for side in sides])
    return valid_mean(means, sides.any(dim=1))


def separation(vectors: Tensor) -> Tensor:
    """Compute the mean squared cosine of different vectors of a set; 0 if they are orthogonal.

    Liang et al. (M3-ReID), TIFS 2025: the vectors are the embeddings of a clip's frames
    ("orthogonal frame regularizer") or the heads of an attention.

    Args:
        vectors: (B, K, D), K of a set.

    Returns:
        Scalar within 0 and 1; for K = 1, 0 that still carries a graph.
    """
    directions = unit(vectors)
    cosines = directions @ directions.transpose(1, 2)  # (B, K, K)
    different = ~torch.eye(vectors.shape[1], dtype=torch.bool, device=vectors.device)
    return (cosines.square() * different).sum() / (len(vectors) * different.sum()).clamp_min(1)


def center_alignment(features: Tensor, targets: Tensor, modalities: Tensor) -> Tensor:
    """Compute the squared distance between a person's mean features in the two modalities.

    Hetero-center loss, Zhu et al., Neurocomputing 2020, arXiv 1910.09830; they add up the people,
    this is their mean.

    Args:
        features: (B, D).
        targets: (B,) person labels.
        modalities: (B,) 0 visible, 1 infrared.

    Returns:
        Scalar mean over people who have both, squared feature units; with none, 0 that still
        carries a graph.
    """
    centers, people, sides = group_means(features, targets, modalities)
    pairs = (people[:, None] == people) & (sides[:, None] < sides)
    visible, infrared = pairs.nonzero(as_tuple=True)
    gaps = centers[visible] - centers[infrared]
    return gaps.square().sum() / max(len(visible), 1)


def standardized(features: Tensor) -> Tensor:
    """Subtract the mean of features (B, D) and divide by their deviation, both without a gradient.

    A large mean that all features share would hide their differences from a young classifier.
    """
    centered = features - features.detach().mean(dim=0)
    return centered / centered.detach().square().mean().sqrt().clamp_min(TINY)
