"""Read the data sets of an ablation's YAML file: what runs train and are tested on."""

import dataclasses
import functools
import re

from fastreid.config import CfgNode

from plugins.config import flatten, merge
from plugins.config.tree import plain
from plugins.engine.checks import Tried, check_evaluation
from plugins.errors import InputError
from plugins.experiments.checks import (
    OWN_KEYS,
    check_cfg,
    check_choice,
    check_keys,
    check_name,
    mapping,
)
from plugins.experiments.datasets import Dataset, FurtherTest
from plugins.synthetic import HITSZ_VCM, LAYOUTS, PRESETS, SyntheticSettings


def read_dataset(tree: object, source: str) -> Dataset:
    """Read the data set that all runs train on."""
    tree = mapping(tree, source)
    check_keys(tree, ("name", "render"), source)
    name = tree.get("name")
    if not (isinstance(name, str) and re.fullmatch(r"\w[\w.-]*", name)):
        raise InputError(f"{source}.name: found {name!r}, expected letters, digits, '_-.'")
    if tree.get("render") is None:
        return Dataset(name, None)
    return read_render(name, tree["render"], f"{source}.render")


def read_test(
    cfg: CfgNode, name: str, tree: object, source: str, tried: Tried | None = None
) -> FurtherTest:
    """Read a further test, whose options are merged into the base config, and must fit it."""
    check_name(name, source)
    tree = mapping(tree, source)
    check_keys(tree, ("render", "options"), source)
    options = mapping(tree.get("options") or {}, f"{source}.options")
    merge(cfg, options, f"{source}.options")
    check_cfg(cfg, source, functools.partial(check_evaluation, tried=tried))
    render, keys = tree.get("render"), [key for key, _ in flatten(options)]
    for key in (*OWN_KEYS, "MODEL.WEIGHTS", *(["DATASETS.TESTS"] if render else [])):
        if key in keys:
            raise InputError(f"{source}.options: {key} is set by the tool, for each run")
    if isinstance(render, list) and render:
        parts = [
            read_render(name, part, f"{source}.render.{number}")
            for number, part in enumerate(render, start=1)
        ]
    else:
        parts = [read_render(name, render, f"{source}.render") if render else Dataset(name, None)]
    values = dict(flatten(plain(cfg)))
    return FurtherTest(name, tuple(parts), {key: values[key] for key in keys})


def read_render(name: str, render: object, source: str) -> Dataset:
    """Read a rendered data set: fields of SyntheticSettings, with ``preset`` and ``layout``."""
    render = dict(mapping(render, source))
    fields = [field.name for field in dataclasses.fields(SyntheticSettings)]
    check_keys(render, ("layout", "preset", *fields), source)
    chosen = {"layout": render.pop("layout", HITSZ_VCM.name)}
    chosen["preset"] = render.pop("preset", "bench")
    for key, known in (("layout", LAYOUTS), ("preset", PRESETS)):
        check_choice(chosen[key], list(known), f"{source}.{key}: no {key}")
    settings = dataclasses.replace(PRESETS[chosen["preset"]], **render)
    return Dataset(name, settings, chosen["layout"])
