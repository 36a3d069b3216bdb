"""Checks: may the robust figures of a model be believed?"""

from plugins.robustness.checks.catalogue import (
    CHECKS,
    GROUPS,
    Check,
    add_check,
    all_checks,
    run_checks,
)
from plugins.robustness.checks.verdict import (
    ESTABLISHED,
    FAIL,
    NOT_ESTABLISHED,
    PASS,
    SKIPPED,
    WARN,
    Verdict,
    stamp,
)

__all__ = [
    "CHECKS",
    "ESTABLISHED",
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
    "run_checks",
    "stamp",
]
