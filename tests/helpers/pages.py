"""Blocks of code in README.md and docs/, and processes that run them without importing anew."""

import multiprocessing
import os
import re
import runpy
import sys
from pathlib import Path
from typing import NamedTuple

import yaml

ROOT = Path(__file__).resolve().parents[2]
FENCE = re.compile(r'^```(\w*)(?: title="([^"]+)")?\n(.*?)^```', re.M | re.S)
# What a process of a command imports first, done once for all of them.
PRELOADED = ["plugins", "plugins.engine", "plugins.robustness.report", "plugins.inference"]


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


def run(words: list[str], folder: Path, environment: dict[str, str]) -> tuple[int, str]:
    """Run a Python file with arguments in a folder; return exit status and output.

    The process is forked from one that has imported the package, which saves most of its time.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    log = folder / "output.txt"
    process = context.Process(target=_be_script, args=(words, str(folder), environment, str(log)))
    process.start()
    process.join()
    assert process.exitcode is not None
    return process.exitcode, log.read_text(encoding="utf-8", errors="replace")


def _be_script(words: list[str], folder: str, environment: dict[str, str], log: str) -> None:
    """Become a process that runs a file as its main program."""
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(output, 1)
    os.dup2(output, 2)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    sys.argv = words
    sys.path.insert(0, os.path.dirname(os.path.abspath(words[0])))
    runpy.run_path(words[0], run_name="__main__")
