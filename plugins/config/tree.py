"""The config as a tree of plain values: add keys, look them up, set and check them.

fastreid reads the tree, so its leaves are plain values; what a key takes stands in ``SPECS``.
"""

import copy
import re
from collections.abc import Mapping
from typing import Any

from fastreid.config import CfgNode

from plugins.config.fastreid_keys import FASTREID_KEYS
from plugins.config.key import Key, Value, all_finite
from plugins.config.keys import KEYS
from plugins.config.renamed import new_name
from plugins.errors import InputError
from plugins.utils.names import closest_names
from plugins.utils.values import as_type_of, shortened

# Every key that is described, by its name; ``add_keys`` adds those of a user.
SPECS: dict[str, Key] = {**FASTREID_KEYS, **KEYS}
# Of a key with its sections, as a command line can hold it.
NAME = re.compile(r"[A-Za-z]\w*(\.[A-Za-z]\w*)*")
BASE = "_BASE_"  # in a file, the config that it changes
# Files of a user by the keys that they added.
ADDED_BY: dict[str, str] = {}


def add_keys(cfg: CfgNode, keys: Mapping[str, Key]) -> None:
    """Add keys with their defaults to a config, and what they take to the checks.

    Args:
        cfg: config to extend.
        keys: a Key for each name, such as "MODEL.LOSSES.MINE.WEIGHT"; sections are made.

    Raises:
        InputError: a name is a key or a section already, or lies below a key; or something else is
            given than keys by name.
    """
    if not isinstance(keys, Mapping):
        raise InputError(f"add_keys: {shortened(keys)}; expected {{name: Key(...), ...}}")
    for name, key in keys.items():
        if not isinstance(key, Key):
            raise InputError(
                f"{name}: {shortened(key)}; expected a Key with a default and a meaning, such as "
                "Key(0.5, 'Weight of the loss.', least=0)"
            )
        if not (isinstance(name, str) and NAME.fullmatch(name)):
            raise InputError(
                f"add_keys: {shortened(name)}; expected a name such as MODEL.LOSSES.MINE.WEIGHT"
            )
        *sections, last = name.split(".")
        node = cfg
        for depth, section in enumerate(sections, start=1):
            node = node.setdefault(section, CfgNode())
            if not isinstance(node, CfgNode):
                owner = _owner(".".join(sections[:depth]))
                raise InputError(f"{name}: {section} is a key already{owner}; expected a section")
        if last in node:
            owner = _owner(name)
            raise InputError(f"{name}: there is such a key already{owner}; expected another name")
        node[last] = copy.deepcopy(key.default)
        SPECS[name] = key


def _owner(name: str) -> str:
    """Write who added a key, for a message; empty for a key of fastreid or of this package."""
    return f", of {ADDED_BY[name]}" if name in ADDED_BY else ""


def flatten(tree: Mapping, prefix: str = "") -> list[tuple[str, Any]]:
    """List the leaves of a nested dictionary as (dotted key, value); an empty one is a leaf.

    >>> flatten({"A": {"B": 1}, "C": 2})
    [('A.B', 1), ('C', 2)]
    """
    leaves: list[tuple[str, Any]] = []
    for key, value in tree.items():
        if isinstance(value, dict) and value:
            leaves += flatten(value, f"{prefix}{key}.")
        else:
            leaves.append((f"{prefix}{key}", value))
    return leaves


def plain(value: object) -> Any:
    """Copy a config, or a part of one, as YAML and JSON give it back: dictionaries and lists."""
    if isinstance(value, dict):
        return {key: plain(part) for key, part in value.items()}
    return [plain(part) for part in value] if isinstance(value, list | tuple) else value


def merge(cfg: CfgNode, loaded: Mapping, source: str) -> None:
    """Merge a nested dictionary into ``cfg``, each value as one of its key's type.

    Raises:
        InputError: there is no such key, or the value is of another type; the message names
            ``source`` and the key.
    """
    for key, value in flatten(loaded):
        if value == {} and is_section(cfg, key):
            continue  # a section in which nothing is set
        set_value(cfg, key, value, source)


def set_value(cfg: CfgNode, key: str, value: object, source: str) -> None:
    """Set a key of ``cfg`` to ``value``, as a value of the type that the key has.

    Raises:
        InputError: there is no such key, or the value is of another type, see
            :func:`plugins.utils.values.as_type_of`.
    """
    check_key(cfg, key, source)
    *sections, name = key.split(".")
    for section in sections:
        cfg = cfg[section]
    try:
        cfg[name] = as_type_of(cfg[name], value)
    except ValueError as error:
        raise InputError(f"{source}: {key}: {error}") from error


def check_key(cfg: CfgNode, key: str, source: str) -> None:
    """Raise InputError, with the new name or the closest ones, unless ``key`` is a leaf."""
    above, _, name = key.rpartition(".")
    section = _node(cfg, above) if above else cfg
    if (
        isinstance(section, CfgNode)
        and name in section
        and not (isinstance(section[name], CfgNode) and section[name])
    ):
        return
    if new := new_name(key):
        raise InputError(f"{source}: {key} was renamed to {new}; expected that name")
    if is_section(cfg, key):
        raise InputError(f"{source}: {key} is a section, not a key; expected {key}.NAME VALUE")
    leaves = [leaf for leaf, _ in flatten(cfg)]
    close = ", ".join(closest_names(key[:60], [*leaves, BASE])[:3])
    raise InputError(f"{source}: no config key {shortened(key)}; nearest: {close}")


def is_section(cfg: CfgNode, key: str) -> bool:
    """Tell whether ``key`` names a section of ``cfg``."""
    return isinstance(_node(cfg, key), CfgNode)


def _node(cfg: CfgNode, key: str) -> object:
    """Return the section or the value that a key names; None if there is none."""
    node: object = cfg
    for name in key.split("."):
        node = node.get(name) if isinstance(node, CfgNode) else None
    return node


def check_value(name: str, value: Value) -> None:
    """Raise InputError for a value that a key does not take, wherever the value comes from."""
    if mistake := SPECS[name].mistake(value):
        raise InputError(f"{name}: {shortened(value)}; {mistake}")


def check_values(cfg: CfgNode) -> None:
    """Raise InputError for a value that its key does not take, or values that exclude each other.

    Only what these keys alone decide is checked here; parts check what they need of others.
    """
    for name, value in flatten(cfg):
        if name in SPECS:
            check_value(name, value)
        elif not all_finite(value):
            raise InputError(f"{name}: {shortened(value)}; expected finite numbers")
    temporal = cfg.MODEL.TEMPORAL
    if cfg.TEST.FEATURE != "fused" and (temporal.NAME != "STIG" or not temporal.STIG.RELATION.DIM):
        raise InputError(
            f"TEST.FEATURE: {cfg.TEST.FEATURE} needs a relation beside the appearance; found "
            f"MODEL.TEMPORAL.NAME {temporal.NAME} with MODEL.TEMPORAL.STIG.RELATION.DIM "
            f"{temporal.STIG.RELATION.DIM}; expected STIG and more than 0, or TEST.FEATURE fused"
        )
