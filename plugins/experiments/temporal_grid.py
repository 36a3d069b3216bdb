"""A grid of temporal parts and seeds on frozen maps: its file, its runs, its differences."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from fastreid.config import CfgNode
from tabulate import tabulate
from tqdm import tqdm

from plugins.config import check_values, merge, merge_overrides, setup_cfg
from plugins.errors import InputError
from plugins.evaluation import QueryResults
from plugins.experiments.checks import (
    check_choice,
    check_keys,
    check_name,
    load_tree,
    mapping,
    read_seeds,
)
from plugins.experiments.differences import numbers
from plugins.experiments.frozen_maps import frozen_maps, list_sequences
from plugins.experiments.pairing import DatasetResults, compare
from plugins.experiments.processes import current_commit
from plugins.experiments.tables import LEGEND, NUMBER_HEADERS, number_cells
from plugins.experiments.temporal_parts import PartOnMaps, cross_tested, with_classes

KEYS = ("config", "dataset", "seeds", "options", "rows")
METRICS = ("mAP", "Rank-1")
Found = dict[str, list[QueryResults]]  # row -> one for each seed


@dataclass(frozen=True)
class TemporalGrid:
    """A file, read and checked.

    Attributes:
        file: the YAML file.
        config: path of the base config.
        dataset: name of the sequences.
        seeds: of every row.
        cfgs: row -> its config.
        overrides: row -> config key to value, as the row sets them.
        against: row -> the row that is subtracted from it; none of the first row.
    """

    file: Path
    config: str
    dataset: str
    seeds: tuple[int, ...]
    cfgs: dict[str, CfgNode]
    overrides: dict[str, dict]
    against: dict[str, str]


def read_grid(file: Path, opts: Sequence[str] = (), plugins: Sequence[str] = ()) -> TemporalGrid:
    """Read a file, and check the config of every row.

    Args:
        file: the YAML file.
        opts: config keys and values from the command line.
        plugins: modules and files of the user.

    Raises:
        InputError: names the file and the key.
    """
    tree = load_tree(file)
    check_keys(tree, KEYS, f"{file}")
    for key in KEYS:
        if key not in tree:
            raise InputError(f"{file}: key '{key}' is missing")
    rows = mapping(tree["rows"], f"{file}: rows")
    if len(rows) < 2:
        raise InputError(f"{file}: rows: found {len(rows)}, expected two or more")
    cfgs, overrides, against = {}, {}, {}
    first = next(iter(rows))
    for name, row in rows.items():
        source = f"{file}: rows.{name}"
        check_name(str(name), source)
        row = mapping(row, source)
        check_keys(row, ("against", "overrides"), source)
        overrides[name] = mapping(row.get("overrides") or {}, f"{source}.overrides")
        cfg = setup_cfg(str(tree["config"]), plugins=plugins)
        merge(cfg, mapping(tree["options"], f"{file}: options"), f"{file}: options")
        merge(cfg, overrides[name], f"{source}.overrides")
        merge_overrides(cfg, opts)
        check_values(cfg)
        cfgs[name] = cfg
        if name != first:
            against[name] = str(row.get("against", first))
            check_choice(against[name], list(rows), f"{source}.against: no row")
    seeds = read_seeds(tree["seeds"], f"{file}: seeds")
    return TemporalGrid(
        file, str(tree["config"]), str(tree["dataset"]), seeds, cfgs, overrides, against
    )


def run_grid(grid: TemporalGrid, folder: Path) -> dict:
    """Compute the maps, train and test every row with every seed, and compare.

    Args:
        grid: what to run.
        folder: of the sequences.

    Returns:
        Plain values for a JSON file: "metrics" (row, metric, one value for each seed),
        "differences" and what they were made with.
    """
    sequences = list_sequences(folder)
    sources = {PartOnMaps(with_classes(cfg, 2)).source for cfg in grid.cfgs.values()}
    cfg = next(iter(grid.cfgs.values()))
    frozen = frozen_maps(cfg, sequences, tuple(sorted({*sources, "layer4"})))
    found: Found = {name: [] for name in grid.cfgs}
    for seed in tqdm(grid.seeds, unit="seed"):
        for name, row in grid.cfgs.items():
            found[name].append(cross_tested(row, frozen, grid.dataset, seed))
    return {
        "dataset": grid.dataset,
        "config": grid.config,
        "commit": current_commit(),
        "trunk": f"{cfg.MODEL.BACKBONE.TRUNK} {cfg.MODEL.BACKBONE.DEPTH}",
        "people": len({each.person for each in sequences}),
        "sequences": len(sequences),
        "frames": sum(len(each.frames) for each in sequences),
        "seeds": list(grid.seeds),
        "rows": grid.overrides,
        "metrics": {
            name: {metric: [scored(each, metric) for each in of_seeds] for metric in METRICS}
            for name, of_seeds in found.items()
        },
        "differences": differences(grid, found),
    }


def scored(results: QueryResults, metric: str) -> float:
    """Mean of a metric over all queries, percent."""
    return round(float(results.weights() @ results.values(metric)), 4)


def differences(grid: TemporalGrid, found: Found) -> list[dict]:
    """Every row minus the one it is compared with, over people and seeds."""

    def sides(name: str) -> list[DatasetResults]:
        return [
            DatasetResults(f"{name}/seed{seed}", grid.dataset, {each.row: each})
            for seed, each in zip(grid.seeds, found[name], strict=True)
        ]

    return [
        {"row": name, "against": against, "dataset": grid.dataset, "metric": metric}
        | numbers(*compare(sides(name), sides(against), metric))
        for name, against in grid.against.items()
        for metric in METRICS
    ]


def grid_table(results: dict) -> str:
    """Markdown: each row's means over the seeds, and the differences."""
    rows = [
        [f"`{name}`", *(f"{np.mean(values[metric]):.2f}" for metric in METRICS)]
        for name, values in results["metrics"].items()
    ]
    means = tabulate(rows, ["row", *METRICS], tablefmt="pipe", disable_numparse=True)
    lines = [
        [f"`{each['row']}`", f"`{each['against']}`", each["metric"], *number_cells(each)]
        for each in results["differences"]
    ]
    headers = ["row", "against", "metric", *NUMBER_HEADERS]
    grid = tabulate(lines, headers, tablefmt="pipe", disable_numparse=True)
    return f"{means}\n\n{grid}\n\nRow minus against. {LEGEND}\n"
