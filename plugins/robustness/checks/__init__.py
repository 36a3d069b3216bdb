"""Checks: can the robust accuracy of a report be trusted?"""

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
    headline,
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
    "headline",
    "run_checks",
]
