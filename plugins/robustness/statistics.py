"""What a report counts beside Rank-1 and mAP: pure functions, tensors in, tensors out.

Legend: Q queries, C clusters of them, N features of length D.
"""

import itertools
from statistics import NormalDist

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

RESAMPLES = 2000
CONFIDENCE = 0.95


def bootstrap_interval(values: Tensor, clusters: Tensor, seed: int = 0) -> tuple[float, float]:
    """Percentile bootstrap interval of a mean, whole clusters being drawn with replacement.

    Queries of one person are alike, so an interval over queries alone is too narrow; drawn by
    person it says what other people would give. Efron and Tibshirani, 1993, section 13.3.

    Args:
        values: (Q,) one per query.
        clusters: (Q,) the person of each, or a number of its own to draw queries.
        seed: of the draws.

    Returns:
        The 95 % interval; of one cluster its mean twice; of no value NaN twice.
    """
    if not len(values):
        return float("nan"), float("nan")
    _, member = clusters.unique(return_inverse=True)
    sums = torch.zeros(int(member.max()) + 1, dtype=torch.float64)
    sums = sums.index_add(0, member, values.double())
    counts = resampled_counts(len(sums), seed)
    means = (counts @ sums) / (counts @ member.bincount().double())
    tail = (1 - CONFIDENCE) / 2
    low, high = means.quantile(torch.tensor([tail, 1 - tail], dtype=torch.float64)).tolist()
    return low, high


def resampled_counts(number: int, seed: int) -> Tensor:
    """How often each of ``number`` clusters is drawn when as many are drawn with replacement.

    Returns:
        (RESAMPLES, number) float64.
    """
    generator = np.random.default_rng(seed)
    counts = generator.multinomial(number, np.full(number, 1 / number), size=RESAMPLES)
    return torch.from_numpy(counts).double()


def wilson_interval(share: float, number: int) -> tuple[float, float]:
    """Wilson's 95 % score interval of a share of ``number`` people, 1 or more.

    Unlike a bootstrap it stays wide where few people are all alike. Wilson, JASA 1927.

    >>> [round(bound, 2) for bound in wilson_interval(0.0, 4)]
    [0.0, 0.49]
    """
    z = NormalDist().inv_cdf((1 + CONFIDENCE) / 2)
    centre = (share + z**2 / (2 * number)) / (1 + z**2 / number)
    spread = share * (1 - share) / number + z**2 / (4 * number**2)
    half = z * spread**0.5 / (1 + z**2 / number)
    return centre - half, centre + half


def mean_pairwise_cosine(features: Tensor) -> float:
    """Mean cosine over all pairs of different rows of (N, D); 1 for a constant embedding."""
    units = F.normalize(features.double(), dim=1)
    number = len(units)
    total = units.sum(dim=0).square().sum() - units.square().sum()
    return float(total / max(number * (number - 1), 1))


def effective_rank(features: Tensor) -> float:
    """Exponential of the entropy of the singular values of the centred features (N, D).

    The number of directions in which the features differ: 0 where they do not, at most
    min(N - 1, D). Roy and Vetterli, "The effective rank", EUSIPCO 2007.
    """
    features = features.double()
    centred = features - features.mean(dim=0)
    scale = features.norm()
    # What rounding in float32 leaves of a constant is no direction.
    if centred.norm() <= 1e-6 * scale:
        return 0.0
    values = torch.linalg.svdvals(centred)
    shares = values / values.sum()
    return float(torch.special.entr(shares).sum().exp())


def chance_of_rank_1(positives: Tensor, valid: Tensor) -> float:
    """Rank-1 of a random list, a fraction: the mean share of positives in what a query sees.

    Args:
        positives: (Q, G) bool.
        valid: (Q, G) bool, True where the junk rule leaves the item.

    Returns:
        Over the queries that have a positive; NaN if none has.
    """
    counts = positives.sum(dim=1)
    shares = counts.double() / valid.sum(dim=1).clamp_min(1)
    return float(shares[counts > 0].mean())


def area_under(points: list[tuple[float, float]]) -> float:
    """Mean height of the curve through (eps, value), eps ascending, by the trapezoid rule.

    >>> area_under([(0, 1.0), (2, 0.5), (4, 0.0)])
    0.5
    """
    steps = itertools.pairwise(points)
    total = sum((right[0] - left[0]) * (left[1] + right[1]) / 2 for left, right in steps)
    return total / (points[-1][0] - points[0][0])


def share_by(groups: Tensor, hits: Tensor) -> dict[int, tuple[float, int]]:
    """Mean of ``hits`` (Q,) and number of queries for each of ``groups`` (Q,), ascending."""
    return {
        int(group): (float(hits[groups == group].double().mean()), int((groups == group).sum()))
        for group in groups.unique()
    }
