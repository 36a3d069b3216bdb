"""Print the table of results, and compare results with expected numbers."""

import math
from collections.abc import Iterable, Sequence
from typing import Any

from tabulate import tabulate

from plugins.errors import InputError
from plugins.evaluation.verification import RATES, column
from plugins.utils.names import closest_names
from plugins.utils.values import shortened

COLUMNS = (
    *("Rank-1", "Rank-5", "Rank-10", "Rank-20", "mAP", "mAP-std", "mINP", "metric"),
    *("success@1", "success@5", "success@10", "success@20"),
    *(*map(column, RATES), "queries"),
)


def results_table(results: dict[str, dict]) -> str:
    """Format a pipe table in fastreid's style, one row per data set and direction, percent.

    Args:
        results: data set -> what its evaluator returned: a block of metrics per direction. A metric
            that a block lacks is left blank, one that all lack is left out.
    """
    blocks = by_task(results)
    columns = [name for name in COLUMNS if any(name in block for block in blocks.values())]
    rows = [(task, *(block.get(name) for name in columns)) for task, block in blocks.items()]
    headers = ("Dataset", *columns)
    return tabulate(rows, headers, tablefmt="pipe", floatfmt=".2f", numalign="left")


def check_expected(expected_rows: list, tasks: Iterable[str]) -> None:
    """Raise InputError unless each of TEST.EXPECTED_RESULTS can be checked.

    Args:
        expected_rows: as for ``verify_expected``.
        tasks: names of all tasks that there are, or will be.
    """
    check_expected_rows(expected_rows)
    for number, (task, *_) in enumerate(expected_rows, start=1):
        source = f"TEST.EXPECTED_RESULTS row {number}"
        _entry(dict.fromkeys(tasks), str(task), "task", source)


def check_expected_rows(expected_rows: list, datasets: Sequence[str] | None = None) -> None:
    """Check what TEST.EXPECTED_RESULTS tells before any data is read.

    Args:
        expected_rows: as for ``verify_expected``.
        datasets: data sets that are tested; None does not compare them.

    Raises:
        InputError: a row is malformed, its metric is unknown, its task is of another data set, or
            its tolerance is negative.
    """
    for number, row in enumerate(expected_rows, start=1):
        source = f"TEST.EXPECTED_RESULTS row {number}"
        if not isinstance(row, list | tuple) or len(row) != 4:
            raise InputError(
                f"{source}: expected [task, metric, expected, tolerance], found {shortened(row)}"
            )
        task, metric, *numbers = row
        if datasets is not None and str(task).split("/")[0] not in datasets:
            raise InputError(
                f"{source}: no task '{str(task)[:60]}'; expected DATASET/DIRECTION with one "
                f"of {', '.join(datasets)}, as DATASETS.TESTS says"
            )
        _entry(dict.fromkeys(COLUMNS), str(metric), "metric", source)
        for value in numbers:
            if type(value) not in (int, float) or not math.isfinite(value):
                raise InputError(f"{source}: found {value!r}, expected a finite number")
        if numbers[1] < 0:
            raise InputError(f"{source}: tolerance {numbers[1]}; expected 0 or more")


def verify_expected(expected_rows: list, results: dict[str, dict]) -> list[str]:
    """Compare results with TEST.EXPECTED_RESULTS.

    Args:
        expected_rows: rows of [task, metric, expected, tolerance], percent; the task is
            "DATASET/DIRECTION".
        results: as for ``results_table``.

    Returns:
        One line for each number that is off by more than its tolerance or is NaN.

    Raises:
        InputError: a row is malformed, or names an unknown task or metric.
    """
    blocks = by_task(results)
    check_expected(expected_rows, blocks)
    misses = []
    for number, row in enumerate(expected_rows, start=1):
        task, metric, expected, tolerance = row
        value = _entry(blocks[task], metric, "metric", f"TEST.EXPECTED_RESULTS row {number}")
        # Not "> tolerance": a NaN must miss.
        if not abs(value - expected) <= tolerance:
            misses.append(f"{task} {metric}: expected {expected} ± {tolerance}, found {value:.2f}")
    return misses


def by_task(results: dict[str, dict]) -> dict[str, dict]:
    """List the blocks of metrics by "DATASET/DIRECTION", without a data set's overall "metric".

    >>> by_task({"HITSZVCM": {"I2V": {"mAP": 1.0}, "metric": 1.0}})
    {'HITSZVCM/I2V': {'mAP': 1.0}}
    """
    return {
        f"{dataset}/{direction}": block
        for dataset, directions in results.items()
        for direction, block in directions.items()
        if isinstance(block, dict)
    }


def _entry(mapping: dict, key: str, kind: str, source: str) -> Any:
    if key not in mapping:
        known = ", ".join(closest_names(key, list(mapping))) or "none"
        raise InputError(f"{source}: no {kind} '{key}'; known: {known}")
    return mapping[key]
