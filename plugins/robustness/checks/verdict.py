"""The verdict of one check."""

import math
from dataclasses import dataclass

PASS, WARN, FAIL, SKIPPED, ERROR = "PASS", "WARN", "FAIL", "SKIPPED", "ERROR"


@dataclass(frozen=True)
class Verdict:
    """The answer of a check.

    Attributes:
        state: PASS; WARN, a person should look; FAIL, the robust accuracy means nothing; SKIPPED;
            ERROR, the check itself is faulty and says nothing about the numbers.
        explanation: one sentence with the value in it, true in every state; or why the check was
            skipped, or what is wrong with it.
        value: the number that decided; None if skipped or faulty.
        unit: unit of the value, such as "points" of Rank-1.
    """

    state: str
    explanation: str
    value: float | None = None
    unit: str = ""

    def __post_init__(self) -> None:
        assert self.state in (PASS, WARN, FAIL, SKIPPED, ERROR), self.state
        assert (self.value is None) == (self.state in (SKIPPED, ERROR)), self
        assert self.value is None or not math.isnan(self.value), self.explanation


def at_most(value: float, passes: float, warns: float, unit: str, explanation: str) -> Verdict:
    """Return PASS up to ``passes``, WARN up to ``warns``, FAIL above.

    >>> at_most(3.0, 1, 5, "points", "Rank-1 differs by 3 points.").state
    'WARN'
    """
    state = PASS if value <= passes else WARN if value <= warns else FAIL
    return Verdict(state, explanation, float(value), unit)


def at_least(value: float, passes: float, warns: float, unit: str, explanation: str) -> Verdict:
    """Return PASS from ``passes`` on, WARN from ``warns`` on, FAIL below."""
    state = PASS if value >= passes else WARN if value >= warns else FAIL
    return Verdict(state, explanation, float(value), unit)


def skipped(why: str) -> Verdict:
    """Return SKIPPED, with its reason."""
    return Verdict(SKIPPED, why)


def faulty(why: str) -> Verdict:
    """Return ERROR, with the fault of the check."""
    return Verdict(ERROR, why)
