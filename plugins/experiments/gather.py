"""Gather the metrics and the results of each query of a finished run, on all its data sets.

Of a test in several parts, such as one for each site, a block holds the means over the parts, which
count as trials of one search: each part weighs the same.
"""

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np

from plugins.engine.output_folder import EVALUATION, EVALUATION_QUERIES, QUERIES, RESULTS
from plugins.errors import InputError
from plugins.evaluation import Evaluation, QueryResults, read_queries
from plugins.experiments.datasets import Dataset, FurtherTest
from plugins.experiments.plan import Ablation, Row
from plugins.experiments.records import read_scores
from plugins.experiments.stages import Stage, single

ATTACKS = "TEST.ATTACKS"
Blocks = dict[str, dict]


def gather_blocks(
    ablation: Ablation, row: Row, folder: Path, stages: list[Stage]
) -> dict[str, Blocks]:
    """Gather the metrics of a run, by data set and by row of its table.

    Args:
        ablation: names the data sets.
        row: row of the ablation that was run.
        folder: folder of the run.
        stages: finished evaluations of the run.

    Raises:
        InputError: a file lacks results.
    """
    saved = read_scores(folder / RESULTS)["results"]
    names = ablation.trained_on(row)
    if len(saved) != len(names):
        raise InputError(
            f"{folder / RESULTS}: results of {', '.join(saved)}; expected {', '.join(names)}"
        )
    attacked = bool(row.settings.get(ATTACKS))
    gathered = {
        name: _named(blocks, attacked)
        for name, blocks in zip(names.values(), saved.values(), strict=True)
    }
    for test, parts in _by_test(stages):
        if len(parts) > 1:
            rows = _joined(test, [stage.folder / EVALUATION_QUERIES for stage in parts])
            blocks = {each.row: each.block() for each in rows}
        else:
            blocks = single(parts[0].scores()["results"], parts[0].folder / EVALUATION)
        gathered[test.name] = _named(blocks, bool(test.options.get(ATTACKS, attacked)))
    return gathered


def gather_queries(
    ablation: Ablation, row: Row, folder: Path, stages: list[Stage]
) -> Evaluation | None:
    """Gather the results of each query, with the names of data sets and rows as in the blocks.

    Returns:
        None for a run of an older version, which kept only means.
    """
    if not (folder / QUERIES).is_file():
        return None
    training = read_queries(folder / QUERIES)
    attacked = bool(row.settings.get(ATTACKS))
    datasets = dict.fromkeys(each.dataset for each in training.rows)
    rows: list[QueryResults] = []
    for dataset, name in zip(datasets, ablation.trained_on(row).values(), strict=True):
        trained = [each for each in training.rows if each.dataset == dataset]
        rows += _renamed(trained, name, attacked)
    for test, parts in _by_test(stages):
        joined = _joined(test, [stage.folder / EVALUATION_QUERIES for stage in parts])
        rows += _renamed(joined, test.name, bool(test.options.get(ATTACKS, attacked)))
    return Evaluation(rows, {key: training.run[key] for key in ("seed", "epochs")})


def attack_names(names: Iterable[str]) -> dict[str, str]:
    """Rename rows under attack: with one direction alone, a row is named by its attack.

    >>> attack_names(["Q2G", "Q2G+FNA"]), attack_names(["I2V", "V2I"])
    ({'Q2G': 'clean', 'Q2G+FNA': 'FNA'}, {'I2V': 'I2V', 'V2I': 'V2I'})
    """
    names = list(names)
    directions = {name.split("+")[0] for name in names}
    if len(directions) != 1 or not directions <= set(names):
        return {name: name for name in names}
    return {name: name.partition("+")[2] or "clean" for name in names}


def _named(blocks: dict, attacked: bool) -> Blocks:
    blocks = {name: block for name, block in blocks.items() if isinstance(block, dict)}
    names = attack_names(blocks) if attacked else dict.fromkeys(blocks)
    return {names[name] or name: block for name, block in blocks.items()}


def _renamed(rows: list[QueryResults], dataset: str, attacked: bool) -> list[QueryResults]:
    names = attack_names(row.row for row in rows) if attacked else {}
    return [replace(row, dataset=dataset, row=names.get(row.row, row.row)) for row in rows]


def _by_test(stages: list[Stage]) -> list[tuple[FurtherTest, list[Stage]]]:
    tests = {stage.test.name: stage.test for stage in stages}
    return [
        (test, [stage for stage in stages if stage.test.name == name])
        for name, test in tests.items()
    ]


def _joined(test: FurtherTest, files: list[Path]) -> list[QueryResults]:
    """Join the parts of a test as trials; render seeds tell people of the same number apart."""
    parts = [read_queries(file).rows for file in files]
    if len(parts) == 1:
        return list(parts[0])
    rows = []
    for same in zip(*parts, strict=True):
        if len({row.row for row in same}) != 1:
            raise InputError(f"{files[0].parent.parent}: the parts have different rows")
        columns = {
            "trial": [row.trial + number * 1000 for number, row in enumerate(same)],
            "path": [_prefixed(number, row.path) for number, row in enumerate(same, start=1)],
            "camera": [_prefixed(number, row.camera) for number, row in enumerate(same, start=1)],
            "person": [
                _prefixed(_seed(part), row.person)
                for part, row in zip(test.parts, same, strict=True)
            ],
        }
        for name in ("average_precision", "first_rank", "last_rank", "positives"):
            columns[name] = [getattr(row, name) for row in same]
        arrays = {name: np.concatenate(values) for name, values in columns.items()}
        arrays["trial"] = np.unique(arrays["trial"], return_inverse=True)[1]
        rows.append(replace(same[0], **arrays))
    return rows


def _seed(part: Dataset) -> int:
    assert part.render is not None, "a test with several parts renders them"
    return part.render.seed


def _prefixed(name: int, values: np.ndarray) -> np.ndarray:
    return np.array([f"{name}/{value}" for value in values.tolist()], dtype=str)
