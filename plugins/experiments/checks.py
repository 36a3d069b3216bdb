"""Check the values in an ablation's YAML file; every message names the file and the key."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fastreid.config import CfgNode

from plugins.errors import InputError
from plugins.utils.names import closest_names
from plugins.utils.yaml_files import read_yaml

# "{seed}" or "{seed+100}" in a value.
SEED = re.compile(r"\{seed(?: *\+ *(\d+))?\}")
# Keys that each run sets itself.
OWN_KEYS = ("SEED", "PLUGINS", "OUTPUT_DIR", "TEST.EVAL_PERIOD", "TEST.EXPECTED_RESULTS")


def load_tree(file: Path) -> dict:
    """Read the mapping in a YAML file."""
    return mapping(read_yaml(file), str(file))


def at_seed(value: Any, seed: int) -> Any:
    """Put the number of a seed into a value of a YAML file; "{seed}" alone gives a whole number.

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


def mapping(value: object, source: str) -> dict:
    """Return the value; raise InputError unless it is a mapping."""
    if not isinstance(value, dict):
        raise InputError(f"{source}: found {value!r}, expected KEY: VALUE lines")
    return value


def check_keys(tree: dict, known: tuple[str, ...], source: str) -> None:
    """Raise InputError for an unknown key, with the closest known ones."""
    for key in tree:
        if key not in known:
            choices = ", ".join(closest_names(str(key), list(known)))
            raise InputError(f"{source}: no key '{key}'; known: {choices}")


def check_choice(name: str, choices: list[str], why: str) -> None:
    """Raise InputError unless ``name`` is one of ``choices``."""
    if name not in choices:
        raise InputError(f"{why} '{name}'; known: {', '.join(closest_names(str(name), choices))}")


def check_name(name: str, source: str) -> None:
    """Raise InputError for a name that cannot be that of a folder."""
    if not re.fullmatch(r"\w[\w.-]*", name):
        raise InputError(f"{source}: expected a name of letters, digits, '_', '-' and '.'")


def read_seeds(seeds: Any, source: str) -> tuple[int, ...]:
    """Read a list of different whole numbers from 0."""
    whole = isinstance(seeds, list) and all(type(seed) is int and seed >= 0 for seed in seeds)
    if not (whole and seeds and len(set(seeds)) == len(seeds)):
        raise InputError(f"{source}: found {seeds!r}, expected different whole numbers from 0")
    return tuple(seeds)


def check_cfg(cfg: CfgNode, source: str, check: Callable[[CfgNode], None]) -> None:
    """Raise InputError, with its source, for a config that no run can have.

    Args:
        cfg: config to check.
        source: file and key, for the message.
        check: function that raises InputError for a wrong config.
    """
    try:
        check(cfg)
    except InputError as error:
        raise InputError(f"{source}: {error}") from error
