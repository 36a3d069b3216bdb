"""Runs all checks of a report."""

import logging
from collections.abc import Iterator

from plugins.errors import DISK_FULL, READ_ONLY
from plugins.robustness.checks.check import Check, all_checks
from plugins.robustness.checks.verdict import Verdict, faulty, skipped
from plugins.robustness.runner import AttackRunner
from plugins.utils.own_code import described, fault, file_of
from plugins.utils.values import shortened

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
    """Answer all checks and log each as it ends; one that fails costs the report no other one."""
    checks = all_checks()
    for number, check in enumerate(checks, start=1):
        if len(runner.subset) < check.queries:
            verdict = skipped(f"Needs at least {check.queries} queries, got {len(runner.subset)}.")
        else:
            verdict = answer(check, runner)
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


def answer(check: Check, runner: AttackRunner) -> Verdict:
    """Answer a check; return ERROR for one that raises an exception or returns no verdict.

    Raises:
        OSError: the disk is full or read-only, which is no fault of the check.
    """
    name = described(getattr(check.answer, "__name__", check.id), check.answer)
    try:
        verdict = check.answer(runner)
    except Exception as error:
        if isinstance(error, OSError) and error.errno in (*DISK_FULL, *READ_ONLY):
            raise
        logger.exception("Check %s: %s", check.id, name)
        return faulty(f"The check itself fails: {name}: {fault(error, file_of(check.answer))}.")
    if not isinstance(verdict, Verdict):
        return faulty(
            f"The check itself fails: {name} returned {shortened(verdict)}; expected a verdict, as "
            "at_least, at_most and skipped return it."
        )
    return verdict
