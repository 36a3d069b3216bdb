"""Re-rank by k-reciprocal neighbors, on the CPU.

Zhong et al., "Re-ranking Person Re-identification with k-reciprocal Encoding", CVPR 2017.

Legend: Q queries, G gallery items, N = Q + G items, D feature length.

Every query and every gallery item takes part in every distance, so a re-ranked score supposes that
all queries are known at once: it complements the plain score and does not replace it.

The counts are those of fastreid's TEST.RERANK, so that its users get the same numbers: an item is
the first neighbor of itself and counts as one of the k1, and a list of half length has
round(k1 / 2) + 1 items. Neighbors come from exact distances, ties in the order of the items. Where
fastreid keeps N x N matrices, this module keeps sparse rows of some dozens of numbers.
"""

import numpy as np
import torch
import torch.nn.functional as F
from scipy import sparse
from torch import Tensor

from plugins.config import check_value
from plugins.evaluation.distance import CHUNK, distance_blocks, distances
from plugins.evaluation.ranks import sort_keys

# Pairs of items whose features are compared together.
PAIRS = 8192


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
    features = torch.cat((query_features, gallery_features)).double()
    if metric == "cosine":
        features = F.normalize(features, dim=1)
    neighbors = nearest_neighbors(features, k1, metric)
    vectors = encode(features.numpy(), neighbors, k1)
    if k2 > 1:
        nearest = neighbors[:, :k2]
        vectors = indicator(nearest) @ vectors / nearest.shape[1]
    jaccard = jaccard_distances(vectors, len(query_features))
    plain = distances(query_features, gallery_features, metric)
    return jaccard.lerp_(plain, lambda_value)


def check_parameters(k1: int, k2: int, lambda_value: float) -> None:
    """Raise InputError, naming its key, if a parameter is out of its range."""
    for key, value in (("K1", k1), ("K2", k2), ("LAMBDA", lambda_value)):
        check_value(f"TEST.RERANK.{key}", value)


def nearest_neighbors(features: Tensor, number: int, metric: str) -> np.ndarray:
    """Find the nearest items of each item, itself first, ties in the order of the items.

    Args:
        features: (N, D) float64.
        number: number of neighbors, the item itself included.
        metric: "cosine" or "euclidean".

    Returns:
        (N, min(number, N)) int64.
    """
    number = min(number, len(features))
    columns = []
    for index, block in enumerate(distance_blocks(features, features, metric, CHUNK)):
        # Less than any distance, even to an equal feature. A block begins on the diagonal.
        block[:, index * CHUNK :].fill_diagonal_(-torch.inf)
        keys = sort_keys(block).topk(number, dim=1, largest=False).values
        columns.append(keys & 0xFFFFFFFF)
    return torch.cat(columns).numpy()


def encode(features: np.ndarray, neighbors: np.ndarray, k1: int) -> sparse.csr_array:
    """Encode each item as a vector over the items: its neighbors, if they are mutual.

    Args:
        features: (N, D) float64.
        neighbors: (N, k1) or fewer, from ``nearest_neighbors``.
        k1: as for ``rerank``.

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

    rows = np.repeat(np.arange(len(features)), np.diff(expanded.indptr))
    # An item is 0 away from itself, so no row of weights is lost to underflow.
    weights = np.exp(-squared_distances(features, rows, expanded.indices))
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


def squared_distances(features: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Compute squared Euclidean distances of the pairs (row, column) of (N, D) features."""
    blocks = []
    for start in range(0, len(rows), PAIRS):
        pairs = slice(start, start + PAIRS)
        differences = features[rows[pairs]] - features[columns[pairs]]
        blocks.append(np.square(differences).sum(axis=1))
    return np.concatenate(blocks)


def jaccard_distances(vectors: sparse.csr_array, num_queries: int) -> Tensor:
    """Compute 1 - sum of minima / sum of maxima for the vectors of each query and item (Eq. 10).

    Args:
        vectors: (N, N), rows of sum 1, the queries first.
        num_queries: Q.

    Returns:
        (Q, G) float32.
    """
    gallery = vectors[num_queries:].tocsc()
    result = torch.empty(num_queries, gallery.shape[0])
    for query in range(num_queries):
        start, end = vectors.indptr[query : query + 2]
        minima = np.zeros(gallery.shape[0])
        for column, value in zip(vectors.indices[start:end], vectors.data[start:end], strict=True):
            entries = slice(*gallery.indptr[column : column + 2])
            minima[gallery.indices[entries]] += np.minimum(gallery.data[entries], value)
        # Both rows have sum 1, so the maxima are what the minima leave of 2.
        result[query] = torch.from_numpy(1 - minima / (2 - minima)).clamp_(min=0)
    return result
