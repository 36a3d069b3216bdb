"""Pair two ways of training query by query, and gather the differences by person.

Legend: S pairs of runs, one for each seed; N queries of a row over all its trials; P people.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from plugins.errors import InputError
from plugins.evaluation.queries import METRICS, Evaluation, QueryResults
from plugins.experiments.paired import Difference, nested_difference, paired_difference
from plugins.utils.names import closest_names


@dataclass(frozen=True, eq=False)
class DatasetResults:
    """Hold one run's rows of the table on one data set.

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
    """Group a run's rows by data set, in their order."""
    rows: dict[str, dict[str, QueryResults]] = {}
    for row in evaluation.rows:
        rows.setdefault(row.dataset, {})[row.row] = row
    return {dataset: DatasetResults(label, dataset, own) for dataset, own in rows.items()}


def split_metric(metric: str, source: str) -> tuple[str | None, str]:
    """Split "I2V/mAP" into row and metric; "mAP" has no row and averages the directions.

    Args:
        metric: to split.
        source: of it, for the message.

    Raises:
        InputError: there is no such metric of queries.
    """
    row, _, name = metric.rpartition("/")
    if name not in METRICS:
        known = ", ".join(closest_names(name, list(METRICS)))
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
    """Compare ``ours`` with ``theirs``, pair by pair and query by query.

    Args:
        ours: (S,) runs of one way of training, on one data set.
        theirs: (S,) of the other, in the same order of seeds.
        metric: "I2V/mAP", or "mAP" for the mean over the directions.
        unit: "person", or "site", the first folder of a query, for tests in several parts: what
            counts as ``people`` of the difference.

    Returns:
        The difference in percent points, and the number of queries that it counts. Where another
        seed was tested on other queries, its people are its own: see ``Difference.crossed``.

    Raises:
        InputError: there is no such metric or row, or the runs of a pair were tested on different
            queries.
    """
    assert len(ours) == len(theirs) > 0, "expected pairs of runs"
    name, metric = split_metric(metric, "metric")
    names = [name] if name else ours[0].directions
    if not names:
        raise InputError(f"{ours[0].label}: {ours[0].dataset} has no direction to average")
    pairs = [
        [_side_by_side(first, second, row, metric) for row in names]
        for first, second in zip(ours, theirs, strict=True)
    ]
    queries = [(row.row, path) for pair in pairs for row, _ in pair for path in _counted(row)]
    by_person = [_by_person(pair, unit) for pair in pairs]
    weights = by_person[0][1]
    if all(
        _mismatch(first, other) is None
        for pair in pairs[1:]
        for (first, _), (other, _) in zip(pairs[0], pair, strict=True)
    ):
        # The first pair names the people of all.
        named = [
            [(row, values) for (row, _), (_, values) in zip(pairs[0], pair, strict=True)]
            for pair in pairs
        ]
        columns = np.stack([_by_person(pair, unit)[2] for pair in named], axis=1)
        return paired_difference(columns, weights), len(set(queries))
    means = np.array([weight @ differences for _, weight, differences in by_person])
    people = sum(len(weight) for weight, _, _ in by_person)
    return nested_difference(means, people), len(queries)


def share_queries(runs: Sequence[DatasetResults]) -> bool:
    """Tell whether all runs were tested on the same queries."""
    first, *others = ({name: _sorted(row) for name, row in run.rows.items()} for run in runs)
    return all(
        other.keys() == first.keys()
        and all(_mismatch(first[name], row) is None for name, row in other.items())
        for other in others
    )


def _by_person(
    pair: list[tuple[QueryResults, np.ndarray]], unit: str
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return (P,) people, weights that sum to 1, and mean differences of one pair of runs.

    Args:
        pair: for each direction a row and the (N,) differences of its queries.
        unit: see :func:`compare`.
    """
    people, weights, differences = [], [], []
    for row, values in pair:
        counted = row.positives > 0
        people.append((row.person if unit == "person" else sites(row))[counted])
        weights.append(row.weights()[counted] / len(pair))
        differences.append(values[counted])
    names, member = np.unique(np.concatenate(people), return_inverse=True)
    of_queries = np.concatenate(weights)
    of_people = np.bincount(member, of_queries)
    sums = np.bincount(member, of_queries * np.concatenate(differences))
    return names, of_people, sums / of_people


def _counted(row: QueryResults) -> list[str]:
    """Keep queries with a positive, each once where there are several trials."""
    return list(dict.fromkeys(row.path[row.positives > 0].tolist()))


def sites(row: QueryResults) -> np.ndarray:
    """Return the first folder of each query, (N,)."""
    return np.array([path.partition("/")[0] for path in row.path.tolist()], dtype=str)


def _side_by_side(
    ours: DatasetResults, theirs: DatasetResults, name: str, metric: str
) -> tuple[QueryResults, np.ndarray]:
    """Return a row of the first run with its queries sorted, and (N,) differences.

    Raises:
        InputError: a run lacks the row, or they have different queries.
    """
    for run in (ours, theirs):
        if name not in run.rows:
            raise InputError(
                f"{run.label}: {run.dataset} has no row '{name}'; known: {', '.join(run.rows)}"
            )
    first, second = (_sorted(run.rows[name]) for run in (ours, theirs))
    if why := _mismatch(first, second):
        raise InputError(
            f"{ours.label} and {theirs.label} cannot be paired on {ours.dataset}/{name}: {why}"
        )
    return first, first.values(metric) - second.values(metric)


def _sorted(row: QueryResults) -> QueryResults:
    order = np.lexsort((row.path, row.trial))
    columns = {
        name: values[order] for name, values in vars(row).items() if isinstance(values, np.ndarray)
    }
    return QueryResults(row.dataset, row.row, row.plain, **columns)


def _mismatch(first: QueryResults, other: QueryResults) -> str | None:
    """Explain why two sorted rows have different queries; return None for the same."""
    if first.path.shape == other.path.shape and all(
        np.array_equal(getattr(first, name), getattr(other, name)) for name in ("trial", "path")
    ):
        for name in ("person", "positives"):
            ours, theirs = getattr(first, name), getattr(other, name)
            if name == "person" and same_people(ours, theirs):
                continue
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


def same_people(ours: np.ndarray, theirs: np.ndarray) -> bool:
    """Tell whether two lists of people are alike but for names, each name standing for one other.

    Results that were written while some data sets numbered their people say "6" for "0507".
    """
    pairs = len(set(zip(ours.tolist(), theirs.tolist(), strict=True)))
    return pairs == len(np.unique(ours)) == len(np.unique(theirs))


def _told(query: tuple[int, str]) -> str:
    trial, path = query
    return f"{path} of trial {trial + 1}" if trial else path
