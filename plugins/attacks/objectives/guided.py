"""Objectives that push from and pull to guides: one value per row, to maximize.

Legend: R attacked rows, G gallery items, D feature length; f the attacked feature, f0 the clean
one, g+ a visible gallery item of the same person, g- one of another person. |a - b| is Euclidean
between features as TEST.METRIC compares them, normalized for "cosine", so that an attack moves the
ranked distances.

Each objective takes features (R, D) and Guides and returns (R,), differentiable, with finite
gradients. A row that lacks the guides which its objective names gets 0 that still carries a graph.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from plugins.attacks.guides import Guides, compared
from plugins.attacks.objectives.distance import squared_distances, where_valid


def self_metric(features: Tensor, guides: Guides) -> Tensor:
    """Compute |f - f0|^2 (SMA), which needs no labels.

    Its gradient at f = f0 is zero, so it needs a random start. Bouniot, Audigier and Loesch,
    CVPRW 2020.
    """
    return _squared_gap(features, guides.clean, guides.metric)


def local_transform(features: Tensor, guides: Guides) -> Tensor:
    """Compute |f - f(T(x))|^2 (LTA), where ``guides.reference`` holds f(T(x)), new at each step.

    T is ``gray_patches``. Gong, Huang and Chen, CVPRW 2022.
    """
    assert guides.reference is not None, "LTA needs the features of the transformed images"
    return _squared_gap(features, guides.reference, guides.metric)


def targeted(features: Tensor, guides: Guides) -> Tensor:
    """Compute the cosine of f to its target (TMA), which ``guides.reference`` holds.

    Tolias, Radenovic and Chum, "Targeted Mismatch Adversarial Attack", ICCV 2019.
    """
    assert guides.reference is not None, "a targeted attack needs targets"
    return (F.normalize(features, dim=1) * F.normalize(guides.reference, dim=1)).sum(dim=1)


def odfa(features: Tensor, guides: Guides) -> Tensor:
    """Compute -|f^ + f0^|^2 of normalized features (ODFA, "U-turn"), whatever the metric.

    The sign is minus because the sum vanishes at the goal f^ = -f0^; with plus the attack would
    hold the feature in place. As for SMA the gradient at f = f0 is zero. Zheng et al., arXiv
    1809.02681.
    """
    total = F.normalize(features, dim=1) + F.normalize(guides.clean, dim=1)
    return -total.square().sum(dim=1)


def metric_guides(features: Tensor, guides: Guides) -> Tensor:
    """Sum |f - g+|^2 over g+ (metric attack); 0 without g+.

    Bai et al., "Adversarial Metric Attack and Defense for Person Re-identification", TPAMI 2020.
    """
    squares = squared_distances(features, guides)
    return (squares * guides.positives).sum(dim=1)


def farthest_negative(features: Tensor, guides: Guides) -> Tensor:
    """Sum |f - g+|^2 over g+, minus |f - c|^2 (FNA); 0 without g+ or g-.

    c is the centroid of the other identity whose centroid is farthest from f0, so the goal stays in
    place while f moves. Bouniot, Audigier and Loesch, CVPRW 2020.
    """
    pull = _squared_gap(features, guides.once(_farthest_centroids), guides.metric)
    return where_valid(metric_guides(features, guides) - pull, guides.once(_has_both))


def nearest_push_pull(features: Tensor, guides: Guides) -> Tensor:
    """Average |f - g+|^2 over g+, minus |f - g-|^2 of the nearest g-; 0 without g+ or g-.

    With a sum instead of the mean, many g+ would outweigh the one g-.
    """
    squares = squared_distances(features, guides)
    push = (squares * guides.positives).sum(dim=1) / guides.positives.sum(dim=1).clamp_min(1)
    pull = squares.masked_fill(~guides.negatives, torch.inf).amin(dim=1)
    return where_valid(push - pull, guides.once(_has_both))


def _squared_gap(features: Tensor, others: Tensor, metric: str) -> Tensor:
    """Compute |f - o|^2 row by row, (R, D) and (R, D) to (R,)."""
    return (compared(features, metric) - compared(others, metric)).square().sum(dim=1)


def _farthest_centroids(guides: Guides) -> Tensor:
    """Return (R, D) the centroid of the other identity that is farthest from each clean feature."""
    centroids = guides.centroids
    reach = squared_distances(guides.clean, centroids)
    farthest = reach.masked_fill(~centroids.negatives, -torch.inf).argmax(dim=1)
    return centroids.gallery[farthest]


def _has_both(guides: Guides) -> Tensor:
    return guides.positives.any(dim=1) & guides.negatives.any(dim=1)
