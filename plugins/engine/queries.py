"""Turn an evaluator's rows into results that name each query.

Legend: N queries over all trials.
"""

from collections.abc import Iterable

import numpy as np
from fastreid.evaluation import DatasetEvaluator

from plugins.data import datasets_root
from plugins.data.datasets.own_names import item_names
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
    names = item_names(dataset, [*dataset.query, *dataset.gallery], datasets_root())
    plain = evaluator.plain_rows()
    return [
        QueryResults(dataset_name, row, row in plain, **_columns(searched[row], names))
        for row in rows
        if row in searched
    ]


def _columns(trials: list[SearchedTrial], names: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    rows = np.concatenate([trial.rows for trial in trials])
    rankings = {
        name: np.concatenate([getattr(trial.ranking, name).cpu().numpy() for trial in trials])
        for name in ("average_precision", "first_rank", "last_rank", "positives")
    }
    numbers = [np.full(len(trial.rows), number) for number, trial in enumerate(trials)]
    chosen = {name: names[name][rows] for name in ("path", "person", "camera")}
    return {"trial": np.concatenate(numbers), **chosen, **rankings}
