"""What a report may claim: one status, one headline, and the counts behind them."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from plugins.robustness.checks import ERROR, FAIL, PASS, SKIPPED, WARN

NOT_ROBUST, NOT_ESTABLISHED = "not robust", "not established"
PROVISIONAL, UPPER_BOUND = "provisional", "upper bound"
# A verdict has a color; so has a status.
COLORS = {NOT_ROBUST: FAIL, NOT_ESTABLISHED: FAIL, PROVISIONAL: WARN, UPPER_BOUND: PASS}
# With a larger share of skipped checks a report is provisional.
FEW_SKIPPED = 0.2
VERBS = {PASS: "passed", WARN: "warned", SKIPPED: "skipped", FAIL: "failed", ERROR: "faulty"}


class Status(NamedTuple):
    """State what the numbers of a report are worth.

    Attributes:
        name: a key of ``COLORS``.
        headline: the status and its reason in one or two sentences, with the counts of the checks.
        counts: number of checks that passed, warned, were skipped, failed; and of those that are
            themselves faulty, if there are any.
    """

    name: str
    headline: str
    counts: dict[str, int]


def judge(
    checks: Sequence[Mapping[str, Any]], worst: Mapping[str, Any], chance: float | None
) -> Status:
    """Judge a report by its checks and its worst case.

    A broken harness (group A), or a clean model at chance, leaves nothing to
    say. Otherwise a worst case at chance is not
    robust, whatever else failed, because an attack that succeeds needs no further proof. Without
    a failed check, the worst case is what the field calls empirical robust accuracy: an upper
    bound, because a stronger attack may exist.

    Args:
        checks: entries of a card's checks.
        worst: Rank-1 of the worst case: "value" and "interval_over_people", in percent.
        chance: Rank-1 of a random list in percent; None where it is unknown.
    """
    states = [check["state"] for check in checks]
    counts = {verb: states.count(state) for state, verb in VERBS.items()}
    if not counts[VERBS[ERROR]]:
        del counts[VERBS[ERROR]]
    name, sentence = _claim(checks, worst, chance)
    states_counted = ", ".join(f"{number} {verb}" for verb, number in counts.items())
    return Status(name, f"{sentence} Checks: {states_counted}.", counts)


def _claim(
    checks: Sequence[Mapping[str, Any]], worst: Mapping[str, Any], chance: float | None
) -> tuple[str, str]:
    """Return the name of the status, and its sentences without the counts."""
    failed = [check for check in checks if check["state"] == FAIL]
    value, (low, high) = worst["value"], worst["interval_over_people"]
    if failed and any(check["group"] == "A" for check in failed):
        return NOT_ESTABLISHED, "Robustness not established: the harness of the attacks failed."
    if any(check["id"] == "clean_accuracy" for check in failed):
        return NOT_ESTABLISHED, (
            "Robustness not established: without an attack, too, the model is hardly better than "
            "a random list."
        )
    if value <= (chance or 0):
        compared = f", no better than a random list ({chance:.1f} %)" if chance else ""
        return NOT_ROBUST, f"Not robust: worst-case Rank-1 is {value:.1f} %{compared}."
    if failed:
        checks_failed = "1 check" if len(failed) == 1 else f"{len(failed)} checks"
        return NOT_ESTABLISHED, f"Robustness not established: {checks_failed} failed."
    bound = f"Worst-case Rank-1, {value:.1f} % [{low:.1f}, {high:.1f}],"
    if reasons := _doubts(checks, low, chance or 0):
        return PROVISIONAL, f"Provisional: {listed(reasons)}. {bound} is an upper bound."
    return UPPER_BOUND, (
        f"{bound} is an upper bound of the robust accuracy under this threat model."
    )


def listed(parts: Sequence[str]) -> str:
    """Join parts of a sentence.

    >>> listed(["A"]), listed(["A", "B"]), listed(["A", "B", "C"])
    ('A', 'A and B', 'A, B and C')
    """
    *first, last = parts
    return f"{', '.join(first)} and {last}" if first else last


def _doubts(checks: Sequence[Mapping[str, Any]], low: float, chance: float) -> list[str]:
    """List why a report without a failed check is provisional."""
    states = {check["id"]: check["state"] for check in checks}
    faulty = [name for name, state in states.items() if state == ERROR]
    skipped = list(states.values()).count(SKIPPED)
    reasons = []
    if faulty:
        reasons.append(f"the code of a check is faulty ({', '.join(faulty)})")
    if skipped > FEW_SKIPPED * len(checks):
        reasons.append(f"{skipped} of {len(checks)} checks were skipped")
    if states.get("enough_people", SKIPPED) != PASS:
        reasons.append("there are too few people")
    if low <= chance:
        reasons.append("the interval reaches down to a random list")
    return reasons
