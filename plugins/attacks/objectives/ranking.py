"""Objectives made of the ranked list itself: of Rank-1, of AP, of the ranks of chosen items.

Legend: R attacked rows, G gallery items, D feature length, N (row, item) pairs, X other items; d
the evaluator's distance, which is 1 - cos or squared Euclidean.

Each takes features (R, D) and Guides and returns (R,) to maximise, with finite gradients.
"""

import torch
from torch import Tensor

from plugins.attacks.guides import Guides
from plugins.attacks.objectives.distance import (
    nearest,
    ranked_distances,
    smooth_distances,
    where_valid,
)
from plugins.evaluation.ranks import positive_ranks

# What a tie counts for which the gallery's order decides against the positive: the smallest
# positive float32 that no hardware rounds to 0.
LOST_TIE = torch.finfo(torch.float32).tiny


def rank_margin(features: Tensor, guides: Guides) -> Tensor:
    """Nearest positive's d minus nearest negative's d: above 0 if and only if Rank-1 fails.

    Distances and ties are the evaluator's (see ``ranked_distances``). A row without a positive does
    not count there and one without a negative cannot fail: both get 0 that still carries a graph.
    """
    distances = ranked_distances(features, guides)
    positive, has_positive = nearest(distances, guides.positives)
    negative, has_negative = nearest(distances, guides.negatives)
    gaps = _take(distances, positive) - _take(distances, negative)
    lost = (gaps == 0) & (negative < positive)
    return where_valid(gaps + LOST_TIE * lost, has_positive & has_negative)


def soft_ap(features: Tensor, guides: Guides, temperature: float = 0.1) -> Tensor:
    """Minus a smooth average precision; 0 without a positive or without a negative.

    "Item j comes before item i" becomes sigmoid((d_i - d_j) / t), as in Smooth-AP (Brown et al.,
    ECCV 2020). Towards temperature 0 this is minus the AP of a list without ties.

    Args:
        features: (R, D).
        guides: of these rows.
        temperature: t in standard deviations of the row's clean distances, so that it means the
            same for both metrics.
    """
    distances = smooth_distances(features, guides)
    width = temperature * _spread(smooth_distances(guides.clean, guides), guides.valid)
    rows, columns = guides.positives.nonzero(as_tuple=True)
    ahead = distances[rows, columns][:, None] - distances[rows]  # (N, G), above 0 for items before
    before = (ahead / width[rows, None]).sigmoid() * guides.valid[rows]
    # An item is not before itself, where the sigmoid says 1/2, and its rank is one more.
    ranks = before.sum(dim=1) + 0.5
    hits = (before * guides.positives[rows]).sum(dim=1) + 0.5
    count = guides.positives.sum(dim=1)
    values = _sum_by_row(hits / ranks, rows, distances) / count.clamp_min(1)
    return where_valid(-values, (count > 0) & guides.negatives.any(dim=1))


def query_attack(features: Tensor, guides: Guides, *, raised: bool) -> Tensor:
    """QA+ and QA-: the attacked query ranks ``guides.chosen`` before, or behind, all it sees.

    Minus the sum over chosen c and visible x of max(0, d(f, c) - d(f, x)), for QA- with the sign of
    the gap turned; 0 is the best and, with a graph, the value where nothing is chosen. Zhou et al.,
    "Adversarial Ranking Attack and Defense", ECCV 2020.
    """
    assert guides.chosen is not None, "an order attack needs its chosen items"
    distances = smooth_distances(features, guides)
    rows, columns = guides.chosen.nonzero(as_tuple=True)
    gaps = distances[rows, columns][:, None] - distances[rows]
    return _order(gaps * guides.valid[rows], rows, distances, raised)


def candidate_attack(features: Tensor, guides: Guides, *, others: Tensor, raised: bool) -> Tensor:
    """CA+ and CA-: the attacked gallery item comes first, or last, for its chosen queries.

    Minus the sum over chosen queries q and other items x of max(0, d(q, f) - d(q, x)), for CA- with
    the sign of the gap turned; 0 is the best. Zhou et al., ECCV 2020.

    Args:
        features: (R, D) of the attacked gallery items.
        guides: whose ``gallery`` holds the queries, and ``chosen`` those that are to be misled.
        others: (G, X) clean distances of each query to the other gallery items, as ranked.
        raised: CA+, or else CA-.
    """
    assert guides.chosen is not None, "an order attack needs its chosen queries"
    distances = smooth_distances(features, guides)
    rows, queries = guides.chosen.nonzero(as_tuple=True)
    return _order(distances[rows, queries][:, None] - others[queries], rows, distances, raised)


def success_at_k(
    distances: Tensor, chosen: Tensor, junk: Tensor, k: int, *, raised: bool
) -> Tensor:
    """Share of a query's chosen items that an order attack brought into the first k, or kept out.

    Args:
        distances: (R, G) float32 of the attacked features, as ranked; no NaN.
        chosen: (R, G) bool, nowhere true where ``junk`` is.
        junk: (R, G) bool.
        k: length of the list.
        raised: count ranks up to k, or else those beyond.

    Returns:
        (R,) float64; NaN where nothing is chosen.
    """
    ranks = positive_ranks(distances, chosen, junk)
    counted = (ranks > 0) & ((ranks <= k) == raised)
    return counted.sum(dim=1).double() / chosen.sum(dim=1)


def _order(gaps: Tensor, rows: Tensor, distances: Tensor, raised: bool) -> Tensor:
    """Minus the hinges of (N, X) gaps, or of the gaps turned, added up by row."""
    return -_sum_by_row((gaps if raised else -gaps).relu().sum(dim=1), rows, distances)


def _take(distances: Tensor, columns: Tensor) -> Tensor:
    return distances.gather(1, columns[:, None])[:, 0]


def _sum_by_row(values: Tensor, rows: Tensor, distances: Tensor) -> Tensor:
    """Sums (R,) of values (N,) by ``rows`` (N,); without any, 0 that still carries a graph."""
    return (0 * distances[:, 0]).index_add(0, rows, values)


def _spread(distances: Tensor, valid: Tensor) -> Tensor:
    """Standard deviation (R,) of (R, G) where ``valid``, at least one float step."""
    count = valid.sum(dim=1, keepdim=True).clamp_min(1)
    mean = (distances * valid).sum(dim=1, keepdim=True) / count
    variance = ((distances - mean) * valid).square().sum(dim=1) / count[:, 0]
    return variance.sqrt().clamp_min(torch.finfo(distances.dtype).eps)
