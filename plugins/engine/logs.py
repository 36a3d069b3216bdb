"""What a run says of itself: versions, command line, settings, in few lines.

The terminal shows what differs from run to run; log.txt also holds what only a search for a defect
needs. fastreid's own lines stay but for these: its version, which it does not know, its print of
the whole network, its time of an iteration (``hooks.MetricPrinter``), and "images" where clips are
meant.
"""

import functools
import importlib.metadata
import io
import json
import logging
import platform
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from fastreid.config import CfgNode
from fastreid.utils.collect_env import collect_env_info
from fastreid.utils.logger import setup_logger
from torch import nn

from plugins.compat import FASTREID_VERSION
from plugins.config import default_cfg, flatten
from plugins.config.user_code import import_plugins
from plugins.errors import IN_FILE, shown, without_traceback

logger = logging.getLogger(__name__)

HOME = Path(__file__).resolve().parents[2]
DISTRIBUTION = "fastreid-plugins"
_told_full: set[str] = set()  # files of logs that take no more
INFERENCE = logging.getLogger("fastreid.evaluation.evaluator")  # of inference_on_dataset


def start_logs(folder: str, rank: int) -> None:
    """Let fastreid and this package log into a folder's log.txt and, on rank 0, on the terminal."""
    for name in ("fastreid", "plugins"):
        setup_logger(folder, distributed_rank=rank, name=name)
        for handler in logging.getLogger(name).handlers:
            stream = getattr(handler, "stream", None)
            # Its encoding may lack letters of a name.
            if isinstance(stream, io.TextIOWrapper) and stream.errors == "strict":
                stream.reconfigure(errors="backslashreplace")
            if stream is sys.stdout:
                handler.addFilter(shown)
            elif isinstance(file := getattr(stream, "name", None), str):
                tell_full_once(handler, file)
    logging.getLogger("fastreid.engine.train_loop").addFilter(without_traceback)


def tell_full_once(handler: logging.Handler, file: str) -> None:
    """Let a handler whose file takes no more say so once, not by a traceback for each record.

    Args:
        handler: writes into a file.
        file: its name. Handlers of one file tell it once in all.
    """
    usual = handler.handleError

    def handle(record: logging.LogRecord) -> None:
        error = sys.exc_info()[1]
        if not isinstance(error, OSError):
            usual(record)
        elif file not in _told_full:
            _told_full.add(file)
            why = error.strerror or error
            sys.stderr.write(f"{file}: cannot be written: {why}; lines of the log are lost\n")

    handler.handleError = handle  # type: ignore[method-assign]


def introduce(cfg: CfgNode, rank: int, size: int) -> None:
    """Log who runs what: versions, command line, processes, settings.

    Args:
        cfg: of the run.
        rank: number of this process.
        size: number of processes.
    """
    logger.info("%s", versions())
    logger.info("Command: %s", command_line())
    logger.info("Environment:\n%s", environment(), extra=IN_FILE)
    if size > 1:
        logger.info("Rank %d of %d processes", rank, size)
    settings = "\n".join(f"  {key}: {value}" for key, value in changed_settings(cfg))
    logger.info("Settings that differ from the defaults:\n%s", settings)


def versions() -> str:
    """Write the versions that decide a result, and the commit of this package."""
    commit = git_state()
    parts = [
        f"{DISTRIBUTION} {own_version()}" + (f" ({commit})" if commit else ""),
        f"fastreid {FASTREID_VERSION}",
        f"torch {torch.__version__}",
        f"Python {platform.python_version()}",
    ]
    return ", ".join(parts)


@functools.cache
def git_state() -> str:
    """Write the commit of this checkout and whether files differ from it; of a wheel, its origin.

    Returns:
        Such as "commit 1a2b3c4d5e6f, with changes"; empty where nothing is known.
    """
    if (HOME / ".git").exists():
        commit = _git("rev-parse", "--short=12", "HEAD")
        changes = _git("status", "--porcelain", "--untracked-files=no")
        return f"commit {commit}{', with changes' if changes else ''}" if commit else ""
    return _installed_commit()


def _git(*words: str) -> str:
    try:
        return subprocess.run(
            ["git", "-C", str(HOME), *words], capture_output=True, text=True, timeout=20, check=True
        ).stdout.strip()
    except (OSError, subprocess.SubprocessError):  # no git, or a checkout of another user
        return ""


def _installed_commit() -> str:
    """Return the commit that pip noted when it installed from a repository; else nothing."""
    try:
        noted = importlib.metadata.distribution(DISTRIBUTION).read_text("direct_url.json")
    except importlib.metadata.PackageNotFoundError:
        return ""
    commit = json.loads(noted or "{}").get("vcs_info", {}).get("commit_id", "")
    return f"commit {commit[:12]}" if commit else ""


def own_version() -> str:
    """Return the version of this package."""
    try:
        return importlib.metadata.version(DISTRIBUTION)
    except importlib.metadata.PackageNotFoundError:  # a checkout that was not installed
        source = (HOME / "plugins/__init__.py").read_text(encoding="utf-8")
        return re.findall(r'__version__ = "(.+)"', source)[0]


def command_line() -> str:
    """Write the command line of this process, as a shell takes it."""
    return " ".join([sys.argv[0], shlex.join(sys.argv[1:])]).strip()


def environment() -> str:
    """Describe machine and packages as fastreid does, with its true version."""
    return re.sub(
        r"^(fastreid +)\S+( @)", rf"\g<1>{FASTREID_VERSION}\g<2>", collect_env_info(), flags=re.M
    )


def changed_settings(cfg: CfgNode) -> list[tuple[str, Any]]:
    """List the keys whose values are not the defaults, those of the user's own parts included."""
    defaults = dict(flatten(default_cfg(import_plugins(cfg.PLUGINS))))
    return [
        (key, value)
        for key, value in flatten(cfg)
        if key not in defaults or _list_of(value) != _list_of(defaults[key])
    ]


def _list_of(value: Any) -> Any:
    """Return a list for a tuple, which a config file may spell either way."""
    return list(value) if isinstance(value, tuple) else value


def describe_model(model: nn.Module) -> str:
    """Write the name of a network and the number of its parameters."""
    total = sum(parameter.numel() for parameter in model.parameters())
    return f"{type(model).__name__}, {total / 1e6:.2f} million parameters"


class _Renamed(logging.Filter):
    """Write what is counted in a line of fastreid's inference by its own name."""

    def __init__(self, items: str) -> None:
        super().__init__()
        self._items = items

    def filter(self, record: logging.LogRecord) -> bool:
        record.msg = re.sub(r"( inference on \d+) images$", rf"\1 {self._items}", str(record.msg))
        return True


@contextmanager
def counting(items: str) -> Iterator[None]:
    """Let fastreid's inference count ``items``, such as "clips", inside this block."""
    renamed = _Renamed(items)
    INFERENCE.addFilter(renamed)
    try:
        yield
    finally:
        INFERENCE.removeFilter(renamed)
