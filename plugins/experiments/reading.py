"""Read an ablation's YAML file, and say what is wrong in it.

A file holds ``config`` (what the rows change), ``dataset`` (its name and, if it is rendered, how),
``metrics`` (columns of the table), ``seeds``, ``options`` (overrides of all rows) and ``rows``.
"""

import dataclasses
import re
from pathlib import Path

import yaml
from fastreid.config import CfgNode

from plugins.config import check_values, flatten, merge, one_line, read_yaml, setup_cfg
from plugins.data.datasets.wrapped import chain
from plugins.errors import InputError
from plugins.evaluation.table import COLUMNS
from plugins.experiments.plan import Ablation, Dataset, Row
from plugins.registry import BACKBONE, HEADS, LOSS, META_ARCH, STEP, TEMPORAL, lookup, nearest
from plugins.synthetic import HITSZ_VCM, LAYOUTS, PRESETS, SyntheticSettings

KEYS = ("config", "dataset", "metrics", "seeds", "options", "rows")
OPTIONAL_KEYS = ("options",)
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
    options = _mapping(tree.get("options") or {}, f"{file}: options")
    rows = {
        str(name): _read_row(file, str(tree["config"]), options, str(name), row)
        for name, row in _mapping(tree["rows"], f"{file}: rows").items()
    }
    if not rows:
        raise InputError(f"{file}: rows: there is none")
    return Ablation(
        file=file,
        name=name or file.stem,
        config=str(tree["config"]),
        dataset=_read_dataset(tree["dataset"], f"{file}: dataset"),
        metrics=_read_metrics(tree["metrics"], f"{file}: metrics"),
        seeds=_read_seeds(tree["seeds"], f"{file}: seeds"),
        rows=rows,
    )


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


def _read_row(file: Path, config: str, options: dict, name: str, row: dict | None) -> Row:
    source = f"{file}: rows.{name}"
    if not re.fullmatch(r"\w[\w.-]*", name):
        raise InputError(f"{source}: expected a name of letters, digits, '_', '-' and '.'")
    row = _mapping(row, source)
    _check_keys(row, ("description", "overrides"), source)
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
    if len(cfg.DATASETS.TESTS) != 1:
        raise InputError(f"{source}: DATASETS.TESTS {cfg.DATASETS.TESTS}, expected one data set")
    values = dict(flatten(yaml.safe_load(cfg.dump())))  # plain, as JSON gives them back
    everything = {key for tree in named for key in tree} - set(OWN_KEYS)
    return Row(
        name=name,
        description=str(row.get("description") or ""),
        overrides={key: values[key] for key in named[2]},
        options={key: values[key] for key in {**named[1], **named[2]}},
        settings={key: values[key] for key in sorted(everything)},
        epochs=cfg.SOLVER.MAX_EPOCH,
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
    render = dict(_mapping(tree["render"], f"{source}.render"))
    fields = [field.name for field in dataclasses.fields(SyntheticSettings)]
    _check_keys(render, ("layout", "preset", *fields), f"{source}.render")
    chosen = {"layout": render.pop("layout", HITSZ_VCM.name)}
    chosen["preset"] = render.pop("preset", "bench")
    for key, known in (("layout", LAYOUTS), ("preset", PRESETS)):
        if chosen[key] not in list(known):
            choices = ", ".join(nearest(str(chosen[key]), list(known)))
            raise InputError(f"{source}.render.{key}: no {key} '{chosen[key]}'; known: {choices}")
    settings = dataclasses.replace(PRESETS[chosen["preset"]], **render)
    return Dataset(name, settings, chosen["layout"])


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


def _read_seeds(seeds: object, source: str) -> tuple[int, ...]:
    whole = isinstance(seeds, list) and all(type(seed) is int and seed >= 0 for seed in seeds)
    if not (whole and seeds and len(set(seeds)) == len(seeds)):
        raise InputError(f"{source}: found {seeds!r}, expected different whole numbers from 0")
    return tuple(seeds)
