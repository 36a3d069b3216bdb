"""Start-up: the help of a command, and the import of the package, each in a new process."""

import subprocess
import sys
from collections.abc import Mapping
from functools import partial
from pathlib import Path

from plugins.benchmarks.comparison import Comparison, Work
from plugins.benchmarks.settings import Settings
from plugins.errors import RunFailed

# fastreid needs the repairs of ``plugins.compat``, and nothing else of this package.
FASTREID = """
import sys, types
sys.modules["plugins"] = package = types.ModuleType("plugins")
package.__path__ = ["plugins"]
import plugins.compat
plugins.compat.install()
import fastreid.engine
"""
ENGINE = "import fastreid.engine, which an import of this package once meant"
ROOT = Path(__file__).resolve().parents[2]


def startup(settings: Settings) -> list[Comparison]:
    """List the comparisons of start-up; without another version, with fastreid's engine."""
    code = [sys.executable, "-c"]
    before = settings.against
    theirs = [*code, FASTREID] if before is None else [*code, "import plugins"]
    help_words = [sys.executable, "tools/train_net.py", "--help"]
    note = ENGINE if before is None else f"the version in {before}"
    rounds = settings.rounds
    return [
        Comparison(
            "train --help",
            partial(
                startup_work,
                [*settings.program, "train", "--help"],
                theirs if before is None else help_words,
                before,
            ),
            target=15.0,
            note=note,
            rounds=rounds,
            clock="children",
        ),
        Comparison(
            "import plugins",
            partial(startup_work, [*code, "import plugins"], theirs, before),
            target=1.25,
            note=note,
            rounds=rounds,
            clock="children",
        ),
    ]


def startup_work(ours: list[str], theirs: list[str], folder: Path | None) -> Work:
    """Prepare to run two command lines, the second in the folder of another version."""
    return Work(partial(run, ours, ROOT), partial(run, theirs, folder or ROOT), succeed)


def run(words: list[str], folder: Path, environment: Mapping[str, str] | None = None) -> int:
    """Run a command line in a folder, and return its exit status.

    Args:
        words: the command line.
        folder: where it runs.
        environment: of the process; None for that of this one.

    Raises:
        RunFailed: it failed.
    """
    done = subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise RunFailed(f"{' '.join(words)[:60]}: {last}")
    return done.returncode


def succeed(ours: int, theirs: int) -> None:
    """Compare exit statuses."""
    assert ours == theirs == 0, f"exit status {ours} and {theirs}"
