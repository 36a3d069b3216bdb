"""Blocks of code in README.md and docs/."""

import re
from pathlib import Path
from typing import NamedTuple

import yaml

ROOT = Path(__file__).resolve().parents[2]
FENCE = re.compile(r'^```(\w*)(?: title="([^"]+)")?\n(.*?)^```', re.M | re.S)


class Block(NamedTuple):
    """A block of code: its page, its language, the file that it is to be, if any, and its text."""

    page: str
    kind: str
    file: str
    text: str


def pages() -> list[str]:
    """The README and the pages of docs/, in the order in which they are read."""
    nav = yaml.load((ROOT / "mkdocs.yml").read_text(), Loader=yaml.BaseLoader)["nav"]
    return ["README.md", *(f"docs/{page}" for page in flat(nav))]


def flat(entry: object) -> list[str]:
    """The pages of a part of mkdocs' navigation."""
    if isinstance(entry, str):
        return [entry]
    parts = entry.values() if isinstance(entry, dict) else entry
    return [page for part in parts for page in flat(part)]


def blocks(page: str) -> list[Block]:
    text = (ROOT / page).read_text(encoding="utf-8")
    return [Block(page, kind, file, body) for kind, file, body in FENCE.findall(text)]
