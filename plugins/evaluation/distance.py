"""Compute distances between features, the same to the last bit for any chunk size and BLAS.

Legend: Q queries, C queries of one chunk, G gallery items, D feature length.

A matrix product rounds differently with another chunk size, thread count or BLAS, so that two equal
gallery features may get different distances and a ranking may change from run to run. Here features
are first rounded to a grid on which float64 sums of products are exact: then the order of summation
does not matter, a distance depends only on its two features and the grid, and equal features tie.
"""

import math
from collections.abc import Iterator
from itertools import chain

import torch
from torch import Tensor

from plugins.config import check_value

METRICS = ("cosine", "euclidean")

# Queries per block of rows.
CHUNK = 64

# The grid is 2^-26 of the power of two above the largest norm. A product then has at most 52 bits
# and, by Cauchy-Schwarz, so has every partial sum: the 53 bits of float64 hold each without
# rounding. A cosine moves by some 1e-8, a fifth of a float32 step.
GRID_BITS = 26
# Distances whose range is no larger share of them than this differ by rounding alone.
TIE = 1e-6


def distances(
    queries: Tensor, gallery: Tensor, metric: str, largest_norm: float | None = None
) -> Tensor:
    """Compute the distance of each query to each gallery item.

    Args:
        queries: (Q, D), finite.
        gallery: (G, D), finite.
        metric: "cosine" for 1 - cos, or "euclidean" for the *squared* Euclidean distance, both as
            in fastreid's ``build_dist``.
        largest_norm: of all features of a search, if these are a part of them, so that Euclidean
            distances are those of the whole; None for that of these.

    Returns:
        (Q, G) float32.
    """
    return torch.cat(list(distance_blocks(queries, gallery, metric, CHUNK, largest_norm)))


def norm_of_all(*features: Tensor) -> float:
    """Return the largest norm of a row of any (N, D), for the grid of Euclidean distances."""
    norms = [x.to(torch.float64).norm(dim=1).clamp_min_(1e-12) for x in features]
    return max(torch.cat(norms).tolist(), default=1.0)


def on_cosine_grid(features: Tensor) -> Tensor:
    """Normalize features (N, D) and round them to the grid of the cosine, in float64.

    The cosine distance of two such features is 1 minus their product, in float32.
    """
    features = features.to(torch.float64, copy=True)
    features /= features.norm(dim=1, keepdim=True).clamp_min_(1e-12)
    return _round_to_grid(features, largest_norm=1.0)


def distance_blocks(
    queries: Tensor,
    gallery: Tensor,
    metric: str,
    chunk: int,
    largest_norm: float | None = None,
) -> Iterator[Tensor]:
    """Yield the rows of ``distances`` as (C, G) blocks."""
    check_value("TEST.METRIC", metric)
    if metric == "cosine":
        queries, gallery = on_cosine_grid(queries), on_cosine_grid(gallery)
    else:
        queries, gallery = (x.to(torch.float64, copy=True) for x in (queries, gallery))
        largest = norm_of_all(queries, gallery) if largest_norm is None else largest_norm
        queries, gallery = (_round_to_grid(x, largest) for x in (queries, gallery))
    for rows in queries.split(chunk):
        products = rows @ gallery.T
        if metric == "cosine":
            yield (1 - products).float()
        else:
            squares = rows.square().sum(dim=1, keepdim=True) + gallery.square().sum(dim=1)
            yield (squares - 2 * products).float()


def _round_to_grid(features: Tensor, largest_norm: float) -> Tensor:
    """Round float64 features in place to the grid that fits the largest norm."""
    step = 2.0 ** (math.frexp(largest_norm)[1] - GRID_BITS)
    return features.div_(step).round_().mul_(step)


def all_tie(queries: Tensor, gallery: Tensor, metric: str) -> bool:
    """Tell whether every query is as far from each gallery item as from any other.

    Differences of rounding do not count. If all tie, a ranking is the order of the gallery. A
    single item ties with none.

    Args:
        queries: (Q, D), finite.
        gallery: (G, D), finite.
        metric: "cosine" or "euclidean".
    """
    if len(gallery) < 2 or not len(queries):
        return False
    # A few pairs nearly always show that not all tie; the others are computed only if these do.
    few = distance_blocks(queries[:8], gallery[:64], metric, CHUNK)
    everything = distance_blocks(queries, gallery, metric, CHUNK)
    return all(
        bool((block.amax(dim=1) - block.amin(dim=1) <= TIE * block.abs().amax(dim=1)).all())
        for block in chain(few, everything)
    )
