"""Compare any two ways of training from the files in the folders of their runs."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from tabulate import tabulate

from plugins.engine.evaluation_settings import DIGEST, SETTINGS, changed_settings, setting
from plugins.engine.output_folder import EVALUATION_QUERIES, QUERIES
from plugins.errors import InputError
from plugins.evaluation import Evaluation, read_queries
from plugins.experiments.differences import numbers
from plugins.experiments.pairing import DatasetResults, by_dataset, compare, split_metric
from plugins.experiments.tables import LEGEND, NUMBER_HEADERS, number_cells

DEFAULT_METRICS = ("mAP", "Rank-1")
Run = dict[str, DatasetResults]  # by data set


def read_run(path: Path) -> Evaluation:
    """Read the results of each query of a run.

    Args:
        path: an OUTPUT_DIR, where a training's last evaluation goes before that of --eval-only; or
            a file of either.

    Raises:
        InputError: there is no such file, or it is damaged.
    """
    if path.is_dir():
        files = [path / name for name in (QUERIES, EVALUATION_QUERIES)]
        there = [file for file in files if file.is_file()]
        if not there:
            raise InputError(
                f"{path}: has neither {QUERIES} nor {EVALUATION_QUERIES}, which every training and "
                "--eval-only writes; evaluate its weights with --eval-only"
            )
        return read_queries(there[0])
    return read_queries(path)


def compare_runs(
    ours: Sequence[Path], theirs: Sequence[Path], metrics: Sequence[str] = ()
) -> tuple[list[dict], list[str]]:
    """Compare runs in pairs, on everything that all of them were tested on.

    Args:
        ours: (S,) OUTPUT_DIRs or files, such as one for each seed.
        theirs: (S,) what is subtracted.
        metrics: "I2V/mAP", or "mAP" for the mean over the directions; of none mAP and Rank-1 of all
            rows.

    Returns:
        Differences as ``{row, against, dataset, metric, ours, theirs, difference, low, high, ...}``
        in percent points, and remarks: what only some runs were tested on, and which settings of
        the evaluations differ.

    Raises:
        InputError: not as many runs on both sides, a run that is named twice, nothing that all were
            tested on, or other queries.
    """
    paths = [*ours, *theirs]
    if len(ours) != len(theirs):
        raise InputError(
            f"{len(ours)} runs against {len(theirs)}; expected as many, as they are paired"
        )
    for path in paths:
        if [other.resolve() for other in paths].count(path.resolve()) > 1:
            raise InputError(f"{path}: named twice; expected different runs")
    for metric in metrics:
        if list(metrics).count(metric) > 1:
            raise InputError(f"--metric {metric}: named twice; expected each metric once")
    evaluations = {str(path): read_run(path) for path in paths}
    runs, remarks = _shared({name: by_dataset(name, each) for name, each in evaluations.items()})
    remarks += compare_settings(
        *({str(path): evaluations[str(path)].run for path in side} for side in (ours, theirs))
    )
    row, against = (" ".join(map(str, side)) for side in (ours, theirs))
    entries = []
    for dataset in runs[0]:
        sides = [run[dataset] for run in runs]
        first, second = sides[: len(ours)], sides[len(ours) :]
        for metric in metrics or _default_metrics(sides[0]):
            about = {"row": row, "against": against, "dataset": dataset, "metric": metric}
            differences = numbers(*compare(first, second, metric))
            means = {"ours": _mean(first, metric), "theirs": _mean(second, metric)}
            entries.append({**about, **means, **differences})
    return entries, remarks


def compare_settings(
    ours: Mapping[str, Mapping[str, Any]], theirs: Mapping[str, Mapping[str, Any]]
) -> list[str]:
    """Say which settings of the evaluations differ between two sides, a line for each.

    Args:
        ours: what each file of one side says of its run, by the path of the run.
        theirs: likewise of the other side.
    """
    everything = {**ours, **theirs}
    unknown = [path for path, run in everything.items() if not isinstance(run.get(SETTINGS), dict)]
    if unknown:
        return [f"settings not recorded, so not compared: {', '.join(unknown)}"]
    first: dict[str, Any] = next(iter(everything.values()))[SETTINGS]
    keys = {key for run in everything.values() for key in changed_settings(first, run[SETTINGS])}
    remarks = []
    for key in sorted(keys):
        sides = []
        for name, side in (("A", ours), ("B", theirs)):
            values = dict.fromkeys(str(setting(run[SETTINGS], key)) for run in side.values())
            sides.append(f"{name} {' and '.join(values)}")
        remarks.append(f"{key} differs: {', '.join(sides)}")
    digests = [{run.get(DIGEST) for run in side.values()} for side in (ours, theirs)]
    if None not in digests[0] | digests[1] and digests[0] == digests[1]:
        remarks.append("A and B have the same weights")
    return remarks


def _shared(runs: dict[str, Run]) -> tuple[list[Run], list[str]]:
    """Restrict runs to the tests that they share; return remarks about the rest.

    Raises:
        InputError: there is no data set, or none of its rows, that all were tested on.
    """
    tasks = {
        label: [(dataset, row) for dataset, results in run.items() for row in results.rows]
        for label, run in runs.items()
    }
    first, *others = tasks.values()
    shared = [task for task in first if all(task in other for other in others)]
    if not shared:
        told = "; ".join(f"{label}: {_listed(own)}" for label, own in tasks.items())
        raise InputError(f"nothing that all runs were tested on: {told}")
    remarks = [
        f"left out, as not all runs have it: {_listed(left)} of {label}"
        for label, own in tasks.items()
        if (left := [task for task in own if task not in shared])
    ]
    kept = [
        {dataset: _restricted(run[dataset], shared) for dataset, _ in shared}
        for run in runs.values()
    ]
    return kept, remarks


def _restricted(results: DatasetResults, tasks: Sequence[tuple[str, str]]) -> DatasetResults:
    rows = {row: results.rows[row] for dataset, row in tasks if dataset == results.dataset}
    return replace(results, rows=rows)


def _listed(tasks: Sequence[tuple[str, str]]) -> str:
    return ", ".join("/".join(task) for task in tasks)


def comparison_table(entries: Sequence[dict]) -> str:
    """Write a Markdown table with a line for each difference, and its legend."""
    lines = [
        [
            *(entry["dataset"], entry["metric"]),
            *(f"{entry[side]:.2f}" for side in ("ours", "theirs")),
            *number_cells(entry),
        ]
        for entry in entries
    ]
    headers = ["data set", "metric", "A", "B", *NUMBER_HEADERS]
    grid = tabulate(lines, headers, tablefmt="pipe", disable_numparse=True)
    first = entries[0]
    return f"A: {first['row']}\nB: {first['against']}\n\n{grid}\n\nA minus B. {LEGEND}\n"


def _default_metrics(side: DatasetResults) -> list[str]:
    averaged = [*DEFAULT_METRICS] if len(side.directions) > 1 else []
    return averaged + [f"{row}/{metric}" for row in side.rows for metric in DEFAULT_METRICS]


def _mean(sides: Sequence[DatasetResults], metric: str) -> float:
    """Average a metric over runs, and over their directions where it names none."""
    row, name = split_metric(metric, "--metric")
    rows = [row] if row else sides[0].directions
    values = [side.rows[each].block()[name] for side in sides for each in rows]
    return round(float(np.mean(values)), 4)
