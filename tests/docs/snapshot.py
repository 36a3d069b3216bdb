"""What is public, as plain values: ``python -m tests.docs.snapshot`` writes api_snapshot.json.

The names come from docs/api.md. A change of the snapshot is a change of what users rely on.
"""

import functools
import inspect
import json
import re
import types
import typing
from collections.abc import Collection
from pathlib import Path

import plugins
from plugins import registry
from plugins.config.keys import KEYS
from plugins.registry import known
from plugins.robustness.checks import all_checks
from tests.docs.names import ROOT, page, resolve, section, table_rows

FILE = Path(__file__).with_name("api_snapshot.json")
# Numbers, words and choices, whose values are public.
PLAIN = (str, int, float, tuple)


def listed(text: str) -> list[str]:
    """The names in backticks of a text."""
    return re.findall(r"`([\w./-]+)`", text)


def public_names() -> dict[str, list[str]]:
    """The names of each public module: those before the colon of a bullet of the page."""
    modules: dict[str, list[str]] = {}
    for part in section(page("api.md"), "Names in Python").split("\n### ")[1:]:
        heading, _, bullets = part.partition("\n")
        names = (
            listed(bullet.partition(":")[0]) for bullet in re.split(r"^- ", bullets, flags=re.M)
        )
        modules[heading.strip("`")] = [name for each in names for name in each]
    return modules


def registered_names() -> dict[str, list[str]]:
    """The names of the page that a config may give to each registry."""
    rows = table_rows(section(page("api.md"), "Names in a config"))
    return {name.strip("`"): listed(names) for name, names in rows}


def registered_parts() -> dict[str, list[str]]:
    """The parts of this package in each registry."""
    registries = {name: getattr(registry, name) for name in registry.__all__ if name.isupper()}
    return {
        name: [part for part in known(each) if is_ours(each.get(part))]
        for name, each in registries.items()
    }


def is_ours(part: object) -> bool:
    return getattr(part, "__module__", "").startswith(f"{plugins.__name__}.")


def file_formats() -> dict[str, list]:
    """Identifier and version of each file of the page, as the code has them."""
    rows = table_rows(section(page("api.md"), "Files").split("\n\nThese files have no")[0])
    modules = [resolve(row[3].strip("`")) for row in rows]
    return {
        module.__name__: [getattr(module, "SCHEMA", None) or module.FORMAT, module.VERSION]
        for module in modules
    }


def command_options() -> dict[str, list[str]]:
    """The options in the source of each command; those of tools/head.py are common to several."""
    files = sorted((ROOT / "tools").glob("[!_]*.py"))
    return {
        f"tools/{file.name}": sorted(set(re.findall(r'"(--[a-z][a-z-]*)"', file.read_text())))
        for file in files
    }


def signature(function: object) -> str:
    """The signature of a callable without the modules of its types, which differ among Pythons."""
    text = re.sub(r"<(\w+) (?:[\w.]+\.)?(\w+)[^<>]*>", r"<\1 \2>", str(inspect.signature(function)))
    return without_modules(text)


def without_modules(text: str) -> str:
    """Shorten dotted names to their last part."""
    return re.sub(r"\b(?:[A-Za-z_]\w*\.)+(?=[A-Za-z_])", "", text)


def members(part: type, public: Collection[object]) -> dict[str, str]:
    """The public methods and properties of a class, but those that it has from a public class."""
    bases = [
        base for base in part.__mro__ if base is part or (is_ours(base) and base not in public)
    ]
    found: dict[str, str] = {}
    for base in reversed(bases):
        for name, member in vars(base).items():
            if name.startswith("_") and name != "__call__":
                continue
            if isinstance(member, staticmethod | classmethod | types.FunctionType):
                found[name] = signature(getattr(part, name))
            elif hasattr(member, "__get__") and not isinstance(member, type):
                found[name] = "attribute"
    return found


def describe(name: str, part: object, public: Collection[object]) -> dict[str, str]:
    """A name and, of a class, its public methods, each with a signature."""
    if isinstance(part, type) and is_ours(part):
        methods = {
            f"{name}.{method}": text for method, text in sorted(members(part, public).items())
        }
        return {name: signature(part), **methods}
    if isinstance(part, types.ModuleType):
        return {name: "module"}
    if isinstance(part, PLAIN):
        return {name: repr(part)}
    if inspect.isroutine(part) or isinstance(part, functools.partial):
        return {name: signature(part)}
    return {name: without_modules(repr(part)) if typing.get_origin(part) else type(part).__name__}


def snapshot() -> dict:
    """All that is public."""
    names = [f"{module}.{name}" for module, names in public_names().items() for name in names]
    parts = {name: resolve(name) for name in sorted(names)}
    classes = {part for part in parts.values() if isinstance(part, type)}
    described: dict[str, str] = {}
    for name, part in parts.items():
        described |= describe(name, part, classes)
    return {
        "names": described,
        "registered": registered_parts(),
        "keys": sorted(KEYS),
        "files": file_formats(),
        "commands": command_options(),
        "checks": [check.id for check in all_checks() if is_ours(check.answer)],
    }


if __name__ == "__main__":
    FILE.write_text(json.dumps(snapshot(), indent=1) + "\n", encoding="utf-8")
