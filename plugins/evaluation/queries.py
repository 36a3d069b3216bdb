"""Keep the result of each query, from which tables, and differences of tables, are made.

Legend: N queries over all trials of one row of the table.

A file is an ``.npz`` that holds no pickled object. Its entry ``about`` is JSON in UTF-8: "format",
"version", "run" (plain values, such as the seed), "queries" (lists "dataset", "path", "person" and
"camera") and "rows" (of the table, each with "dataset", "name" and "plain"). Its other entries are
columns with a number for each row, trial and query: ``row`` is an index of the list of rows,
``step`` an index of the lists of queries minus the one before, ``trial`` counts from 0, and the
others are as in :class:`QueryResults`.
"""

import io
import json
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from plugins.errors import InputError
from plugins.evaluation.ranking import RankingResult
from plugins.evaluation.scores import RANKS, mean_scores, scores
from plugins.utils.io import read_bytes, write_atomically

FORMAT, VERSION = "fastreid-plugins: results of each query", 1
NAMES = ("dataset", "path", "person", "camera")
# The metrics of the table that are means over queries.
METRICS = (*(f"Rank-{rank}" for rank in RANKS), "mAP", "mINP", "metric")
COLUMNS = ("row", "trial", "step", "average_precision", "first_rank", "last_rank", "positives")


@dataclass(frozen=True, eq=False)
class QueryResults:
    """One row of the table of results, query by query.

    Attributes:
        dataset: as in DATASETS.TESTS.
        row: name of the row, such as "I2V" or "I2V+FNA".
        plain: whether the row is a direction as the config tests it: no re-ranked list, no attack.
        trial: (N,) int64 from 0.
        path: (N,) str, first file of the query, relative to the folder of all data sets.
        person: (N,) str, the data set's name of the query's person.
        camera: (N,) str, likewise.
        average_precision: (N,) float64, a fraction; NaN where the query has no positive.
        first_rank: (N,) int64 from 1, where the CMC finds the person; 0 where there is none.
        last_rank: (N,) int64, rank of the last positive among the items; 0 likewise.
        positives: (N,) int64, number of positives; a query without any does not count.
    """

    dataset: str
    row: str
    plain: bool
    trial: np.ndarray
    path: np.ndarray
    person: np.ndarray
    camera: np.ndarray
    average_precision: np.ndarray
    first_rank: np.ndarray
    last_rank: np.ndarray
    positives: np.ndarray

    @property
    def task(self) -> str:
        """Name data set and row as the table does: "HITSZVCM/I2V"."""
        return f"{self.dataset}/{self.row}"

    def values(self, metric: str) -> np.ndarray:
        """Return the value (N,) of each query, percent; NaN where the query has no positive.

        Args:
            metric: one of ``METRICS``.
        """
        if metric == "metric":
            return (self.values("mAP") + self.values("Rank-1")) / 2
        if metric == "mAP":
            shares = self.average_precision
        elif metric == "mINP":
            shares = self.positives / np.maximum(self.last_rank, 1)
        else:
            shares = self.first_rank <= int(metric.removeprefix("Rank-"))
        return np.where(self.positives > 0, 100.0 * shares, np.nan)

    def weights(self) -> np.ndarray:
        """Return the weight (N,) of each query in the row's mean; the weights sum to 1."""
        counted = (self.positives > 0).astype(np.float64)
        _, member = np.unique(self.trial, return_inverse=True)
        queries = np.bincount(member, counted)
        return counted / (queries[member] * len(queries))

    def block(self) -> dict[str, float | int]:
        """Compute the row's means as the evaluator does; see ``plugins.evaluation.scores``."""
        return mean_scores(
            [
                scores(
                    RankingResult.of_queries(
                        average_precision=torch.from_numpy(self.average_precision[chosen]),
                        first_rank=torch.from_numpy(self.first_rank[chosen]),
                        last_rank=torch.from_numpy(self.last_rank[chosen]),
                        positives=torch.from_numpy(self.positives[chosen]),
                        max_rank=max(RANKS),
                    )
                )
                for chosen in (self.trial == trial for trial in np.unique(self.trial))
            ]
        )


@dataclass(frozen=True)
class Evaluation:
    """All rows of one evaluation.

    Attributes:
        rows: in the order of the table.
        run: plain values that identify the evaluation, such as {"seed": 0}.
    """

    rows: Sequence[QueryResults]
    run: Mapping[str, object] = field(default_factory=dict)


def pack_queries(evaluation: Evaluation, precision: type = np.float64) -> bytes:
    """Make the contents of a file; equal evaluations give equal bytes.

    Args:
        evaluation: the results.
        precision: type of the average precisions. With float64 means keep their last bit; float16
            takes a quarter of the space and moves a mean by at most 0.025 percent points.
    """
    queries: dict[tuple[str, ...], int] = {}
    columns: dict[str, list[np.ndarray]] = {name: [np.empty(0, np.int64)] for name in COLUMNS}
    for number, row in enumerate(evaluation.rows):
        names = zip(row.path.tolist(), row.person.tolist(), row.camera.tolist(), strict=True)
        indices = [queries.setdefault((row.dataset, *each), len(queries)) for each in names]
        columns["row"].append(np.full(len(indices), number))
        columns["step"].append(np.array(indices, dtype=np.int64))
        for name in ("trial", "average_precision", "first_rank", "last_rank", "positives"):
            columns[name].append(getattr(row, name))
    about = {
        "format": FORMAT,
        "version": VERSION,
        "run": dict(evaluation.run),
        "rows": [
            {"dataset": row.dataset, "name": row.row, "plain": row.plain} for row in evaluation.rows
        ],
        "queries": {name: [query[index] for query in queries] for index, name in enumerate(NAMES)},
    }
    text = json.dumps(about, ensure_ascii=False, separators=(",", ":")).encode()
    precisions: np.ndarray = np.concatenate(columns.pop("average_precision")).astype(precision)
    whole = {name: np.concatenate(parts) for name, parts in columns.items()}
    whole["step"] = np.diff(whole["step"], prepend=0)  # nearly always 1
    arrays = {"about": np.frombuffer(text, dtype=np.uint8)}
    arrays |= {name: _smallest(values) for name, values in whole.items()}
    arrays["average_precision"] = precisions
    return _zipped(arrays)


def _zipped(arrays: Mapping[str, np.ndarray]) -> bytes:
    """Write as np.savez_compressed, but by LZMA: names of files take a tenth of the space."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_LZMA) as archive:
        for name, values in arrays.items():
            with archive.open(f"{name}.npy", "w") as entry:
                np.lib.format.write_array(entry, values, allow_pickle=False)
    return file.getvalue()


def write_queries(path: Path, evaluation: Evaluation, precision: type = np.float64) -> None:
    """Write a file atomically; see :func:`pack_queries`."""
    contents = pack_queries(evaluation, precision)
    write_atomically(path, lambda file: file.write(contents))


def read_queries(path: Path) -> Evaluation:
    """Read a file with the contents of :func:`pack_queries`.

    Raises:
        InputError: there is no such file, it is damaged, or it is of a format or a version that
            this function does not know.
    """
    contents = read_bytes(path)
    try:
        with zipfile.ZipFile(io.BytesIO(contents)) as archive:
            damaged = archive.testzip()
        if damaged:
            raise zipfile.BadZipFile(damaged)
        with np.load(io.BytesIO(contents), allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        about = json.loads(arrays.pop("about").tobytes())
    # A damaged file makes zipfile and numpy raise nearly anything.
    except Exception as error:
        raise InputError(
            f"{path}: expected results of each query, found a damaged file or one of another kind "
            f"({type(error).__name__})"
        ) from error
    about = about if isinstance(about, dict) else {}
    kind, version = about.get("format"), about.get("version")
    if (kind, version) != (FORMAT, VERSION):
        raise InputError(
            f"{path}: format {kind!r}, version {version!r}; expected {FORMAT!r}, {VERSION}"
        )
    if why := _misfit(about, arrays):
        raise InputError(f"{path}: {why}")
    return Evaluation(_rows(about, arrays), about["run"])


def _smallest(values: np.ndarray) -> np.ndarray:
    """Convert whole numbers to the smallest type that holds them."""
    low, high = int(values.min(initial=0)), int(values.max(initial=0))
    return values.astype(np.promote_types(np.min_scalar_type(low), np.min_scalar_type(high)))


def _misfit(about: dict, arrays: dict[str, np.ndarray]) -> str | None:
    """Say which part of a file's contents is not as the head of this module says; None if none."""
    keys = {"format", "version", "run", "rows", "queries"}
    if about.keys() != keys:
        return f"about has the keys {sorted(about)}, expected {sorted(keys)}"
    if arrays.keys() != set(COLUMNS):
        return f"has the columns {sorted(arrays)}, expected {sorted(COLUMNS)}"
    if not isinstance(about["run"], dict):
        return "run is no mapping"
    rows, queries = about["rows"], about["queries"]
    kinds = {"dataset": str, "name": str, "plain": bool}
    if not isinstance(rows, list) or not all(
        isinstance(row, dict)
        and row.keys() == kinds.keys()
        and all(isinstance(row[key], kind) for key, kind in kinds.items())
        for row in rows
    ):
        return f"rows: expected a list of mappings with {', '.join(kinds)}"
    if not (
        isinstance(queries, dict)
        and queries.keys() == set(NAMES)
        and all(isinstance(names, list) for names in queries.values())
        and all(isinstance(name, str) for names in queries.values() for name in names)
        and len({len(names) for names in queries.values()}) == 1
    ):
        return f"queries: expected lists of text of one length, {', '.join(NAMES)}"
    if len({array.shape for array in arrays.values()}) != 1 or arrays["row"].ndim != 1:
        return "the columns differ in length"
    for name, array in arrays.items():
        letters = {"average_precision": "f", "step": "iu"}.get(name, "u")
        if array.dtype.kind not in letters:
            return f"column {name}: of type {array.dtype}"
    limits = {"row": (arrays["row"], len(rows)), "step": (_indices(arrays), len(queries["path"]))}
    for name, (values, number) in limits.items():
        if not ((values >= 0) & (values < number)).all():
            return f"column {name}: leads to {values.max()}, but there are {number}"
    counted = arrays["positives"] > 0
    for name in ("first_rank", "last_rank"):
        if not np.array_equal(arrays[name] > 0, counted):
            return f"column {name}: above 0 elsewhere than positives"
    if (arrays["first_rank"] > arrays["last_rank"]).any():
        return "column first_rank: above last_rank"
    precisions = arrays["average_precision"]
    if not np.array_equal(~np.isnan(precisions), counted):
        return "column average_precision: a number elsewhere than positives are above 0"
    if not ((precisions[counted] >= 0) & (precisions[counted] <= 1)).all():
        return "column average_precision: a number outside 0 to 1"
    return None


def _indices(arrays: dict[str, np.ndarray]) -> np.ndarray:
    return np.cumsum(arrays["step"].astype(np.int64))


def _rows(about: dict, arrays: dict[str, np.ndarray]) -> list[QueryResults]:
    names = {key: np.array(values, dtype=str) for key, values in about["queries"].items()}
    rows = []
    for number, row in enumerate(about["rows"]):
        chosen = arrays["row"] == number
        indices = _indices(arrays)[chosen]
        rows.append(
            QueryResults(
                dataset=row["dataset"],
                row=row["name"],
                plain=row["plain"],
                trial=arrays["trial"][chosen].astype(np.int64),
                average_precision=arrays["average_precision"][chosen].astype(np.float64),
                **{key: names[key][indices] for key in ("path", "person", "camera")},
                **{
                    key: arrays[key][chosen].astype(np.int64)
                    for key in ("first_rank", "last_rank", "positives")
                },
            )
        )
    return rows
