"""Distances between features, the same to the last bit however they are computed.

Legend: Q queries, C queries of one chunk, G gallery items, D feature length.

A matrix product rounds differently with another chunk size, thread count or BLAS, so that two equal
gallery features may get different distances and a ranking may change from run to run. Here features
are first rounded to a grid on which float64 sums of products are exact: then the order of summation
does not matter, a distance depends on its two features alone, and equal features tie.
"""

import math
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from plugins.errors import InputError

METRICS = ("cosine", "euclidean")

# Queries per block of rows.
CHUNK = 128

# The grid is 2^-25 of the largest norm (up to its power of two). A product then has at most 50 bits
# and, by Cauchy-Schwarz, so has every partial sum: float64's 53 hold each without rounding. A cosine
# moves by some 1e-8, less than one float32 step.
GRID_BITS = 25


def distances(queries: Tensor, gallery: Tensor, metric: str) -> Tensor:
    """Distance of each query to each gallery item.

    Args:
        queries: (Q, D), finite.
        gallery: (G, D), finite.
        metric: "cosine" for 1 - cos, or "euclidean" for the *squared* Euclidean distance: the two of
            fastreid's ``build_dist``.

    Returns:
        (Q, G) float32.
    """
    return torch.cat(list(distance_blocks(queries, gallery, metric, CHUNK)))


def distance_blocks(queries: Tensor, gallery: Tensor, metric: str, chunk: int) -> Iterator[Tensor]:
    """Yield the rows of ``distances`` as (C, G) blocks."""
    if metric not in METRICS:
        raise InputError(f"TEST.METRIC: no metric '{metric}'; known: {', '.join(METRICS)}")
    queries, gallery = queries.double(), gallery.double()
    if metric == "cosine":
        queries, gallery = F.normalize(queries, dim=1), F.normalize(gallery, dim=1)
        largest_norm = 1.0
    else:
        norms = torch.cat([queries.norm(dim=1), gallery.norm(dim=1)])
        largest_norm = max(norms.tolist(), default=0.0)
    step = 2.0 ** (math.frexp(largest_norm)[1] - GRID_BITS)
    queries, gallery = ((x / step).round_().mul_(step) for x in (queries, gallery))
    gallery_squares = gallery.square().sum(dim=1)
    for rows in queries.split(chunk):
        products = rows @ gallery.T
        if metric == "cosine":
            yield (1 - products).float()
        else:
            squares = rows.square().sum(dim=1, keepdim=True) + gallery_squares
            yield (squares - 2 * products).float()
