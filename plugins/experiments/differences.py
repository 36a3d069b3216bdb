"""Differences between the rows of an ablation, with what other people and seeds leave open.

A difference is ``{ablation, kind, row, against, dataset, metric, difference, low, high, ...}`` in
percent points: ``row`` minus ``against`` with its 95 % interval over people and seeds. ``kind`` is
"primary" for what the file named beforehand, with ``holm``, the p-value corrected for their number;
"exploratory" for every other row against the first; and "null" for half of the first row's seeds
against the other half, where there is nothing to find. ``detectable`` is the difference that such
an experiment shows 4 times in 5.
"""

import json
import math
from collections.abc import Iterable
from pathlib import Path

from tabulate import tabulate

from plugins.errors import InputError
from plugins.evaluation.queries import METRICS
from plugins.experiments.paired import holm
from plugins.experiments.pairing import DatasetResults, by_dataset, compare, split_metric
from plugins.experiments.plan import Ablation, Contrast
from plugins.experiments.results import alone, read_results, recorded_queries, split_stale
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
    found = differences(ablation, read_runs(ablation, current))
    file = ablation.results.with_name("differences.json")
    if not found and not file.exists():
        return found
    with alone(file.parent):
        others = [each for each in read_differences(file) if each["ablation"] != ablation.name]
        entries = sorted([*others, *found], key=lambda each: each["ablation"])
        lines = ",\n".join(json.dumps(entry, ensure_ascii=False) for entry in entries)
        write_text(file, f"[\n{lines}\n]\n")
        names = dict.fromkeys(entry["ablation"] for entry in entries)
        sections = (
            f"## {name}\n\n{differences_table([e for e in entries if e['ablation'] == name])}"
            for name in names
        )
        write_text(file.with_suffix(".md"), "\n".join(sections))
    return found


def read_differences(file: Path) -> list[dict]:
    """The recorded differences; none if there is no file.

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
    """What each query found, of the results that have a record of it."""
    runs: Runs = {}
    for result in results:
        if evaluation := recorded_queries(ablation, result):
            label = f"{result['row']}/seed{result['seed']}"
            runs.setdefault(result["row"], {})[result["seed"]] = by_dataset(label, evaluation)
    return runs


def differences(ablation: Ablation, runs: Runs) -> list[dict]:
    """The primary comparisons, corrected, then every other row against the first, then the null."""
    primary = [
        entry
        for contrast in ablation.primary
        if (entry := _entry(ablation, contrast, PRIMARY, *_pairs(runs, contrast)))
    ]
    for entry, corrected in zip(primary, holm([e["p"] for e in primary]), strict=True):
        entry["holm"] = _rounded(corrected)
    first = next(iter(ablation.rows))
    others, null = [], []
    for name in ablation.rows:
        for contrast in _contrasts(ablation, runs, name, first):
            if name != first and contrast not in ablation.primary:
                pairs = _pairs(runs, contrast)
                others.append(_entry(ablation, contrast, EXPLORATORY, *pairs))
            elif name == first and len(seeds := sorted(runs[first])) >= FEWEST_NULL_SEEDS:
                halves = seeds[0 : len(seeds) // 2 * 2 : 2], seeds[1::2]
                sides = (
                    [runs[first][seed].get(contrast.dataset) for seed in half] for half in halves
                )
                null.append(_entry(ablation, contrast, NULL, *sides))
    return primary + [entry for entry in (*others, *null) if entry]


def differences_table(entries: Iterable[dict]) -> str:
    """Markdown: a line for each difference, and what they are."""
    headers = ["", "row", "against", "data set", "metric", "difference", "95 % interval"]
    headers += ["second road", "p", "people", "seeds", "80 % power at"]
    lines = []
    for entry in entries:
        p = f"{entry['p']:.3f}" if entry["p"] is not None else "-"
        interval = _interval(entry["low"], entry["high"])
        if entry.get("sites"):
            over = _interval(entry["sites_low"], entry["sites_high"])
            interval += f"; over {entry['sites']} sites {over}"
        lines.append(
            [
                entry["kind"],
                *(f"`{entry[key]}`" for key in ("row", "against")),
                entry["dataset"],
                entry["metric"],
                f"{entry['difference']:+.2f}",
                interval,
                _interval(entry["resampled_low"], entry["resampled_high"]),
                f"{p}, Holm {entry['holm']:.3f}" if "holm" in entry else p,
                entry["people"],
                entry["seeds"],
                "-" if entry["detectable"] is None else f"{entry['detectable']:.1f}",
            ]
        )
    grid = tabulate(lines, headers, tablefmt="pipe", disable_numparse=True)
    return (
        f"{grid}\n\nPercent points, `row` minus `against`, query by query. Intervals are over "
        "people and seeds, of one seed over people alone; the second road resamples both. A true "
        "difference as large as in the last column would have been shown 4 times in 5. Primary "
        "comparisons were named beforehand; every other one is exploratory, and `null` compares "
        "seeds of one row, where nothing is to be found.\n"
    )


def _contrasts(ablation: Ablation, runs: Runs, row: str, against: str) -> list[Contrast]:
    """What the table has of both rows, and of each metric the mean over the directions."""
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
            seed: found[contrast.dataset]
            for seed, found in runs.get(row, {}).items()
            if contrast.dataset in found
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
    """A difference; None if no pair of runs is recorded."""
    if not ours:
        return None
    split_metric(contrast.metric, "metric")
    found, queries = compare(ours, theirs, contrast.metric)
    entry = {"ablation": ablation.name, "kind": kind, **vars(contrast)}
    entry |= {"difference": _rounded(found.mean)}
    entry |= dict(zip(("low", "high"), map(_rounded, found.interval), strict=True))
    bounds = map(_rounded, found.resampled_interval)
    entry |= dict(zip(("resampled_low", "resampled_high"), bounds, strict=True))
    entry |= {"p": _rounded(found.p), "detectable": _rounded(found.detectable)}
    entry |= {"queries": queries, "people": found.people, "seeds": found.seeds}
    test = ablation.tests.get(contrast.dataset)
    if test and len(test.parts) > 1:
        of_sites, _ = compare(ours, theirs, contrast.metric, unit="site")
        entry["sites"] = of_sites.people
        bounds = map(_rounded, of_sites.interval)
        entry |= dict(zip(("sites_low", "sites_high"), bounds, strict=True))
    return entry


def _rounded(value: float) -> float | None:
    """Four digits behind the point; JSON has no NaN."""
    return None if math.isnan(value) else round(value, 4)


def _interval(low: float | None, high: float | None) -> str:
    return "-" if low is None else f"[{low:+.2f}, {high:+.2f}]"
