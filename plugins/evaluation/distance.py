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
# Rows that are rounded, and whose norms are computed, at a time.
GRID_ROWS, NORM_ROWS = 512, 1024
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


class Grid:
    """The grid of one search, on which the distances of a block of rows are exact.

    Attributes:
        metric: "cosine" or "euclidean".
        step: distance of two neighbors on the grid, a power of two.
    """

    def __init__(self, metric: str, *features: Tensor) -> None:
        """Choose the grid that fits all features of the search, each (N, D).

        Raises:
            InputError: there is no such metric.
        """
        check_value("TEST.METRIC", metric)
        self.metric = metric
        largest = 1.0
        if metric == "euclidean":
            parts = (part for each in features for part in each.split(NORM_ROWS))
            largest = max((norm_of_all(part) for part in parts), default=1.0)
        self.step = 2.0 ** (math.frexp(largest)[1] - GRID_BITS)

    def rows(self, features: Tensor, rows: Tensor | slice) -> Tensor:
        """Return rows of (N, D) in float64, as whole multiples of the step.

        Args:
            features: (N, D), of any real type; they may lie on disk.
            rows: (R,) indices, or a slice.

        Returns:
            (R, D) whole numbers.
        """
        if isinstance(rows, slice):
            features, index = features[rows], None
        else:
            index = rows
        number = len(features) if index is None else len(index)
        result = torch.empty(number, features.shape[1], dtype=torch.float64, device=features.device)
        # Large blocks, because threads wait for each other after each of these lines.
        for start in range(0, number, GRID_ROWS):
            block = slice(start, start + GRID_ROWS)
            part = result[block]
            part.copy_(features[block] if index is None else features[index[block]])
            if self.metric == "cosine":
                part /= part.norm(dim=1, keepdim=True).clamp_min_(1e-12).mul_(self.step)
            else:
                part /= self.step
            part.round_()
        return result

    def distances(self, queries: Tensor, gallery: Tensor) -> Tensor:
        """Compute (C, G) float32 distances of whole multiples of the step, (C, D) and (G, D)."""
        products = queries @ gallery.T
        square = self.step**2
        if self.metric == "cosine":
            return products.mul_(-square).add_(1).float()
        squares = queries.square().sum(dim=1, keepdim=True) + gallery.square().sum(dim=1)
        return products.mul_(-2).add_(squares).mul_(square).float()


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
