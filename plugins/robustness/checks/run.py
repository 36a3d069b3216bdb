"""Runs all checks of a report."""

import logging
from collections.abc import Iterator

from plugins.robustness.checks.check import Check, all_checks
from plugins.robustness.checks.verdict import Verdict, skipped
from plugins.robustness.runner import AttackRunner

logger = logging.getLogger(__name__)


def warn_of_skipped(runner: AttackRunner) -> None:
    """Warn, before any attack, how many checks need more queries than are attacked."""
    number = len(runner.subset)
    skipped_checks = [check for check in all_checks() if number < check.queries]
    if skipped_checks:
        logger.warning(
            "%d of %d checks need up to %d queries and will be skipped: %d are attacked; "
            "ATTACK.QUERIES, the data set and --level limit them",
            len(skipped_checks),
            len(all_checks()),
            max(check.queries for check in skipped_checks),
            number,
        )


def run_checks(runner: AttackRunner) -> Iterator[tuple[Check, Verdict]]:
    """Answer all checks and log each as it ends."""
    checks = all_checks()
    for number, check in enumerate(checks, start=1):
        if len(runner.subset) < check.queries:
            verdict = skipped(f"Needs at least {check.queries} queries, got {len(runner.subset)}.")
        else:
            verdict = check.answer(runner)
        logger.info(
            "%2d/%d %s %-7s %s: %s",
            number,
            len(checks),
            check.group,
            verdict.state,
            check.id,
            verdict.explanation,
        )
        yield check, verdict
