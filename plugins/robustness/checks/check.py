"""What a check is, and the list of all checks."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from plugins.errors import InputError
from plugins.registry import check_call
from plugins.robustness.checks.verdict import Verdict
from plugins.robustness.runner import AttackRunner
from plugins.utils.own_code import PARTS, described
from plugins.utils.values import shortened

Answer = TypeVar("Answer", bound=Callable[[AttackRunner], Verdict])

# With fewer queries one query weighs too much for a check to fail.
FEW = 8
GROUPS = {"A": "Harness", "B": "Strength", "C": "No gradient masking", "D": "Retrieval"}


@dataclass(frozen=True)
class Check:
    """A question about a report, and the function that answers it.

    Attributes:
        id: stable identifier in cards, such as "zero_budget".
        group: key of ``GROUPS``.
        question: one sentence; "yes" is good.
        answer: function from the attacks of a report to a verdict.
        queries: fewest queries of the subset that can answer it.
    """

    id: str
    group: str
    question: str
    answer: Callable[[AttackRunner], Verdict]
    queries: int = 1


# In the order in which they were added.
CHECKS: list[Check] = []
PARTS.append(lambda: [each.answer for each in CHECKS])


def check(id: str, group: str, question: str, queries: int = 1) -> Callable[[Answer], Answer]:
    """Add the decorated function to the checks of every report; see ``Check``.

    Raises:
        InputError: there is no such group, another check has the id, ``queries`` is no number, or
            the function takes other arguments than the runner.
    """
    if group not in GROUPS:
        raise InputError(f"check {id}: no group {shortened(group)}; known: {', '.join(GROUPS)}")
    for each in CHECKS:
        if each.id == id:
            other = described(getattr(each.answer, "__name__", id), each.answer)
            raise InputError(f"check {id}: there is one of this id, {other}; expected another id")
    if not isinstance(queries, int) or isinstance(queries, bool) or queries < 1:
        found = shortened(queries)
        raise InputError(f"check {id}: queries={found}; expected a whole number, 1 or more")

    def add(answer: Answer) -> Answer:
        check_call(answer, getattr(answer, "__name__", id), f"check {id}", ("runner",))
        CHECKS.append(Check(id, group, question, answer, queries))
        return answer

    return add


def all_checks() -> list[Check]:
    """List all checks by group; within a group, in the order in which they were added."""
    return sorted(CHECKS, key=lambda each: each.group)
