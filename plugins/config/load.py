"""Read a config: defaults, plugins, the file with its ``_BASE_`` chain, then the overrides."""

import os
import re
from collections.abc import Iterable, Sequence
from types import ModuleType
from typing import Any

from fastreid.config import CfgNode, get_cfg

from plugins.config.files import find_base, find_config
from plugins.config.keys import KEYS
from plugins.config.tree import BASE, add_keys, check_values, merge, set_value
from plugins.config.user_code import (
    GROUP,
    add_user_keys,
    import_plugins,
    installed_plugins,
    module_name,
    read_names,
    require_asked,
    split_names,
    why_recorded,
)
from plugins.errors import InputError
from plugins.utils.values import shortened
from plugins.utils.yaml_files import read_yaml

PLUGINS = "PLUGINS"
NAME = re.compile(r"[A-Z][A-Z0-9_]*(\.[A-Z0-9_]+)*(=|$)")  # of a key
ASSIGNMENT = re.compile(r"([A-Za-z_][\w.]*)=")


def default_cfg(modules: Iterable[ModuleType] = ()) -> CfgNode:
    """Fastreid's defaults with the keys of this package and of the modules."""
    cfg = get_cfg()
    add_keys(cfg, KEYS)
    add_user_keys(cfg, modules)
    return cfg


def setup_cfg(
    config_file: str = "", opts: Sequence | None = None, plugins: Sequence[str] = ()
) -> CfgNode:
    """Read a config: defaults, then the file with its ``_BASE_`` chain, then the overrides.

    Args:
        config_file: path of a YAML file, here or among the package's, see ``find_config``; empty
            for the defaults.
        opts: keys and values by turns, or KEY=VALUE, as on the command line.
        plugins: modules and files of the user, imported first, as PLUGINS and entry points are.

    Returns:
        A CfgNode, not frozen; its PLUGINS names all modules that were imported.

    Raises:
        InputError: names the file and the key, with the nearest known key; or a key whose value
            no run can have; or a plugin that cannot be imported.
    """
    chain = read_chain(config_file) if config_file else []
    source = chain[0][0] if chain else ""
    sources = choose_plugins(plugins, chain, split_overrides(opts or []))
    cfg = default_cfg(import_plugins(sources))
    merge(cfg, join_chain(chain), source=source)
    merge_overrides(cfg, opts or [])
    cfg.PLUGINS = list(sources)
    check_values(cfg)
    return cfg


def choose_plugins(
    given: Sequence[str], chain: Sequence[tuple[str, dict]], overrides: Sequence[tuple[str, object]]
) -> dict[str, str]:
    """Choose what a command imports: installed plugins, those of --plugins, those of PLUGINS.

    Args:
        given: names on the command line.
        chain: files of the config with what each holds, the config itself first.
        overrides: keys and values of the command line.

    Returns:
        The source of each name, each module once.

    Raises:
        InputError: PLUGINS holds no names, or the folder of a run names code that nobody asked for.
    """
    sources = dict.fromkeys(installed_plugins(), f"entry point of {GROUP}")
    sources |= dict.fromkeys(split_names(given), "--plugins")
    asked = [value for key, value in overrides if key == PLUGINS]
    if asked:
        names = read_names(asked[-1], "command line")
        sources |= dict.fromkeys(names, "command line: PLUGINS")
    elif links := [number for number, (_, tree) in enumerate(chain) if PLUGINS in tree]:
        file, tree = chain[links[0]]
        names = read_names(tree[PLUGINS], file)
        # What the record of a run is based on belongs to the record.
        reasons = [why_recorded(each) for each, _ in chain[: links[0] + 1]]
        if why := next(filter(None, reasons), ""):
            require_asked(names, list(sources), file, why)
            names = [module_name(name) for name in names]
        sources |= dict.fromkeys(names, f"{file}: PLUGINS")
    firsts = {module_name(name): name for name in reversed(sources)}
    return {name: sources[name] for name in reversed(firsts.values())}


def merge_overrides(cfg: CfgNode, words: Sequence) -> None:
    """Set the keys of KEY VALUE and KEY=VALUE overrides in ``cfg``.

    Raises:
        InputError: there is no such key, or a value is missing or of another type.
    """
    for key, value in split_overrides(words):
        set_value(cfg, key, value, source="command line")


def split_overrides(words: Sequence) -> list[tuple[str, Any]]:
    """Split KEY VALUE and KEY=VALUE overrides into pairs.

    Raises:
        InputError: the last key has no value, or there are spaces around a =.

    >>> split_overrides(["SEED", "1", "OUTPUT_DIR=logs/a=b"])
    [('SEED', '1'), ('OUTPUT_DIR', 'logs/a=b')]
    """
    pairs: list[tuple[str, Any]] = []
    rest = list(words)
    while rest:
        key = str(rest.pop(0))
        after = str(rest[0]) if rest else ""
        if after.startswith("=") or (key.endswith("=") and after and not NAME.match(after)):
            name = key.rstrip("=")
            raise InputError(
                f"command line: '{name} =': a space beside the =; expected {name}=VALUE or "
                f"{name} VALUE"
            )
        if joined := ASSIGNMENT.match(key):
            pairs.append((joined[1], key[joined.end() :]))
        elif rest:
            pairs.append((key, rest.pop(0)))
        else:
            raise InputError(
                f"command line: '{key}' has no value; expected KEY VALUE or KEY=VALUE, such as "
                "OUTPUT_DIR logs/run"
            )
    return pairs


def read_config(config_file: str) -> dict:
    """Read the file and its ``_BASE_`` chain as one dictionary; see :func:`read_chain`.

    Raises:
        InputError: a file of the chain cannot be read, or changes a section into a value.
    """
    return join_chain(read_chain(config_file))


def read_chain(config_file: str) -> list[tuple[str, dict]]:
    """Read the file and its ``_BASE_`` chain: each file with what it holds, the file itself first.

    Raises:
        InputError: a file of the chain is missing, is not UTF-8 or not YAML, or the chain does not
            end.
    """
    config_file = find_config(config_file)
    tree, base = read_link(config_file)
    chain = [(config_file, tree)]
    while base:
        if any(os.path.samefile(base, file) for file, _ in chain):
            raise InputError(f"{chain[-1][0]}: its _BASE_ leads back to {base}")
        tree, below = read_link(base)
        chain.append((base, tree))
        base = below
    return chain


def join_chain(chain: Sequence[tuple[str, dict]]) -> dict:
    """Join the files of a chain into one dictionary, in which the first file wins."""
    joined: dict = {}
    for file, tree in reversed(chain):
        joined = inherit(joined, tree, file)
    return joined


def read_link(file: str) -> tuple[dict, str]:
    """Read one file of a chain: its own entries, and its ``_BASE_``'s path, empty without one.

    Raises:
        InputError: the file is not a readable file of KEY: VALUE lines, or its _BASE_ is no file.
    """
    tree = read_yaml(file)
    if not isinstance(tree, dict):
        raise InputError(f"{file}: expected KEY: VALUE lines")
    if BASE not in tree:
        return tree, ""
    base = tree.pop(BASE)
    if not (isinstance(base, str) and base):
        raise InputError(f"{file}: {BASE}: {shortened(base)}; expected the path of one file")
    return tree, find_base(base, file)


def inherit(base: dict, tree: dict, source: str, above: str = "") -> dict:
    """Put the entries of ``tree`` into a copy of ``base``, section by section.

    Args:
        base: what the files below hold.
        tree: what the file holds.
        source: the file, for messages.
        above: sections that hold both, with dots, likewise.

    Raises:
        InputError: a section of ``tree`` is a value in ``base``.
    """
    merged = dict(base)
    for key, value in tree.items():
        if isinstance(value, dict) and key in base:
            if not isinstance(base[key], dict):
                raise InputError(
                    f"{source}: {above}{key} is a section here and a value in its {BASE}; expected "
                    "one of them"
                )
            merged[key] = inherit(base[key], value, source, f"{above}{key}.")
        else:
            merged[key] = value
    return merged
