"""Names that a page of docs/ writes, and the objects that they stand for."""

import contextlib
import functools
import importlib
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def page(name: str) -> str:
    """The text of a page of docs/."""
    return (ROOT / "docs" / name).read_text(encoding="utf-8")


def resolve(dotted: str) -> object:
    """The object of a dotted name; a function goes before a module of the same name."""
    parts = dotted.split(".")
    for end in range(len(parts) - 1, 0, -1):
        with contextlib.suppress(ModuleNotFoundError, AttributeError):
            module = importlib.import_module(".".join(parts[:end]))
            return functools.reduce(getattr, parts[end:], module)
    return importlib.import_module(dotted)


def table_rows(text: str) -> list[list[str]]:
    """The cells of all rows of the tables in a text, without heads."""
    rows = [line for line in text.splitlines() if line.startswith("|")]
    cells = [[cell.strip() for cell in row.strip("|").split(" | ")] for row in rows]
    heads = {index - 1 for index, row in enumerate(rows) if re.fullmatch(r"[|-]+", row)}
    rules = {head + 1 for head in heads}
    return [row for index, row in enumerate(cells) if index not in heads | rules]


def section(text: str, heading: str) -> str:
    """The text below a heading of the second level, up to the next one."""
    return text.split(f"\n## {heading}\n", 1)[1].split("\n## ", 1)[0]
