"""What a check says, and what all of them together say."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

PASS, WARN, FAIL, SKIPPED = "PASS", "WARN", "FAIL", "SKIPPED"

ESTABLISHED = "no check failed: the robust figures hold for the threat model below"
NOT_ESTABLISHED = "robustness not established"


@dataclass(frozen=True)
class Verdict:
    """The answer of a check.

    Attributes:
        state: PASS; WARN, a person should look; FAIL, the robust figures mean nothing; SKIPPED.
        sentence: what was seen, or why the check was skipped.
        figure: the number that decided; None if skipped.
        unit: of the figure, such as "points" of Rank-1.
    """

    state: str
    sentence: str
    figure: float | None = None
    unit: str = ""

    def __post_init__(self) -> None:
        assert self.state in (PASS, WARN, FAIL, SKIPPED), self.state
        assert (self.figure is None) == (self.state == SKIPPED), self
        assert self.figure is None or not math.isnan(self.figure), self.sentence


def at_most(figure: float, passes: float, warns: float, unit: str, sentence: str) -> Verdict:
    """PASS up to ``passes``, WARN up to ``warns``, FAIL above.

    >>> at_most(3.0, 1, 5, "points", "...").state
    'WARN'
    """
    state = PASS if figure <= passes else WARN if figure <= warns else FAIL
    return Verdict(state, sentence, float(figure), unit)


def at_least(figure: float, passes: float, warns: float, unit: str, sentence: str) -> Verdict:
    """PASS from ``passes`` on, WARN from ``warns`` on, FAIL below."""
    state = PASS if figure >= passes else WARN if figure >= warns else FAIL
    return Verdict(state, sentence, float(figure), unit)


def skipped(why: str) -> Verdict:
    """SKIPPED, with its reason."""
    return Verdict(SKIPPED, why)


def stamp(states: Iterable[str]) -> str:
    """The report's headline: one FAIL is enough to say "robustness not established"."""
    return NOT_ESTABLISHED if FAIL in states else ESTABLISHED
