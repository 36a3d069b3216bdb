"""Turn an evaluator's rows into results that name each query.

Legend: I items of query + gallery, N queries over all trials.
"""

import os
from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np
from fastreid.evaluation import DatasetEvaluator

from plugins.data import datasets_root
from plugins.data.datasets.tracklet import as_tracklet
from plugins.evaluation.queries import QueryResults
from plugins.evaluation.vvi_evaluator import EvaluatedSet, SearchedTrial


def name_queries(
    dataset_name: str, dataset: EvaluatedSet, evaluator: DatasetEvaluator, rows: Iterable[str]
) -> list[QueryResults]:
    """Build the results of each query of a data set.

    Args:
        dataset_name: in DATASETS.TESTS.
        dataset: whose ``query + gallery`` was evaluated.
        evaluator: after its ``evaluate``, on the main process.
        rows: names of the table's rows, in its order.

    Returns:
        One per row that the evaluator kept in ``searched``, as a VVIEvaluator keeps all of them.
    """
    searched = getattr(evaluator, "searched", {})
    if not searched:
        return []
    names = item_names([*dataset.query, *dataset.gallery], datasets_root())
    plain = evaluator.plain_rows()
    return [
        QueryResults(dataset_name, row, row in plain, **_columns(searched[row], names))
        for row in rows
        if row in searched
    ]


def item_names(items: Sequence[tuple], root: str) -> dict[str, np.ndarray]:
    """Name the items of a data set, the same on every machine.

    Args:
        items: tracklets or fastreid's images.
        root: folder of all data sets.

    Returns:
        "path" (I,): the first file, from ``root`` on where it lies there, "/" between folders; of
        several items that begin with one file the further ones end in "#2", "#3", ...; "person"
        and "camera" (I,), as the data set numbers them.
    """
    paths, people, cameras = [], [], []
    seen: Counter[str] = Counter()
    for item in map(as_tracklet, items):
        path = _below(item.img_paths[0], root)
        seen[path] += 1
        paths.append(path if seen[path] == 1 else f"{path}#{seen[path]}")
        people.append(str(item.pid))
        cameras.append(str(item.camid))
    columns = {"path": paths, "person": people, "camera": cameras}
    return {name: np.array(values, dtype=str) for name, values in columns.items()}


def _below(path: str, root: str) -> str:
    inside = os.path.relpath(path, root)
    outside = inside == os.pardir or inside.startswith(os.pardir + os.sep)
    return (os.path.abspath(path) if outside else inside).replace(os.sep, "/")


def _columns(trials: list[SearchedTrial], names: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    rows = np.concatenate([trial.rows for trial in trials])
    rankings = {
        name: np.concatenate([getattr(trial.ranking, name).cpu().numpy() for trial in trials])
        for name in ("average_precision", "first_rank", "last_rank", "positives")
    }
    numbers = [np.full(len(trial.rows), number) for number, trial in enumerate(trials)]
    chosen = {name: values[rows] for name, values in names.items()}
    return {"trial": np.concatenate(numbers), **chosen, **rankings}
