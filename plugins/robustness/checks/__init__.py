"""Checks: can the robust accuracy of a report be trusted?

A module of --plugins adds a check of its own to every report:

    def enough_queries(runner: AttackRunner) -> Verdict:
        number = len(runner.subset)
        return at_least(number, 32, 8, "queries", f"The checks attack {number} queries.")

    add_check(Check("enough_queries", "A", "Are there enough queries?", enough_queries))
"""

from plugins.robustness.checks.catalogue import (
    CHECKS,
    GROUPS,
    Check,
    add_check,
    all_checks,
    run_checks,
)
from plugins.robustness.checks.verdict import (
    FAIL,
    NOT_ESTABLISHED,
    PASS,
    SKIPPED,
    WARN,
    Verdict,
    at_least,
    at_most,
    headline,
    skipped,
)

__all__ = [
    "CHECKS",
    "FAIL",
    "GROUPS",
    "NOT_ESTABLISHED",
    "PASS",
    "SKIPPED",
    "WARN",
    "Check",
    "Verdict",
    "add_check",
    "all_checks",
    "at_least",
    "at_most",
    "headline",
    "run_checks",
    "skipped",
]
