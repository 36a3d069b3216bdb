"""Record the results of an ablation in JSON, and write its table.

A result is ``{row, dataset, seed, overrides, commit, metrics: {task: {metric: percent}}}`` with
``render``, ``settings``, ``start``, ``epochs``, ``seconds``, ``torch``, ``threads``, ``device``,
where there is none a CPU, and ``images`` of a row that trains on generated ones. A task is a
direction, or where a run is tested on several data sets "DATASET/DIRECTION". ``tests`` says how
these were made, ``queries`` is the digest of the file that holds what each query found, and
``signs`` are the signs of life that training logged, by name.
"""

import contextlib
import fcntl
import itertools
import json
import logging
import os
import statistics
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from tabulate import tabulate

from plugins.errors import InputError
from plugins.evaluation import Evaluation, read_queries, write_queries
from plugins.experiments.plan import Ablation
from plugins.experiments.records import check_results
from plugins.experiments.signs import signs_table
from plugins.utils.io import file_digest, read_json, write_text

logger = logging.getLogger(__name__)


def read_results(file: Path) -> list[dict]:
    """Read the recorded results; return none without a file.

    Raises:
        InputError: the file is not a list of results, a metric is no finite number, or one row and
            seed are there twice.
    """
    if not file.exists():
        return []
    return check_results(read_json(file, "a list of results"), file)


def record_result(ablation: Ablation, result: dict, queries: Evaluation | None = None) -> None:
    """Put ``result`` in the place of the one of its row, data set and seed; write record and table.

    Other processes may record into the same file meanwhile.

    Args:
        ablation: whose record.
        result: see the head of this module.
        queries: what each query found, which is written first.
    """
    with alone(ablation.results.parent):
        if queries:
            file = ablation.queries(result["row"], result["seed"])
            file.parent.mkdir(exist_ok=True)
            write_queries(file, queries, precision=np.float16)
            result = result | {"queries": file_digest(file)}
        kept = [
            other for other in read_results(ablation.results) if _place(other) != _place(result)
        ]
        order = {name: number for number, name in enumerate(ablation.rows)}
        rows = sorted(
            [*kept, result],
            key=lambda other: (order.get(other["row"], len(order)), other["row"], other["seed"]),
        )
        lines = ",\n".join(json.dumps(row, ensure_ascii=False) for row in rows)
        write_text(ablation.results, f"[\n{lines}\n]\n")
    write_table(ablation)


def write_table(ablation: Ablation) -> Path:
    """Write the Markdown table beside the record; returns its path."""
    path = ablation.results.with_suffix(".md")
    with alone(path.parent):
        current, stale = split_stale(ablation, read_results(ablation.results))
        text = table(ablation, current)
        if stale:
            text += f"\nNot in the table, as the file now says otherwise: {', '.join(stale)}.\n"
        write_text(path, text)
    return path


@contextlib.contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Waits until no other process is in here with the same folder, which is made if need be."""
    folder.mkdir(parents=True, exist_ok=True)
    lock = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


def split_stale(ablation: Ablation, results: list[dict]) -> tuple[list[dict], dict[str, str]]:
    """Split results into those with the settings of the current file, and the others.

    Returns:
        (current results, "row/seedK" of a stale one to what differs).
    """
    current, stale = [], {}
    for result in results:
        if differences := ablation.at(result["seed"]).stale(result):
            stale[f"{result['row']}/seed{result['seed']}"] = ", ".join(differences)
        else:
            current.append(result)
    return current, stale


def recorded_queries(ablation: Ablation, result: dict) -> Evaluation | None:
    """Read the results of each query; return None for a result older than such records.

    Raises:
        InputError: the file is not there, damaged, or not the one that the result names.
    """
    if "queries" not in result:
        return None
    file = ablation.queries(result["row"], result["seed"])
    if (digest := file_digest(file)) != result["queries"]:
        raise InputError(
            f"{file}: has the digest {digest}, {ablation.results} names {result['queries']}; "
            "expected both files from one recording"
        )
    return read_queries(file)


def table(ablation: Ablation, results: list[dict]) -> str:
    """Write a Markdown table: mean, deviation and difference to the first row, and its origin.

    Args:
        ablation: rows and columns.
        results: current ones only.
    """
    first = next(iter(ablation.rows))
    values = {
        name: [
            column_values(results, name, direction, metric)
            for direction, metric in ablation.metrics
        ]
        for name in ablation.rows
    }
    lines = [
        [
            f"`{name}`",
            *(
                cell(column, None if name == first else reference)
                for column, reference in zip(values[name], values[first], strict=True)
            ),
            sum(result["row"] == name for result in results),
            row.description,
        ]
        for name, row in ablation.rows.items()
    ]
    columns = (f"{direction} {metric}" for direction, metric in ablation.metrics)
    grid = tabulate(lines, ["row", *columns, "n", ""], tablefmt="pipe", disable_numparse=True)
    notes = (
        f"{', '.join(ablation.tested_on())}, last epoch, percent: mean ± sample standard deviation "
        f"over n seeds (differences to `{first}`, seed by seed)."
    )
    signs = signs_table(ablation.rows, results)
    text = f"{grid}\n\n{notes}\n{_origin(ablation, results)}"
    return f"{text}\n{signs}" if signs else text


def column_values(results: list[dict], row: str, direction: str, metric: str) -> dict[int, float]:
    """Return a metric of a row, by seed."""
    blocks = (
        (result["seed"], result["metrics"].get(direction, {}))
        for result in results
        if result["row"] == row
    )
    return {seed: block[metric] for seed, block in blocks if metric in block}


def cell(values: dict[int, float], reference: dict[int, float] | None) -> str:
    """Write mean and deviation over seeds; in brackets those of differences to ``reference``.

    Those are of the seeds that both have, as runs with the same seed share their draws.

    >>> cell({0: 1.0, 1: 3.0}, {0: 0.0, 1: 3.0})
    '2.0 ± 1.4 (+0.5 ± 0.7)'
    >>> cell({0: 2.0}, {0: 1.0, 1: 7.0})
    '2.0 (+1.0)'
    >>> cell({}, {0: 1.0})
    '-'
    """
    if not values:
        return "-"
    text = mean_and_std(list(values.values()))
    reference = reference or {}
    differences = [values[seed] - reference[seed] for seed in values if seed in reference]
    return f"{text} ({mean_and_std(differences, '+')})" if differences else text


def mean_and_std(values: list[float], sign: str = "") -> str:
    """Write the mean, and the sample standard deviation of two or more values.

    >>> mean_and_std([1.0, 3.0], "+")
    '+2.0 ± 1.4'
    """
    text = f"{statistics.fmean(values):{sign}.1f}"
    return f"{text} ± {statistics.stdev(values):.1f}" if len(values) > 1 else text


def _place(result: dict) -> tuple:
    return result["row"], result["dataset"], result["seed"]


def _origin(ablation: Ablation, results: list[dict]) -> str:
    """Describe how the runs were made, with all commits and versions of torch."""

    def distinct(key: str, missing: str = "unknown") -> str:
        # A resumed run names a commit for each sitting.
        values = (str(result.get(key) or missing).split(", ") for result in results)
        return ", ".join(dict.fromkeys(itertools.chain.from_iterable(values)))

    if not results:
        return ""
    starts = [result for result in results if result.get("start")]
    start = f"weights at the start {distinct('start')}, " if starts else ""
    return (
        f"Config `{ablation.config}`, epochs {distinct('epochs')}, {start}"
        f"torch {distinct('torch')}, {distinct('device', 'CPU')}, commit {distinct('commit')}.\n"
    )
