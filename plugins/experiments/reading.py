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
import re
from collections.abc import Callable
from pathlib import Path

import yaml
from fastreid.config import CfgNode

from plugins.config import check_values, flatten, merge, one_line, read_yaml, setup_cfg
from plugins.data.datasets.wrapped import chain
from plugins.errors import InputError
from plugins.evaluation.queries import METRICS
from plugins.evaluation.table import COLUMNS
from plugins.experiments.plan import Ablation, Contrast, Dataset, FurtherTest, Row
from plugins.registry import BACKBONE, HEADS, LOSS, META_ARCH, STEP, TEMPORAL, lookup, nearest
from plugins.synthetic import HITSZ_VCM, LAYOUTS, PRESETS, SyntheticSettings

KEYS = ("config", "dataset", "tests", "metrics", "primary", "seeds", "options", "rows")
OPTIONAL_KEYS = ("tests", "primary", "options")
# "{seed}" or "{seed+100}" in a value.
SEED = re.compile(r"\{seed(?: *\+ *(\d+))?\}")
# A run sets these itself.
OWN_KEYS = ("SEED", "OUTPUT_DIR", "TEST.EVAL_PERIOD", "TEST.EXPECTED_RESULTS")
# Those that name a registered part.
PART_KEYS = {
    "MODEL.META_ARCHITECTURE": META_ARCH,
    "MODEL.BACKBONE.NAME": BACKBONE,
    "MODEL.HEADS.NAME": HEADS,
    "MODEL.TEMPORAL.NAME": TEMPORAL,
    "SOLVER.STEP": STEP,
}


def read_ablation(file: Path, name: str | None = None) -> Ablation:
    """Read and check a file: keys, values and names of parts of every row, before any run starts.

    What only a built model or a read data set tells, such as the directions of ``metrics``, fails
    in a run.

    Args:
        file: the YAML file.
        name: of its logs and its results; None for the file's.

    Raises:
        InputError: names the file and the key.
    """
    tree = _load(file)
    _check_keys(tree, KEYS, f"{file}")
    for key in KEYS:
        if key not in tree and key not in OPTIONAL_KEYS:
            raise InputError(f"{file}: key '{key}' is missing")
    seeds = _read_seeds(tree["seeds"], f"{file}: seeds")

    @functools.cache
    def of_seed(seed: int) -> Ablation:
        return _read_tree(file, name, at_seed(tree, seed), seeds, at)

    def at(seed: int) -> Ablation:
        return of_seed(seed if at_seed(tree, seed) != tree else seeds[0])

    return at(seeds[0])


def _read_tree(
    file: Path, name: str | None, tree: dict, seeds: tuple[int, ...], at: Callable[[int], Ablation]
) -> Ablation:
    config = str(tree["config"])
    options = _mapping(tree.get("options") or {}, f"{file}: options")
    rows = {
        str(name): _read_row(file, config, options, str(name), row, seeds)
        for name, row in _mapping(tree["rows"], f"{file}: rows").items()
    }
    if not rows:
        raise InputError(f"{file}: rows: there is none")
    ablation = Ablation(
        file=file,
        name=name or file.stem,
        config=config,
        dataset=_read_dataset(tree["dataset"], f"{file}: dataset"),
        metrics=_read_metrics(tree["metrics"], f"{file}: metrics"),
        rows=rows,
        tests={
            str(name): _read_test(config, str(name), test, f"{file}: tests.{name}")
            for name, test in _mapping(tree.get("tests") or {}, f"{file}: tests").items()
        },
        primary=(),
        at=at,
    )
    names = ablation.tested_on()
    if len(set(names)) < len(names):
        raise InputError(f"{file}: tests: {', '.join(names)}; expected different names")
    for task, metric in ablation.metrics if len(names) > 1 else ():
        _choice(task.partition("/")[0], names, f"{file}: metrics: {task}/{metric}: no data set")
    primary = _read_primary(tree.get("primary") or [], ablation, f"{file}: primary")
    return dataclasses.replace(ablation, primary=primary)


def at_seed(value: object, seed: int) -> object:
    """A value of a YAML file with a seed's number for "{seed}"; alone it is a whole number.

    >>> at_seed({"seed": "{seed}", "path": "logs/seed{seed+1}.pth", "T": [8]}, 3)
    {'seed': 3, 'path': 'logs/seed4.pth', 'T': [8]}
    """
    if isinstance(value, dict):
        return {key: at_seed(each, seed) for key, each in value.items()}
    if isinstance(value, list):
        return [at_seed(each, seed) for each in value]
    if not isinstance(value, str):
        return value
    text = SEED.sub(lambda match: str(seed + int(match[1] or 0)), value)
    return int(text) if SEED.fullmatch(value) else text


def _load(file: Path) -> dict:
    if not file.is_file():
        raise InputError(f"{file}: no such file")
    try:
        tree = yaml.safe_load(file.read_text())
    except yaml.YAMLError as error:
        raise InputError(f"{file}: not YAML: {one_line(error)}") from error
    return _mapping(tree, str(file))


def _mapping(value: object, source: str) -> dict:
    if not isinstance(value, dict):
        raise InputError(f"{source}: found {value!r}, expected KEY: VALUE lines")
    return value


def _check_keys(tree: dict, known: tuple[str, ...], source: str) -> None:
    for key in tree:
        if key not in known:
            choices = ", ".join(nearest(str(key), list(known)))
            raise InputError(f"{source}: no key '{key}'; known: {choices}")


def _choice(name: str, choices: list[str], why: str) -> None:
    """Raise InputError unless ``name`` is one of ``choices``."""
    if name not in choices:
        raise InputError(f"{why} '{name}'; known: {', '.join(nearest(str(name), choices))}")


def _check_name(name: str, source: str) -> None:
    if not re.fullmatch(r"\w[\w.-]*", name):
        raise InputError(f"{source}: expected a name of letters, digits, '_', '-' and '.'")


def _read_row(
    file: Path, config: str, options: dict, name: str, row: dict | None, seeds: tuple[int, ...]
) -> Row:
    source = f"{file}: rows.{name}"
    _check_name(name, source)
    row = _mapping(row, source)
    _check_keys(row, ("description", "seeds", "overrides"), source)
    overrides = _mapping(row.get("overrides") or {}, f"{source}.overrides")

    base = read_yaml(config)
    cfg = setup_cfg(config)
    merge(cfg, options, f"{file}: options")
    merge(cfg, overrides, f"{source}.overrides")
    _check_cfg(cfg, source)
    named = [dict(flatten(tree)) for tree in (base, options, overrides)]
    for key in OWN_KEYS:
        if any(key in tree for tree in named[1:]):
            raise InputError(f"{file}: {key} is set by the tool, for each run")
    if not cfg.DATASETS.TESTS:
        raise InputError(f"{source}: DATASETS.TESTS names no data set; expected one or more")
    values = dict(flatten(yaml.safe_load(cfg.dump())))  # plain, as JSON gives them back
    everything = {key for tree in named for key in tree} - set(OWN_KEYS)
    return Row(
        name=name,
        description=str(row.get("description") or ""),
        overrides={key: values[key] for key in named[2]},
        options={key: values[key] for key in {**named[1], **named[2]}},
        settings={key: values[key] for key in sorted(everything)},
        epochs=cfg.SOLVER.MAX_EPOCH,
        seeds=_read_seeds(row["seeds"], f"{source}.seeds") if "seeds" in row else seeds,
        tests=tuple(cfg.DATASETS.TESTS),
        files=tuple(
            file
            for name in cfg.DATASETS.NAMES
            for reader in chain(name, cfg).values()
            if hasattr(reader, "files")
            for file in reader.files(cfg)
        ),
    )


def _check_cfg(cfg: CfgNode, source: str) -> None:
    try:
        check_values(cfg)
        values = dict(flatten(cfg))
        for key, registry in PART_KEYS.items():
            lookup(registry, values[key], key)
        for name in cfg.MODEL.LOSSES.NAME:
            lookup(LOSS, name, "MODEL.LOSSES.NAME")
    except InputError as error:
        raise InputError(f"{source}: {error}") from error


def _read_dataset(tree: object, source: str) -> Dataset:
    tree = _mapping(tree, source)
    _check_keys(tree, ("name", "render"), source)
    name = tree.get("name")
    if not (isinstance(name, str) and re.fullmatch(r"\w[\w.-]*", name)):
        raise InputError(f"{source}.name: found {name!r}, expected letters, digits, '_-.'")
    if tree.get("render") is None:
        return Dataset(name, None)
    return _read_render(name, tree["render"], f"{source}.render")


def _read_render(name: str, render: object, source: str) -> Dataset:
    render = dict(_mapping(render, source))
    fields = [field.name for field in dataclasses.fields(SyntheticSettings)]
    _check_keys(render, ("layout", "preset", *fields), source)
    chosen = {"layout": render.pop("layout", HITSZ_VCM.name)}
    chosen["preset"] = render.pop("preset", "bench")
    for key, known in (("layout", LAYOUTS), ("preset", PRESETS)):
        _choice(chosen[key], list(known), f"{source}.{key}: no {key}")
    settings = dataclasses.replace(PRESETS[chosen["preset"]], **render)
    return Dataset(name, settings, chosen["layout"])


def _read_test(config: str, name: str, tree: object, source: str) -> FurtherTest:
    _check_name(name, source)
    tree = _mapping(tree, source)
    _check_keys(tree, ("render", "options"), source)
    options = _mapping(tree.get("options") or {}, f"{source}.options")
    cfg = setup_cfg(config)
    merge(cfg, options, f"{source}.options")
    _check_cfg(cfg, source)
    render, keys = tree.get("render"), [key for key, _ in flatten(options)]
    for key in (*OWN_KEYS, "MODEL.WEIGHTS", *(["DATASETS.TESTS"] if render else [])):
        if key in keys:
            raise InputError(f"{source}.options: {key} is set by the tool, for each run")
    if isinstance(render, list) and render:
        parts = [
            _read_render(name, part, f"{source}.render.{number}")
            for number, part in enumerate(render, start=1)
        ]
    else:
        parts = [_read_render(name, render, f"{source}.render") if render else Dataset(name, None)]
    values = dict(flatten(yaml.safe_load(cfg.dump())))
    return FurtherTest(name, tuple(parts), {key: values[key] for key in keys})


def _read_metrics(names: object, source: str) -> tuple[tuple[str, str], ...]:
    if not (isinstance(names, list) and names):
        raise InputError(f"{source}: found {names!r}, expected a list such as [I2V/Rank-1]")
    pairs = []
    for name in names:
        direction, _, metric = str(name).rpartition("/")
        if not direction or metric not in COLUMNS:
            known = ", ".join(nearest(metric, list(COLUMNS)))
            raise InputError(f"{source}: '{name}'; expected DIRECTION/METRIC, with one of {known}")
        pairs.append((direction, metric))
    return tuple(pairs)


def _read_primary(contrasts: object, ablation: Ablation, source: str) -> tuple[Contrast, ...]:
    if not isinstance(contrasts, list):
        raise InputError(f"{source}: found {contrasts!r}, expected a list of comparisons")
    rows, datasets, read = list(ablation.rows), ablation.tested_on(), []
    for number, tree in enumerate(contrasts, start=1):
        place = f"{source}.{number}"
        fields = [field.name for field in dataclasses.fields(Contrast)]
        _check_keys(_mapping(tree, place), tuple(fields), place)
        contrast = {"against": rows[0], **({"dataset": datasets[0]} if len(datasets) == 1 else {})}
        contrast |= {key: str(value) for key, value in tree.items()}
        for key in fields:
            if key not in contrast:
                raise InputError(f"{place}: key '{key}' is missing")
        for key, known in (("row", rows), ("against", rows), ("dataset", datasets)):
            _choice(contrast[key], known, f"{place}.{key}: no {key}")
        _choice(contrast["metric"].rpartition("/")[2], list(METRICS), f"{place}.metric: no metric")
        read.append(Contrast(**contrast))
    return tuple(read)


def _read_seeds(seeds: object, source: str) -> tuple[int, ...]:
    whole = isinstance(seeds, list) and all(type(seed) is int and seed >= 0 for seed in seeds)
    if not (whole and seeds and len(set(seeds)) == len(seeds)):
        raise InputError(f"{source}: found {seeds!r}, expected different whole numbers from 0")
    return tuple(seeds)
