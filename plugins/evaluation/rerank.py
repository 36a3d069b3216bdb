"""Re-rank by k-reciprocal neighbors, on the CPU.

Zhong et al., "Re-ranking Person Re-identification with k-reciprocal Encoding", CVPR 2017.

Legend: Q queries, G gallery items, N = Q + G items, D feature length.

Every query and every gallery item takes part in every distance, so a re-ranked score supposes that
all queries are known at once: it complements the plain score and does not replace it.

The counts are those of fastreid's TEST.RERANK, so that its users get the same numbers: an item is
the first neighbor of itself and counts as one of the k1, and a list of half length has
round(k1 / 2) + 1 items. Neighbors come from exact distances, ties in the order of the items. Where
fastreid keeps N x N matrices, this module keeps sparse rows of some dozens of numbers. Distances
between two blocks of items are computed once for both.
"""

from collections.abc import Sequence

import numpy as np
import torch
from scipy import sparse
from torch import Tensor

from plugins.config import check_value
from plugins.evaluation.distance import Grid
from plugins.evaluation.ranks import NO_ITEM, key_bits

# Bytes of a block of items in float64.
BLOCK_BYTES = 8 << 20


def rerank(
    query_features: Tensor,
    gallery_features: Tensor,
    *,
    k1: int,
    k2: int,
    lambda_value: float,
    metric: str = "cosine",
) -> Tensor:
    """Compute distances that also depend on whether two items have the same neighbors.

    Args:
        query_features: (Q, D), finite.
        gallery_features: (G, D), finite.
        k1: number of neighbors of an item, itself included.
        k2: number of nearest neighbors over which an item's vector is averaged; 1 averages nothing.
        lambda_value: weight of the plain distance, 0 to 1; the Jaccard distance has the rest.
        metric: "cosine" or "euclidean".

    Returns:
        (Q, G) float32, (1 - lambda) * Jaccard distance + lambda * plain distance (Eq. 12).

    Raises:
        InputError: a parameter is out of its range.
    """
    check_parameters(k1, k2, lambda_value)
    sides = query_features, gallery_features
    neighbors, result = search(sides, k1, metric)
    vectors = encode(sides, neighbors, k1, metric)
    if k2 > 1:
        nearest = neighbors[:, :k2]
        vectors = indicator(nearest) @ vectors / nearest.shape[1]
    return mix_jaccard(result, vectors, lambda_value)


def check_parameters(k1: int, k2: int, lambda_value: float) -> None:
    """Raise InputError, naming its key, if a parameter is out of its range."""
    for key, value in (("K1", k1), ("K2", k2), ("LAMBDA", lambda_value)):
        check_value(f"TEST.RERANK.{key}", value)


def search(sides: tuple[Tensor, Tensor], number: int, metric: str) -> tuple[np.ndarray, Tensor]:
    """Find the nearest items of each item, itself first, ties in the order of the items.

    Args:
        sides: (Q, D) and (G, D).
        number: number of neighbors, the item itself included.
        metric: "cosine" or "euclidean".

    Returns:
        (N, min(number, N)) int64, and the (Q, G) float32 distances.
    """
    grid = Grid(metric, *sides)
    num_queries, num_items = len(sides[0]), len(sides[0]) + len(sides[1])
    plain = torch.empty(num_queries, len(sides[1]))
    nearest = torch.full((num_items, min(number, num_items)), NO_ITEM)
    blocks = item_blocks(sides)
    for place, (start, features) in enumerate(blocks):
        rows = grid.rows(features, slice(None))
        for other_start, others in blocks[place:]:
            same = other_start == start
            near = grid.distances(rows, rows if same else grid.rows(others, slice(None)))
            if start < num_queries <= other_start:
                column = other_start - num_queries
                plain[start : start + len(near), column : column + near.shape[1]] = near
            if same:
                near.fill_diagonal_(-torch.inf)  # less than any distance, even to an equal feature
            else:
                keep_nearest(nearest[other_start : other_start + len(others)], near.T, start)
            keep_nearest(nearest[start : start + len(near)], near, other_start)
    return (nearest & 0xFFFFFFFF).numpy(), plain


def item_blocks(sides: Sequence[Tensor]) -> list[tuple[int, Tensor]]:
    """Split the items of both sides into blocks, each with the number of its first item."""
    blocks, start = [], 0
    for features in sides:
        rows = max(1, BLOCK_BYTES // (8 * max(1, features.shape[1])))
        for block in features.split(rows) if len(features) else ():
            blocks.append((start, block))
            start += len(block)
    return blocks


def keep_nearest(nearest: Tensor, near: Tensor, start: int) -> None:
    """Let the items of a block into the lists of others where they are nearer.

    Args:
        nearest: (C, k) keys, changed in place.
        near: (C, T) float32 distances.
        start: number of the first of the T items.
    """
    columns = torch.arange(start, start + near.shape[1])
    keys = key_bits(near.contiguous(), columns)
    keys = keys.topk(min(nearest.shape[1], keys.shape[1]), dim=1, largest=False).values
    both = torch.cat((nearest, keys), dim=1)
    nearest.copy_(both.topk(nearest.shape[1], dim=1, largest=False).values)


def encode(
    sides: tuple[Tensor, Tensor], neighbors: np.ndarray, k1: int, metric: str
) -> sparse.csr_array:
    """Encode each item as a vector over the items: its neighbors, if they are mutual.

    Args:
        sides: (Q, D) and (G, D).
        neighbors: (N, k1) or fewer, from ``search``.
        k1: as for ``rerank``.
        metric: likewise.

    Returns:
        (N, N) V (Eq. 7), its rows scaled to sum 1.
    """
    mutual = reciprocal(neighbors)
    mutual_half = reciprocal(neighbors[:, : round(k1 / 2) + 1])
    # The half list of a neighbor joins if more than 2/3 of it is here already (Eq. 4 says at least
    # 2/3, its authors' code and fastreid say more).
    shared = mutual.multiply(mutual @ mutual_half.T).tocsr()
    sizes = np.diff(mutual_half.indptr)
    shared.data = (3 * shared.data > 2 * sizes[shared.indices]).astype(shared.dtype)
    shared.eliminate_zeros()
    expanded = (mutual + shared @ mutual_half).tocsr()

    rows = np.repeat(np.arange(len(neighbors)), np.diff(expanded.indptr))
    # An item is 0 away from itself, so no row of weights is lost to underflow.
    weights = np.exp(-squared_distances(sides, expanded, metric))
    weights /= np.bincount(rows, weights)[rows]
    return sparse.csr_array((weights, expanded.indices, expanded.indptr), shape=expanded.shape)


def indicator(neighbors: np.ndarray) -> sparse.csr_array:
    """Make (N, N) with a 1 for each neighbor of a row, from the neighbors' (N, k) columns."""
    number, width = neighbors.shape
    ends = np.arange(0, number * width + 1, width)
    ones = np.ones(number * width, dtype=np.int32)
    return sparse.csr_array((ones, neighbors.ravel(), ends), shape=(number, number))


def reciprocal(neighbors: np.ndarray) -> sparse.csr_array:
    """Make (N, N) with a 1 where two items are neighbors of each other (Eq. 3)."""
    forward = indicator(neighbors)
    return forward.multiply(forward.T).tocsr()


def squared_distances(
    sides: tuple[Tensor, Tensor], pairs: sparse.csr_array, metric: str
) -> np.ndarray:
    """Compute the squared Euclidean distances of pairs of items, of length 1 with "cosine".

    Args:
        sides: (Q, D) and (G, D).
        pairs: (N, N), with P entries.
        metric: "cosine" or "euclidean".

    Returns:
        (P,) float64, in the order of the entries.
    """
    lengths = [torch.ones(0, dtype=torch.float64)]
    if metric == "cosine":
        lengths += [block.double().norm(dim=1) for _, block in item_blocks(sides)]
    norms = torch.cat(lengths).clamp_min_(1e-12)[:, None].numpy()
    queries, gallery = (side.numpy() for side in sides)
    shift = len(queries)

    def unit(items: np.ndarray, side: np.ndarray, shift: int) -> np.ndarray:
        features = side.take(items - shift, axis=0).astype(np.float64, copy=False)
        return np.divide(features, norms[items], out=features) if len(norms) else features

    result = np.empty(len(pairs.indices))
    for row, (start, end) in enumerate(zip(pairs.indptr[:-1], pairs.indptr[1:], strict=True)):
        items, values = pairs.indices[start:end], result[start:end]
        own = unit(np.array([row]), *((queries, 0) if row < shift else (gallery, shift)))
        first = items < shift
        for chosen, side, begin in ((first, queries, 0), (~first, gallery, shift)):
            near = unit(items[chosen], side, begin)
            near -= own
            values[chosen] = np.square(near, out=near).sum(axis=1)
    return result


def mix_jaccard(plain: Tensor, vectors: sparse.csr_array, lambda_value: float) -> Tensor:
    """Mix 1 - sum of minima / sum of maxima (Eq. 10) with the plain distances.

    Args:
        plain: (Q, G) float32, changed in place.
        vectors: (N, N), rows of sum 1, the queries first.
        lambda_value: weight of the plain distance.

    Returns:
        ``plain``, which now holds the result.
    """
    gallery = vectors[len(plain) :].tocsc()
    for query, row in enumerate(plain):
        start, end = vectors.indptr[query : query + 2]
        minima = np.zeros(gallery.shape[0])
        for column, value in zip(vectors.indices[start:end], vectors.data[start:end], strict=True):
            entries = slice(*gallery.indptr[column : column + 2])
            minima[gallery.indices[entries]] += np.minimum(gallery.data[entries], value)
        # Both rows have sum 1, so the maxima are what the minima leave of 2.
        jaccard = torch.from_numpy(1 - minima / (2 - minima)).float().clamp_(min=0)
        row.copy_(jaccard.lerp_(row, lambda_value))
    return plain
