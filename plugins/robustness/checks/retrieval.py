"""Group D: is there a search left to attack, and for whom does the figure hold?"""

import torch

from plugins.attacks.objectives import rank_margin
from plugins.evaluation.distance import CHUNK
from plugins.robustness.checks.verdict import FAIL, PASS, WARN, Verdict, at_least, at_most, skipped
from plugins.robustness.lab import Lab
from plugins.robustness.statistics import (
    bootstrap_interval,
    chance_of_rank_1,
    effective_rank,
    mean_pairwise_cosine,
    share_by,
    wilson_interval,
)

# Directions in which the features differ: a line tells no people apart.
SPREAD, COLLAPSED = 5.0, 2.0
# Features closer than that are one point.
ONE_POINT = 0.999
# Share of queries whose Rank-1 is right by the gallery's order alone.
TIES, MANY_TIES = 0.0, 0.01
# Points of clean Rank-1 above chance: without any there is nothing to defend.
USEFUL, USELESS = 10.0, 1.0
# Width of the 95 % interval in points, and gap between cameras, beyond which to look closer.
WIDE, UNEVEN = 10.0, 20.0
# Queries of a camera below which its Rank-1 says little.
ENOUGH = 10


def collapse(lab: Lab) -> Verdict:
    """Effective rank and mean pairwise cosine of the clean gallery."""
    gallery = lab.guides.compared_gallery
    rank, cosine = effective_rank(gallery), mean_pairwise_cosine(gallery)
    sentence = f"effective rank of the gallery's features, mean pairwise cosine {cosine:.4f}"
    if cosine > ONE_POINT:
        return Verdict(FAIL, f"{sentence}: the embedding has collapsed", rank, "directions")
    return at_least(rank, SPREAD, COLLAPSED, "directions", sentence)


def ties(lab: Lab) -> Verdict:
    """Queries right only because equal distances keep the gallery's order; those are misses."""
    by_order = lab.clean.hit & ~strictly_right(lab)
    share = float(by_order.sum()) / max(int(lab.clean.hit.sum()), 1)
    sentence = "of the right answers rest on a tie between two people"
    return at_most(share, TIES, MANY_TIES, "share", sentence)


def useful(lab: Lab) -> Verdict:
    """Clean Rank-1 above chance, ties being misses."""
    clean = 100 * float(strictly_right(lab).double().mean())
    chance = 100 * chance_of_rank_1(lab.guides.positives, lab.guides.valid)
    sentence = f"clean Rank-1 with ties as misses, {clean:.1f} %, above chance, {chance:.1f} %"
    return at_least(clean - chance, USEFUL, USELESS, "points", sentence)


def people(lab: Lab) -> Verdict:
    """The 95 % interval of the worst case over people: the wider one of bootstrap and Wilson."""
    hits, pids = lab.worst().hit.double(), lab.guides.pids.cpu()
    shares = [share for share, _ in share_by(pids, hits).values()]
    deviation = 100 * float(torch.tensor(shares).std(correction=0))
    # A bootstrap of people who are all alike, or of one, has no width.
    intervals = (
        bootstrap_interval(hits, pids, lab.cfg.ATTACK.SEED),
        wilson_interval(float(hits.mean()), len(shares)),
    )
    width = 100 * max(high - low for low, high in intervals)
    state = PASS if width <= WIDE else WARN
    sentence = (
        f"wide is the 95 % interval of Rank-1 over {len(shares)} people, whose own figures have a "
        f"standard deviation of {deviation:.1f}"
    )
    return Verdict(state, sentence, width, "points")


def cameras(lab: Lab) -> Verdict:
    """The gap between the query cameras with the highest and the lowest worst case."""
    shares = {
        camera: share
        for camera, (share, number) in share_by(lab.camids, lab.worst().hit).items()
        if number >= ENOUGH
    }
    if len(shares) < 2:
        return skipped(f"fewer than two cameras have {ENOUGH} queries")
    low, high = min(shares, key=shares.get), max(shares, key=shares.get)
    gap = 100 * (shares[high] - shares[low])
    state = PASS if gap <= UNEVEN else WARN
    return Verdict(state, f"worst-case Rank-1 of camera {high} above camera {low}", gap, "points")


def strictly_right(lab: Lab) -> torch.Tensor:
    """(Q,) bool, the nearest positive is nearer than the nearest negative, not as near."""
    parts = []
    for rows in lab.rows.split(CHUNK):
        guides = lab.search.guides(rows)
        parts.append(rank_margin(guides.clean, guides).cpu() < 0)
    return torch.cat(parts)
