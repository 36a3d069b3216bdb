"""Levels of a report: how much it attacks."""

from collections.abc import Iterable
from dataclasses import dataclass, replace

# The attack by which Rank-1 is judged; the others are those that papers report.
REFERENCE_ATTACK = "RankMargin"
CORE_ATTACKS = ("SMA", "FNA")
EXTRA_ATTACKS = ("MetricIFGSM", "MetricMIFGSM", "ODFA", "NearestPushPull", "SoftAP")


@dataclass(frozen=True)
class Level:
    """How much a report attacks.

    Attributes:
        queries: number of attacked queries, drawn with ATTACK.SEED; 0 for all.
        subset: number of queries, evenly spaced among those, for checks that vary an attack.
        attacks: attacks besides the reference attack; FNA is one of them.
        steps: gradient steps of the reference attack.
        restarts: random starts of the reference attack.
        more_restarts: larger number of random starts, to see whether they matter.
        eps_multipliers: budgets of the curve, in eps, besides eps itself and one far beyond.
        noise_samples: samples of random noise and of random illumination for each query.
        square_queries: forward passes of the Square attack for each query.
        seeds: seeds, besides ATTACK.SEED, with which the reference attack is repeated.
        hsj_queries: number of queries that HopSkipJump attacks; 0 for none.
    """

    queries: int
    subset: int
    attacks: tuple[str, ...]
    steps: int
    restarts: int
    more_restarts: int
    eps_multipliers: tuple[float, ...]
    noise_samples: int
    square_queries: int
    seeds: int
    hsj_queries: int


LEVELS = {
    "quick": Level(
        queries=200,
        subset=32,
        attacks=CORE_ATTACKS,
        steps=20,
        restarts=1,
        more_restarts=2,
        eps_multipliers=(0.5, 2.0),
        noise_samples=10,
        square_queries=100,
        seeds=2,
        hsj_queries=0,
    ),
    "standard": Level(
        queries=1000,
        subset=100,
        attacks=CORE_ATTACKS + EXTRA_ATTACKS,
        steps=50,
        restarts=1,
        more_restarts=5,
        eps_multipliers=(0.25, 0.5, 2.0, 4.0),
        noise_samples=20,
        square_queries=500,
        seeds=2,
        hsj_queries=0,
    ),
    "full": Level(
        queries=0,
        subset=500,
        attacks=CORE_ATTACKS + EXTRA_ATTACKS,
        steps=100,
        restarts=5,
        more_restarts=10,
        eps_multipliers=(0.125, 0.25, 0.5, 2.0, 4.0),
        noise_samples=50,
        square_queries=2000,
        seeds=4,
        hsj_queries=16,
    ),
}


def level_with(name: str, attacks: Iterable[str]) -> Level:
    """Return a level of ``LEVELS`` whose worst case has further attacks, such as a user's own."""
    level = LEVELS[name]
    known = (*level.attacks, REFERENCE_ATTACK)
    more = [attack for attack in attacks if attack not in known]
    return replace(level, attacks=(*level.attacks, *more))
