"""Distances with a gradient, in the same units and with the same ties as in ``evaluation``.

Legend: R attacked rows, G gallery items, D feature length.
"""

import torch
from torch import Tensor

from plugins.attacks.guides import Guides, compared
from plugins.evaluation.distance import distances
from plugins.evaluation.ranks import NO_ITEM, sort_keys

# The column in a key of ``sort_keys``.
COLUMN_BITS = 0xFFFFFFFF


def squared_distances(features: Tensor, guides: Guides) -> Tensor:
    """Squared Euclidean distances of (R, D) to the gallery, as the metric compares features.

    Returns:
        (R, G); for "cosine" 2 (1 - cos). Smooth everywhere: nothing is rooted or clamped.
    """
    rows, columns = compared(features, guides.metric), guides.compared_gallery
    norms = rows.square().sum(dim=1, keepdim=True) + columns.square().sum(dim=1)
    return norms - 2 * rows @ columns.T


def smooth_distances(features: Tensor, guides: Guides) -> Tensor:
    """The evaluator's distances, (R, G), before it rounds: 1 - cos, or squared Euclidean."""
    squares = squared_distances(features, guides)
    return squares / 2 if guides.metric == "cosine" else squares


def ranked_distances(features: Tensor, guides: Guides) -> Tensor:
    """The evaluator's distances, (R, G), to the last bit, with the gradient of the smooth ones.

    The grid on which the evaluator rounds Euclidean features follows the largest norm it meets, so
    there "to the last bit" needs the same set of features; the cosine's grid is fixed.
    """
    smooth = smooth_distances(features, guides)
    exact = distances(features.detach(), guides.gallery, guides.metric)
    return exact + (smooth - smooth.detach())


def nearest(distances: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """The item of ``mask`` that a ranked list shows first; ties keep the gallery's order.

    Args:
        distances: (R, G) float32, or float64 that holds float32 values; no NaN.
        mask: (R, G) bool.

    Returns:
        (R,) int64 columns, 0 where there is none, and (R,) bool, there is one.
    """
    keys = sort_keys(distances.detach().float()).masked_fill_(~mask, NO_ITEM).amin(dim=1)
    found = keys != NO_ITEM
    return (keys & COLUMN_BITS) * found, found


def where_valid(values: Tensor, valid: Tensor) -> Tensor:
    """Values (R,) where ``valid`` (R,); elsewhere 0 that still carries a graph."""
    return torch.where(valid, values, torch.zeros_like(values))
