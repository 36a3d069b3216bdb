"""Read an ablation's YAML file, and say what is wrong in it.

A file holds ``config`` (what the rows change), ``dataset`` (its name and, if it is rendered, how),
``metrics`` (columns of the table), ``seeds``, ``options`` (overrides of all rows) and ``rows``; and
where they are wanted ``tests`` (name: further data sets to test on, each with ``render``, one
mapping or a list of them, and ``options`` of the evaluation) and ``primary`` (the comparisons for
which the ablation is made: ``row``, ``against``, ``dataset``, ``metric``). A row may have ``seeds``
of its own. "{seed}" in a value, or "{seed+100}", stands for the number of the seed, so that another
seed can have other training people, another site, or other weights to start from.
"""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from pathlib import Path

from fastreid.config import CfgNode

from plugins.config import flatten, merge, read_config, setup_cfg
from plugins.config.tree import plain
from plugins.data.datasets.wrapped import chain
from plugins.engine.checks import Tried, check_run
from plugins.errors import InputError
from plugins.evaluation.queries import METRICS
from plugins.evaluation.table import COLUMNS
from plugins.evaluation.views import options_suffix
from plugins.experiments.checks import (
    OWN_KEYS,
    at_seed,
    check_cfg,
    check_choice,
    check_keys,
    check_name,
    load_tree,
    mapping,
    read_seeds,
)
from plugins.experiments.plan import Ablation, Contrast, Row
from plugins.experiments.reading_sets import read_dataset, read_test
from plugins.utils.names import closest_names

KEYS = ("config", "dataset", "tests", "metrics", "primary", "seeds", "options", "rows")
OPTIONAL_KEYS = ("tests", "primary", "options")


def read_ablation(file: Path, name: str | None = None, plugins: Sequence[str] = ()) -> Ablation:
    """Read and check a file: keys, values and names of parts of every row, before any run starts.

    What only a read data set tells, such as the directions of ``metrics``, fails in a run.

    Args:
        file: the YAML file.
        name: of its logs and its results; None for the file's.
        plugins: modules and files of the user, which every run imports as well.

    Raises:
        InputError: names the file and the key.
    """
    tree = load_tree(file)
    check_keys(tree, KEYS, f"{file}")
    for key in KEYS:
        if key not in tree and key not in OPTIONAL_KEYS:
            raise InputError(f"{file}: key '{key}' is missing")
    seeds = read_seeds(tree["seeds"], f"{file}: seeds")
    bases = functools.cache(functools.partial(_Base, plugins=plugins))

    @functools.cache
    def of_seed(seed: int) -> Ablation:
        return _read_tree(file, name, at_seed(tree, seed), seeds, bases, at)

    def at(seed: int) -> Ablation:
        return of_seed(seed if at_seed(tree, seed) != tree else seeds[0])

    return at(seeds[0])


class _Base:
    """The config that all rows and tests change: read once, as are the models of equal settings."""

    def __init__(self, config: str, plugins: Sequence[str]) -> None:
        self.config = config
        self.named = read_config(config)  # what its files name
        self.tried: Tried = {}
        self._cfg = setup_cfg(config, plugins=plugins)

    def copy(self) -> CfgNode:
        return self._cfg.clone()


def _read_tree(
    file: Path,
    name: str | None,
    tree: dict,
    seeds: tuple[int, ...],
    bases: Callable[[str], _Base],
    at: Callable[[int], Ablation],
) -> Ablation:
    base = bases(str(tree["config"]))
    options = mapping(tree.get("options") or {}, f"{file}: options")
    rows = {
        str(name): _read_row(file, base, options, str(name), row, seeds)
        for name, row in mapping(tree["rows"], f"{file}: rows").items()
    }
    if not rows:
        raise InputError(f"{file}: rows: there is none")
    ablation = Ablation(
        file=file,
        name=name or file.stem,
        config=base.config,
        dataset=read_dataset(tree["dataset"], f"{file}: dataset"),
        metrics=_read_metrics(tree["metrics"], f"{file}: metrics"),
        rows=rows,
        tests={
            str(name): read_test(base.copy(), str(name), test, f"{file}: tests.{name}", base.tried)
            for name, test in mapping(tree.get("tests") or {}, f"{file}: tests").items()
        },
        primary=(),
        at=at,
    )
    names = ablation.tested_on()
    if len(set(names)) < len(names):
        raise InputError(f"{file}: tests: {', '.join(names)}; expected different names")
    for task, metric in ablation.metrics if len(names) > 1 else ():
        check_choice(
            task.partition("/")[0], names, f"{file}: metrics: {task}/{metric}: no data set"
        )
    _check_names_of_results(ablation, options, base)
    primary = _read_primary(tree.get("primary") or [], ablation, f"{file}: primary")
    return dataclasses.replace(ablation, primary=primary)


def _check_names_of_results(ablation: Ablation, options: dict, base: _Base) -> None:
    """Raise InputError for a metric that lacks what the options of a test add to its results."""
    names = ablation.tested_on()
    for name in names:
        cfg = base.copy()
        merge(cfg, options, f"{ablation.file}: options")
        if name in ablation.tests:
            merge(cfg, ablation.tests[name].options, f"{ablation.file}: tests.{name}.options")
        suffix = options_suffix(cfg) if cfg.TEST.EVALUATOR == "VVIEvaluator" else ""
        prefix = f"{name}/" if len(names) > 1 else ""
        for task, metric in ablation.metrics:
            if task.startswith(prefix) and suffix not in task:
                raise InputError(
                    f"{ablation.file}: metrics: {task}/{metric}; with the options of this test its "
                    f"results are named {task}{suffix}/{metric}"
                )


def _read_row(
    file: Path,
    base: _Base,
    options: dict,
    name: str,
    row: dict | None,
    seeds: tuple[int, ...],
) -> Row:
    source = f"{file}: rows.{name}"
    check_name(name, source)
    row = mapping(row, source)
    check_keys(row, ("description", "seeds", "overrides"), source)
    overrides = mapping(row.get("overrides") or {}, f"{source}.overrides")

    cfg = base.copy()
    merge(cfg, options, f"{file}: options")
    merge(cfg, overrides, f"{source}.overrides")
    check_cfg(cfg, source, functools.partial(check_run, processes=1, tried=base.tried))
    named = [dict(flatten(tree)) for tree in (base.named, options, overrides)]
    for key in OWN_KEYS:
        if any(key in tree for tree in named[1:]):
            raise InputError(f"{file}: {key} is set by the tool, for each run")
    if not cfg.DATASETS.TESTS:
        raise InputError(f"{source}: DATASETS.TESTS names no data set; expected one or more")
    values = dict(flatten(plain(cfg)))
    everything = {key for tree in named for key in tree} - set(OWN_KEYS)
    return Row(
        name=name,
        description=str(row.get("description") or ""),
        overrides={key: values[key] for key in named[2]},
        options={key: values[key] for key in {**named[1], **named[2]}},
        settings={key: values[key] for key in sorted(everything)},
        epochs=cfg.SOLVER.MAX_EPOCH,
        seeds=read_seeds(row["seeds"], f"{source}.seeds") if "seeds" in row else seeds,
        tests=tuple(cfg.DATASETS.TESTS),
        plugins=tuple(cfg.PLUGINS),
        files=tuple(
            file
            for name in cfg.DATASETS.NAMES
            for reader in chain(name, cfg).values()
            if hasattr(reader, "files")
            for file in reader.files(cfg)
        ),
    )


def _read_metrics(names: object, source: str) -> tuple[tuple[str, str], ...]:
    if not (isinstance(names, list) and names):
        raise InputError(f"{source}: found {names!r}, expected a list such as [I2V/Rank-1]")
    pairs = []
    for name in names:
        direction, _, metric = str(name).rpartition("/")
        if not direction or metric not in COLUMNS:
            known = ", ".join(closest_names(metric, list(COLUMNS)))
            raise InputError(f"{source}: '{name}'; expected DIRECTION/METRIC, with one of {known}")
        pairs.append((direction, metric))
    return tuple(pairs)


def _read_primary(contrasts: object, ablation: Ablation, source: str) -> tuple[Contrast, ...]:
    if not isinstance(contrasts, list):
        raise InputError(f"{source}: found {contrasts!r}, expected a list of comparisons")
    rows, datasets, read = list(ablation.rows), ablation.tested_on(), []
    for number, tree in enumerate(contrasts, start=1):
        label = f"{source}.{number}"
        fields = [field.name for field in dataclasses.fields(Contrast)]
        check_keys(mapping(tree, label), tuple(fields), label)
        contrast = {"against": rows[0], **({"dataset": datasets[0]} if len(datasets) == 1 else {})}
        contrast |= {key: str(value) for key, value in tree.items()}
        for key in fields:
            if key not in contrast:
                raise InputError(f"{label}: key '{key}' is missing")
        for key, known in (("row", rows), ("against", rows), ("dataset", datasets)):
            check_choice(contrast[key], known, f"{label}.{key}: no {key}")
        check_choice(
            contrast["metric"].rpartition("/")[2], list(METRICS), f"{label}.metric: no metric"
        )
        read.append(Contrast(**contrast))
    return tuple(read)
