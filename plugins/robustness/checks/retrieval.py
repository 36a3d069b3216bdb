"""Group D: does the model retrieve at all, and for whom does its robust accuracy hold?"""

import torch

from plugins.attacks.objectives import rank_margin
from plugins.evaluation.distance import CHUNK
from plugins.robustness.checks.check import check
from plugins.robustness.checks.verdict import FAIL, PASS, WARN, Verdict, at_least, at_most, skipped
from plugins.robustness.runner import AttackRunner
from plugins.robustness.statistics import (
    bootstrap_interval,
    chance_of_rank_1,
    effective_rank,
    mean_pairwise_cosine,
    share_by,
    wilson_interval,
)

# Directions in which the features differ: a line distinguishes no people.
DIVERSE, COLLAPSED = 5.0, 2.0
# Mean cosine above which all features are practically one point.
ONE_POINT = 0.999
# Share of queries whose Rank-1 is right by the gallery's order alone.
TIES, MANY_TIES = 0.0, 0.01
# Points of clean Rank-1 above chance: without any there is nothing to defend.
USEFUL, USELESS = 10.0, 1.0
# Width of the 95 % interval in points, and gap between cameras, beyond which to look closer.
WIDE, UNEVEN = 10.0, 20.0
# Queries of a camera below which its Rank-1 says little.
ENOUGH = 10


@check("feature_collapse", "D", "Do features differ in many directions?")
def feature_collapse(runner: AttackRunner) -> Verdict:
    """Compute effective rank and mean pairwise cosine of the clean gallery."""
    gallery = runner.guides.compared_gallery
    rank, cosine = effective_rank(gallery), mean_pairwise_cosine(gallery)
    explanation = (
        f"Effective rank of the gallery's features: {rank:.1f} directions; mean pairwise cosine "
        f"{cosine:.4f}."
    )
    if cosine > ONE_POINT:
        return Verdict(FAIL, f"{explanation} The embedding has collapsed.", rank, "directions")
    return at_least(rank, DIVERSE, COLLAPSED, "directions", explanation)


@check("ties", "D", "Are right answers right without ties?")
def ties(runner: AttackRunner) -> Verdict:
    """Count right answers in which equal distances keep the gallery's order; ties are misses."""
    hits = runner.clean_scores.hit
    share = float((hits & ~strictly_right(runner)).sum()) / max(int(hits.sum()), 1)
    explanation = f"Right answers that rest on a tie between two people: {100 * share:.1f} %."
    return at_most(share, TIES, MANY_TIES, "share", explanation)


@check("clean_accuracy", "D", "Is there clean accuracy to defend?")
def clean_accuracy(runner: AttackRunner) -> Verdict:
    """Compare clean Rank-1, ties being misses, with chance."""
    clean = 100 * float(strictly_right(runner).double().mean())
    chance = 100 * chance_of_rank_1(runner.guides.positives, runner.guides.valid)
    explanation = (
        f"Clean Rank-1 minus chance, ties being misses: {clean:.1f} % - {chance:.1f} % = "
        f"{clean - chance:.1f} points."
    )
    return at_least(clean - chance, USEFUL, USELESS, "points", explanation)


@check("enough_people", "D", "Are there enough people?")
def enough_people(runner: AttackRunner) -> Verdict:
    """Compute the 95 % interval of the worst case over people.

    The wider of two intervals counts, bootstrap and Wilson, as the bootstrap interval of one person
    or of people who are all alike has no width.
    """
    hits, pids = runner.worst_scores().hit.double(), runner.guides.pids.cpu()
    shares = [share for share, _ in share_by(pids, hits).values()]
    deviation = 100 * float(torch.tensor(shares).std(correction=0))
    intervals = (
        bootstrap_interval(hits, pids, runner.cfg.ATTACK.SEED),
        wilson_interval(float(hits.mean()), len(shares)),
    )
    width = 100 * max(high - low for low, high in intervals)
    explanation = (
        f"The 95 % interval of Rank-1 is {width:.1f} points wide ({len(shares)} people; per-person "
        f"std {deviation:.1f})."
    )
    return Verdict(PASS if width <= WIDE else WARN, explanation, width, "points")


@check("cameras", "D", "Are the cameras about equally robust?")
def cameras(runner: AttackRunner) -> Verdict:
    """Compare the query cameras with the highest and the lowest worst case."""
    shares = {
        camera: share
        for camera, (share, number) in share_by(runner.camids, runner.worst_scores().hit).items()
        if number >= ENOUGH
    }
    if len(shares) < 2:
        return skipped(f"Fewer than two cameras have {ENOUGH} queries.")
    low = min(shares, key=lambda camera: shares[camera])
    high = max(shares, key=lambda camera: shares[camera])
    gap = 100 * (shares[high] - shares[low])
    explanation = (
        f"Worst-case Rank-1 differs by {gap:.1f} points between cameras {runner.camera_name(low)} "
        f"and {runner.camera_name(high)}."
    )
    return Verdict(PASS if gap <= UNEVEN else WARN, explanation, gap, "points")


def strictly_right(runner: AttackRunner) -> torch.Tensor:
    """Return (Q,) bool: the nearest positive is nearer than the nearest negative, not as near."""
    parts = []
    for rows in runner.rows.split(CHUNK):
        guides = runner.task.guides(rows)
        parts.append(rank_margin(guides.clean, guides).cpu() < 0)
    return torch.cat(parts)
