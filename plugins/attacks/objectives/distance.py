"""Distances with a gradient, in the same units and with the same ties as in ``evaluation``.

Legend: R attacked rows, G gallery items, D feature length.
"""

import torch
from torch import Tensor

from plugins.attacks.guides import Guides, compared
from plugins.evaluation.distance import distances, on_cosine_grid
from plugins.evaluation.ranks import NO_ITEM, sort_keys

# The column in a key of ``sort_keys``.
COLUMN_BITS = 0xFFFFFFFF


def squared_distances(features: Tensor, guides: Guides) -> Tensor:
    """Compute squared Euclidean distances of (R, D) to the gallery, as the metric compares them.

    Returns:
        (R, G); for "cosine" 2 (1 - cos). Smooth everywhere, because nothing is rooted or clamped.
    """
    rows, columns = compared(features, guides.metric), guides.compared_gallery
    norms = rows.square().sum(dim=1, keepdim=True) + guides.gallery_norms
    return norms - 2 * rows @ columns.T


def smooth_distances(features: Tensor, guides: Guides) -> Tensor:
    """Compute the evaluator's distances (R, G) before rounding: 1 - cos, or squared Euclidean."""
    squares = squared_distances(features, guides)
    return squares / 2 if guides.metric == "cosine" else squares


def ranked_distances(features: Tensor, guides: Guides) -> Tensor:
    """Compute the evaluator's distances (R, G), to the last bit, with the smooth gradient.

    The grid on which the evaluator rounds Euclidean features depends on the largest norm, so equal
    bits need the same set of features there; the grid of the cosine is fixed.
    """
    if guides.metric == "cosine":
        exact = 1 - on_cosine_grid(features.detach()) @ guides.gallery_on_grid.T
        exact = exact.float()
    else:
        exact = distances(features.detach(), guides.gallery, guides.metric)
    if not features.requires_grad:
        return exact.to(torch.promote_types(features.dtype, guides.gallery.dtype))
    smooth = smooth_distances(features, guides)
    return exact + (smooth - smooth.detach())


def nearest_item(distances: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Find the item of ``mask`` that a ranked list shows first; ties keep the gallery's order.

    Args:
        distances: (R, G) float32, or float64 that holds float32 values; no NaN.
        mask: (R, G) bool.

    Returns:
        (R,) int64 columns, 0 where no item is in the mask, and (R,) bool, whether one is.
    """
    keys = sort_keys(distances.detach().float()).masked_fill_(~mask, NO_ITEM).amin(dim=1)
    exists = keys != NO_ITEM
    return (keys & COLUMN_BITS) * exists, exists


def where_valid(values: Tensor, valid: Tensor) -> Tensor:
    """Return values (R,) where ``valid`` (R,), elsewhere 0 that still carries a graph."""
    return torch.where(valid, values, torch.zeros_like(values))
