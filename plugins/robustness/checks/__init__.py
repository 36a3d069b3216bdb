"""Checks: can the robust accuracy of a report be trusted?

A module of --plugins adds a check of its own to every report:

    @check("enough_queries", "A", "Are there enough queries?")
    def enough_queries(runner: AttackRunner) -> Verdict:
        number = len(runner.subset)
        return at_least(number, 32, 8, "queries", f"The checks attack {number} queries.")
"""

from plugins.robustness.checks import generality, harness, masking, retrieval, strength
from plugins.robustness.checks.check import CHECKS, FEW, GROUPS, Check, all_checks, check
from plugins.robustness.checks.run import run_checks, warn_of_skipped
from plugins.robustness.checks.verdict import (
    ERROR,
    FAIL,
    PASS,
    SKIPPED,
    WARN,
    Verdict,
    at_least,
    at_most,
    skipped,
)

__all__ = [
    "CHECKS",
    "ERROR",
    "FAIL",
    "FEW",
    "GROUPS",
    "PASS",
    "SKIPPED",
    "WARN",
    "Check",
    "Verdict",
    "all_checks",
    "at_least",
    "at_most",
    "check",
    "generality",
    "harness",
    "masking",
    "retrieval",
    "run_checks",
    "skipped",
    "strength",
    "warn_of_skipped",
]
