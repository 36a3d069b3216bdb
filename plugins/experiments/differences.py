"""Compute differences between the rows of an ablation, with intervals over people and seeds.

A difference is ``{ablation, kind, row, against, dataset, metric, difference, low, high, ...}`` in
percent points: ``row`` minus ``against`` with its 95 % interval over people and seeds. ``kind`` is
"primary" for what the file named beforehand, with ``holm``, the p-value corrected for their number;
"exploratory" for every other row against the first; and "null" for half of the first row's seeds
against the other half, where there is nothing to find. ``detectable`` is the difference that such
an experiment shows 4 times in 5.
"""

import json
import math
from pathlib import Path

from plugins.errors import InputError
from plugins.evaluation.queries import METRICS
from plugins.experiments.paired import Difference, holm
from plugins.experiments.pairing import DatasetResults, by_dataset, compare, share_queries
from plugins.experiments.plan import Ablation, Contrast
from plugins.experiments.results import alone, read_results, recorded_queries, split_stale
from plugins.experiments.tables import differences_table
from plugins.utils.io import read_json, write_text

PRIMARY, EXPLORATORY, NULL = "primary", "exploratory", "null"
FEWEST_NULL_SEEDS = 4
KEYS = ("row", "against", "dataset", "metric", "difference", "low", "high", "queries")
# Row -> seed -> data set -> what was found there.
Runs = dict[str, dict[int, dict[str, DatasetResults]]]


def write_differences(ablation: Ablation) -> list[dict]:
    """Compute an ablation's differences from its record and put them into the project's files.

    The files ``differences.json`` and ``differences.md`` lie beside the record, and keep what other
    ablations of the project have in them.

    Returns:
        The differences of this ablation; of none that can be told, the files are left alone.

    Raises:
        InputError: a file is damaged, or runs were tested on different queries.
    """
    current, _ = split_stale(ablation, read_results(ablation.results))
    entries_now = differences(ablation, read_runs(ablation, current))
    file = ablation.results.with_name("differences.json")
    if not entries_now and not file.exists():
        return entries_now
    with alone(file.parent):
        others = [each for each in read_differences(file) if each["ablation"] != ablation.name]
        entries = sorted([*others, *entries_now], key=lambda each: each["ablation"])
        lines = ",\n".join(json.dumps(entry, ensure_ascii=False) for entry in entries)
        write_text(file, f"[\n{lines}\n]\n")
        names = dict.fromkeys(entry["ablation"] for entry in entries)
        sections = (
            f"## {name}\n\n{differences_table([e for e in entries if e['ablation'] == name])}"
            for name in names
        )
        write_text(file.with_suffix(".md"), "\n".join(sections))
    return entries_now


def read_differences(file: Path) -> list[dict]:
    """Read the recorded differences; return none without a file.

    Raises:
        InputError: the file is not a list of differences.
    """
    if not file.exists():
        return []
    entries = read_json(file, "a list of differences")
    if not isinstance(entries, list) or not all(
        isinstance(entry, dict) and {"ablation", *KEYS} <= entry.keys() for entry in entries
    ):
        raise InputError(f"{file}: expected a list of differences, each with {', '.join(KEYS)}")
    return entries


def read_runs(ablation: Ablation, results: list[dict]) -> Runs:
    """Read the results of each query, where they are recorded."""
    runs: Runs = {}
    for result in results:
        if evaluation := recorded_queries(ablation, result):
            label = f"{result['row']}/seed{result['seed']}"
            runs.setdefault(result["row"], {})[result["seed"]] = by_dataset(label, evaluation)
    return runs


def differences(ablation: Ablation, runs: Runs) -> list[dict]:
    """Compute the primary comparisons, corrected, then all against the first, then the null."""
    primary = [
        _entry(ablation, contrast, PRIMARY, *_pairs(runs, contrast))
        for contrast in ablation.primary
    ]
    # One that is not recorded yet, or says nothing, counts among those that were named.
    corrected = holm([1.0 if e is None or e["p"] is None else e["p"] for e in primary])
    for entry, value in zip(primary, corrected, strict=True):
        if entry:
            entry["holm"] = _rounded(value)
    first = next(iter(ablation.rows))
    others = [
        _entry(ablation, contrast, EXPLORATORY, *_pairs(runs, contrast))
        for name in ablation.rows
        if name != first
        for contrast in _contrasts(ablation, runs, name, first)
        if contrast not in ablation.primary
    ]
    null = [
        _entry(ablation, contrast, NULL, *halves)
        for contrast in _contrasts(ablation, runs, first, first)
        if (halves := _halves(runs[first], contrast.dataset))
    ]
    return [entry for entry in (*primary, *others, *null) if entry]


def _halves(
    runs: dict[int, dict[str, DatasetResults]], dataset: str
) -> tuple[list[DatasetResults], list[DatasetResults]] | None:
    """Split the seeds of a row into halves; return None for too few seeds or other queries."""
    results = [runs[seed][dataset] for seed in sorted(runs) if dataset in runs[seed]]
    if len(results) < FEWEST_NULL_SEEDS or not share_queries(results):
        return None
    even = len(results) // 2 * 2
    return results[0:even:2], results[1:even:2]


def _contrasts(ablation: Ablation, runs: Runs, row: str, against: str) -> list[Contrast]:
    """List the columns that both rows have, and for each metric the mean over the directions."""
    ours, theirs = (next(iter(runs.get(name, {}).values()), {}) for name in (row, against))
    names, contrasts = ablation.tested_on(), []
    for name in names:
        if name not in ours or name not in theirs:
            continue
        shared = ours[name].rows.keys() & theirs[name].rows.keys()
        tasks = [(task, metric) for task, metric in ablation.metrics if metric in METRICS]
        if len(names) > 1:
            prefix = f"{name}/"
            tasks = [(t.removeprefix(prefix), m) for t, m in tasks if t.startswith(prefix)]
        tasks = [(task, metric) for task, metric in tasks if task in shared]
        means = {m: None for task, m in tasks if task in ours[name].directions}
        averaged = [*means] if len(ours[name].directions) > 1 else []
        metrics = [*averaged, *(f"{task}/{metric}" for task, metric in tasks)]
        contrasts += [Contrast(row, against, name, metric) for metric in metrics]
    return contrasts


def _pairs(runs: Runs, contrast: Contrast) -> tuple[list[DatasetResults], list[DatasetResults]]:
    """Runs of both rows on the data set, with the seeds that both have."""
    ours, theirs = (
        {
            seed: results[contrast.dataset]
            for seed, results in runs.get(row, {}).items()
            if contrast.dataset in results
        }
        for row in (contrast.row, contrast.against)
    )
    seeds = sorted(ours.keys() & theirs.keys())
    return [ours[seed] for seed in seeds], [theirs[seed] for seed in seeds]


def _entry(
    ablation: Ablation,
    contrast: Contrast,
    kind: str,
    ours: list[DatasetResults],
    theirs: list[DatasetResults],
) -> dict | None:
    """Compute a difference; return None if no pair of runs is recorded."""
    if not ours:
        return None
    entry = {"ablation": ablation.name, "kind": kind, **vars(contrast)}
    entry |= numbers(*compare(ours, theirs, contrast.metric))
    test = ablation.tests.get(contrast.dataset)
    if test and len(test.parts) > 1:
        of_sites, _ = compare(ours, theirs, contrast.metric, unit="site")
        entry["sites"] = of_sites.people
        bounds = map(_rounded, of_sites.interval)
        entry |= dict(zip(("sites_low", "sites_high"), bounds, strict=True))
    return entry


def numbers(found: Difference, queries: int) -> dict[str, float | int | None]:
    """Write a difference and the number of its queries as plain values, rounded to 4 digits."""
    low, high = map(_rounded, found.interval)
    resampled_low, resampled_high = map(_rounded, found.resampled_interval)
    return {
        "difference": _rounded(found.mean),
        "low": low,
        "high": high,
        "resampled_low": resampled_low,
        "resampled_high": resampled_high,
        "p": _rounded(found.p),
        "detectable": _rounded(found.detectable),
        "queries": queries,
        "people": found.people,
        "seeds": found.seeds,
        "crossed": found.crossed,
    }


def _rounded(value: float) -> float | None:
    """Round to four digits; JSON has no NaN."""
    return None if math.isnan(value) else round(value, 4)
