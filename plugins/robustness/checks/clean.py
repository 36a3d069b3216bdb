"""Checks that compare Rank-1 under attack need clean queries that are right: else 0 meets 0."""

import functools
from collections.abc import Callable
from typing import Literal

from torch import Tensor

from plugins.robustness.checks.verdict import Verdict, skipped
from plugins.robustness.directions import SearchedDirection
from plugins.robustness.results import rank_1
from plugins.robustness.runner import AttackRunner

Answer = Callable[[AttackRunner], Verdict]


def needs_clean(part: Literal["subset", "rows"]) -> Callable[[Answer], Answer]:
    """Skip the decorated check where no clean query of the part that it attacks is right.

    Args:
        part: attribute of the runner that holds these rows.
    """

    def decorate(answer: Answer) -> Answer:
        @functools.wraps(answer)
        def answer_if_right(runner: AttackRunner) -> Verdict:
            if clean_rank_1(runner.direction, getattr(runner, part)) == 0:
                return nothing_to_lower()
            return answer(runner)

        return answer_if_right

    return decorate


def nothing_to_lower(where: str = "") -> Verdict:
    """Return SKIPPED for a clean Rank-1 of 0, such as "in re-ranked lists"."""
    where = where and f" {where}"
    return skipped(f"Clean Rank-1 is 0 %{where}, so an attack has nothing to lower.")


def clean_rank_1(direction: SearchedDirection, rows: Tensor) -> float:
    """Compute Rank-1 of clean rows (R,), percent."""
    return rank_1(direction.task.score(rows, direction.task.features[rows]))
