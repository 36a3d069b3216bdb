"""Objectives on the ranked list itself: Rank-1, average precision, ranks of chosen items.

Legend: R attacked rows, G gallery items, D feature length, N (row, item) pairs, X other items; d
the evaluator's distance, which is 1 - cos or squared Euclidean.

Each takes features (R, D) and Guides and returns (R,) to maximize, with finite gradients.
"""

import torch
from torch import Tensor

from plugins.attacks.guides import Guides
from plugins.attacks.objectives.distance import (
    nearest_item,
    ranked_distances,
    smooth_distances,
    where_valid,
)
from plugins.evaluation.ranks import positive_ranks

# Value of a tie that the gallery's order decides against the positive: the smallest positive
# float32 that no hardware rounds to 0.
LOST_TIE = torch.finfo(torch.float32).tiny


def rank_margin(features: Tensor, guides: Guides) -> Tensor:
    """Subtract the nearest negative's d from the nearest positive's d: above 0 iff Rank-1 fails.

    Distances and ties are the evaluator's (see ``ranked_distances``). The evaluator does not count
    a row without a positive, and a row without a negative cannot fail: both get 0 that still
    carries a graph.
    """
    distances = ranked_distances(features, guides)
    positive, has_positive = nearest_item(distances, guides.positives)
    negative, has_negative = nearest_item(distances, guides.negatives)
    gaps = _take(distances, positive) - _take(distances, negative)
    lost = (gaps == 0) & (negative < positive)
    return where_valid(gaps + LOST_TIE * lost, has_positive & has_negative)


def soft_ap(features: Tensor, guides: Guides, temperature: float = 0.1) -> Tensor:
    """Compute minus a smooth average precision; 0 without a positive or without a negative.

    "Item j comes before item i" becomes sigmoid((d_i - d_j) / t), as in Smooth-AP (Brown et al.,
    ECCV 2020). Towards temperature 0 this is minus the AP of a list without ties.

    Args:
        features: (R, D).
        guides: of these rows.
        temperature: t in standard deviations of the row's clean distances, so that it means the
            same for both metrics.
    """
    distances = smooth_distances(features, guides)
    width = temperature * guides.once(_std_of_clean_distances)
    rows, columns = guides.positives.nonzero(as_tuple=True)
    ahead = distances[rows, columns][:, None] - distances[rows]  # (N, G), above 0 for items before
    before = (ahead / width[rows, None]).sigmoid() * guides.valid[rows]
    # An item is not before itself, where the sigmoid is 1/2, and its rank is one more.
    ranks = before.sum(dim=1) + 0.5
    hits = (before * guides.positives[rows]).sum(dim=1) + 0.5
    count = guides.positives.sum(dim=1)
    values = _sum_by_row(hits / ranks, rows, distances) / count.clamp_min(1)
    return where_valid(-values, (count > 0) & guides.negatives.any(dim=1))


def query_attack(features: Tensor, guides: Guides, *, promote: bool) -> Tensor:
    """Score how far the attacked query ranks its chosen items first (QA+) or last (QA-).

    The value is minus the sum over chosen c and visible x of max(0, d(f, c) - d(f, x)), for QA-
    with the sign of the gap turned. Its maximum is 0, also where nothing is chosen; the 0 carries a
    graph. Zhou et al., "Adversarial Ranking Attack and Defense", ECCV 2020.

    Args:
        features: (R, D).
        guides: of these rows; ``chosen`` holds the items.
        promote: QA+, or else QA-.
    """
    assert guides.chosen is not None, "an order attack needs its chosen items"
    distances = smooth_distances(features, guides)
    rows, columns = guides.chosen.nonzero(as_tuple=True)
    gaps = distances[rows, columns][:, None] - distances[rows]
    return _order(gaps * guides.valid[rows], rows, distances, promote)


def candidate_attack(features: Tensor, guides: Guides, *, others: Tensor, promote: bool) -> Tensor:
    """Score how far the attacked gallery item ranks first (CA+) or last (CA-) for its queries.

    The value is minus the sum over chosen queries q and other items x of max(0, d(q, f) - d(q, x)),
    for CA- with the sign of the gap turned. Its maximum is 0. Zhou et al., ECCV 2020.

    Args:
        features: (R, D) of the attacked gallery items.
        guides: of these items; ``gallery`` holds the queries and ``chosen`` those to mislead.
        others: (G, X) clean distances of each query to the other gallery items, as ranked.
        promote: CA+, or else CA-.
    """
    assert guides.chosen is not None, "an order attack needs its chosen queries"
    distances = smooth_distances(features, guides)
    rows, queries = guides.chosen.nonzero(as_tuple=True)
    return _order(distances[rows, queries][:, None] - others[queries], rows, distances, promote)


def success_at_k(
    distances: Tensor, chosen: Tensor, junk: Tensor, k: int, *, promote: bool
) -> Tensor:
    """Compute the share of a query's chosen items that an attack ranked within k, or beyond.

    Args:
        distances: (R, G) float32 of the attacked features, as ranked; no NaN.
        chosen: (R, G) bool, nowhere true where ``junk`` is.
        junk: (R, G) bool.
        k: length of the list.
        promote: count ranks up to k, or else those beyond.

    Returns:
        (R,) float64; NaN where nothing is chosen.
    """
    ranks = positive_ranks(distances, chosen, junk)
    successful = (ranks > 0) & ((ranks <= k) == promote)
    return successful.sum(dim=1).double() / chosen.sum(dim=1)


def _order(gaps: Tensor, rows: Tensor, distances: Tensor, promote: bool) -> Tensor:
    """Add up, by row, minus the hinges of (N, X) gaps, or of the gaps with the sign turned."""
    return -_sum_by_row((gaps if promote else -gaps).relu().sum(dim=1), rows, distances)


def _take(distances: Tensor, columns: Tensor) -> Tensor:
    return distances.gather(1, columns[:, None])[:, 0]


def _sum_by_row(values: Tensor, rows: Tensor, distances: Tensor) -> Tensor:
    """Sum values (N,) by ``rows`` (N,): (R,); without any, 0 that still carries a graph."""
    return (0 * distances[:, 0]).index_add(0, rows, values)


def _std_of_clean_distances(guides: Guides) -> Tensor:
    """Compute the standard deviation (R,) of the visible clean distances, at least a float step."""
    distances, valid = smooth_distances(guides.clean, guides), guides.valid
    count = valid.sum(dim=1, keepdim=True).clamp_min(1)
    mean = (distances * valid).sum(dim=1, keepdim=True) / count
    variance = ((distances - mean) * valid).square().sum(dim=1) / count[:, 0]
    return variance.sqrt().clamp_min(torch.finfo(distances.dtype).eps)
