"""Two ways of training, query by query: the same queries side by side, gathered by person.

Legend: S pairs of runs, one for each seed; N queries of a row over all its trials; P people.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from plugins.errors import InputError
from plugins.evaluation.queries import METRICS, Evaluation, QueryResults
from plugins.experiments.paired import Difference, paired_difference
from plugins.registry import nearest


@dataclass(frozen=True, eq=False)
class DatasetResults:
    """One run's rows of the table on one data set.

    Attributes:
        label: names the run in messages.
        dataset: its name.
        rows: by name, such as "I2V".
    """

    label: str
    dataset: str
    rows: dict[str, QueryResults]

    @property
    def directions(self) -> list[str]:
        """Names of the rows over which a metric without a direction is averaged."""
        return [name for name, row in self.rows.items() if row.plain]


def by_dataset(label: str, evaluation: Evaluation) -> dict[str, DatasetResults]:
    """A run's rows by data set, in their order."""
    rows: dict[str, dict[str, QueryResults]] = {}
    for row in evaluation.rows:
        rows.setdefault(row.dataset, {})[row.row] = row
    return {dataset: DatasetResults(label, dataset, own) for dataset, own in rows.items()}


def split_metric(metric: str, source: str) -> tuple[str | None, str]:
    """Row and metric of "I2V/mAP"; None and metric of "mAP", which averages the directions.

    Args:
        metric: to split.
        source: of it, for the message.

    Raises:
        InputError: there is no such metric of queries.
    """
    row, _, name = metric.rpartition("/")
    if name not in METRICS:
        known = ", ".join(nearest(name, list(METRICS)))
        raise InputError(
            f"{source}: '{metric}'; expected METRIC or DIRECTION/METRIC, with one of {known}"
        )
    return row or None, name


def compare(
    ours: Sequence[DatasetResults],
    theirs: Sequence[DatasetResults],
    metric: str,
    unit: str = "person",
) -> tuple[Difference, int]:
    """The mean of ``ours`` minus that of ``theirs``, pair by pair and query by query.

    Args:
        ours: (S,) runs of one way of training, on one data set.
        theirs: (S,) of the other, in the same order of seeds.
        metric: "I2V/mAP", or "mAP" for the mean over the directions.
        unit: "person", or "site", the first folder of a query, for tests in several parts: what
            counts as ``people`` of the difference.

    Returns:
        The difference in percent points, and the number of queries that it counts.

    Raises:
        InputError: there is no such metric or row, or two runs were tested on different queries.
    """
    assert len(ours) == len(theirs) > 0, "expected pairs of runs"
    name, metric = split_metric(metric, "metric")
    names = [name] if name else ours[0].directions
    if not names:
        raise InputError(f"{ours[0].label}: {ours[0].dataset} has no direction to average")
    people, weights, differences, queries = [], [], [], 0
    for row in names:
        first, values = _side_by_side([*ours, *theirs], row, metric)
        counted = first.positives > 0
        people.append((first.person if unit == "person" else sites(first))[counted])
        weights.append(first.weights()[counted] / len(names))
        differences.append((values[:, : len(ours)] - values[:, len(ours) :])[counted])
        queries += len(set(first.path[counted].tolist()))
    people, member = np.unique(np.concatenate(people), return_inverse=True)
    weights, differences = np.concatenate(weights), np.concatenate(differences)
    of_people, sums = np.zeros(len(people)), np.zeros((len(people), len(ours)))
    np.add.at(of_people, member, weights)
    np.add.at(sums, member, weights[:, None] * differences)
    return paired_difference(sums / of_people[:, None], of_people), queries


def sites(row: QueryResults) -> np.ndarray:
    """(N,) the first folder of each query."""
    return np.array([path.partition("/")[0] for path in row.path.tolist()], dtype=str)


def _side_by_side(
    runs: Sequence[DatasetResults], row: str, metric: str
) -> tuple[QueryResults, np.ndarray]:
    """A row of the first run, its queries in an order of their own, and (N, R) values of all.

    Raises:
        InputError: a run lacks the row, or has other queries than the first.
    """
    for run in runs:
        if row not in run.rows:
            raise InputError(
                f"{run.label}: {run.dataset} has no row '{row}'; known: {', '.join(run.rows)}"
            )
    rows = [_sorted(run.rows[row]) for run in runs]
    for run, other in zip(runs[1:], rows[1:], strict=True):
        if why := _mismatch(rows[0], other):
            raise InputError(
                f"{runs[0].label} and {run.label} cannot be paired on {run.dataset}/{row}: {why}"
            )
    return rows[0], np.stack([each.values(metric) for each in rows], axis=1)


def _sorted(row: QueryResults) -> QueryResults:
    order = np.lexsort((row.path, row.trial))
    columns = {
        name: values[order] for name, values in vars(row).items() if isinstance(values, np.ndarray)
    }
    return QueryResults(row.dataset, row.row, row.plain, **columns)


def _mismatch(first: QueryResults, other: QueryResults) -> str | None:
    """Why two sorted rows are not of the same queries; None if they are."""
    if first.path.shape == other.path.shape and all(
        np.array_equal(getattr(first, name), getattr(other, name)) for name in ("trial", "path")
    ):
        for name in ("person", "positives"):
            ours, theirs = getattr(first, name), getattr(other, name)
            if len(differ := np.flatnonzero(ours != theirs)):
                at = differ[0]
                return (
                    f"{name} of {len(differ)} of {len(ours)} queries, the first {first.path[at]}: "
                    f"{ours[at]} and {theirs[at]}"
                )
        return None
    queries = [
        set(zip(row.trial.tolist(), row.path.tolist(), strict=True)) for row in (first, other)
    ]
    parts = [
        f"{len(only)} of {len(all_)} only in the {place}, the first {_told(min(only))}"
        for place, only, all_ in (
            ("former", queries[0] - queries[1], queries[0]),
            ("latter", queries[1] - queries[0], queries[1]),
        )
        if only
    ]
    return f"different queries: {'; '.join(parts)}"


def _told(query: tuple[int, str]) -> str:
    trial, path = query
    return f"{path} of trial {trial + 1}" if trial else path
