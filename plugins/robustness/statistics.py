"""Statistics of a report besides Rank-1 and mAP: pure functions, tensors in, tensors out.

Legend: Q queries, C clusters of them, N features of length D.
"""

import itertools
from statistics import NormalDist

import torch
import torch.nn.functional as F
from torch import Tensor

from plugins.utils.resampling import CONFIDENCE, percentiles, resampled_counts


def bootstrap_interval(values: Tensor, clusters: Tensor, seed: int = 0) -> tuple[float, float]:
    """Compute the percentile bootstrap interval of a mean; whole clusters are resampled.

    Queries of one person are alike, so an interval over queries alone is too narrow; an interval
    over people predicts the mean of other people. Efron and Tibshirani, 1993, section 13.3.

    Args:
        values: (Q,) one per query.
        clusters: (Q,) the person of each, or a number of its own to draw queries.
        seed: seed of the resampling.

    Returns:
        The 95 % interval; for one cluster its mean twice; without values NaN twice.
    """
    if not len(values):
        return float("nan"), float("nan")
    _, member = clusters.unique(return_inverse=True)
    sums = torch.zeros(int(member.max()) + 1, dtype=torch.float64)
    sums = sums.index_add(0, member, values.double())
    counts = resampled_counts(len(sums), seed)
    means = (counts @ sums) / (counts @ member.bincount().double())
    return percentiles(means)


def wilson_interval(share: float, number: int) -> tuple[float, float]:
    """Compute Wilson's 95 % score interval of a share of ``number`` people, 1 or more.

    Unlike a bootstrap it stays wide where few people are all alike. Wilson, JASA 1927.

    >>> [round(bound, 2) for bound in wilson_interval(0.0, 4)]
    [0.0, 0.49]
    """
    z = NormalDist().inv_cdf((1 + CONFIDENCE) / 2)
    center = (share + z**2 / (2 * number)) / (1 + z**2 / number)
    variance = share * (1 - share) / number + z**2 / (4 * number**2)
    half = z * variance**0.5 / (1 + z**2 / number)
    return max(center - half, 0.0), min(center + half, 1.0)


def interval_of_mean(values: Tensor, clusters: Tensor, seed: int = 0) -> tuple[float, float]:
    """Compute the 95 % interval of a mean of values in [0, 1], never of width 0.

    It is the bootstrap interval over clusters. Where all clusters are alike, that has no width and
    says nothing; then it is Wilson's interval of as many clusters, which is wide for few.

    Args:
        values: (Q,), one or more, in [0, 1].
        clusters: (Q,), see ``bootstrap_interval``.
        seed: seed of the resampling.
    """
    low, high = bootstrap_interval(values, clusters, seed)
    if low < high:
        return low, high
    return wilson_interval(float(values.double().mean()), len(clusters.unique()))


def mean_pairwise_cosine(features: Tensor) -> float:
    """Compute the mean cosine over all pairs of different rows of (N, D); 1 for equal rows."""
    units = F.normalize(features.double(), dim=1)
    number = len(units)
    total = units.sum(dim=0).square().sum() - units.square().sum()
    return float(total / max(number * (number - 1), 1))


def effective_rank(features: Tensor) -> float:
    """Compute the exponential of the entropy of the centered features' singular values.

    This is the number of directions in which the features (N, D) differ: 0 where they do not, at
    most min(N - 1, D). Roy and Vetterli, "The effective rank", EUSIPCO 2007.
    """
    features = features.double()
    centered = features - features.mean(dim=0)
    scale = features.norm()
    # The rounding of a constant in float32 is no direction.
    if centered.norm() <= 1e-6 * scale:
        return 0.0
    values = torch.linalg.svdvals(centered)
    shares = values / values.sum()
    return float(torch.special.entr(shares).sum().exp())


def chance_of_rank_1(positives: Tensor, valid: Tensor) -> float:
    """Compute Rank-1 of a random list: the mean share of positives among visible items, 0 to 1.

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
    """Compute the mean height of a curve (eps, value), eps ascending, by the trapezoid rule.

    >>> area_under([(0, 1.0), (2, 0.5), (4, 0.0)])
    0.5
    """
    steps = itertools.pairwise(points)
    total = sum((right[0] - left[0]) * (left[1] + right[1]) / 2 for left, right in steps)
    return total / (points[-1][0] - points[0][0])


def share_by(groups: Tensor, hits: Tensor) -> dict[int, tuple[float, int]]:
    """Compute mean of ``hits`` (Q,) and number of queries for each of ``groups`` (Q,)."""
    return {
        int(group): (float(hits[groups == group].double().mean()), int((groups == group).sum()))
        for group in groups.unique()
    }
