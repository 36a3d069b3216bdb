"""Show how much of all runs is done, and the time that the rest may take."""

import json
import math
import os
import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import TracebackType

from tqdm import tqdm

from plugins.experiments.processes import Job
from plugins.experiments.runs import Run
from plugins.experiments.signs import METRICS_FILE

FORMAT = "{desc}: {percentage:3.0f}%|{bar}| {elapsed}<{remaining}{postfix}"
TAIL = 1 << 16  # bytes of the metrics' file that hold its last line
PERIOD = 1.0  # seconds between two looks at the files of the runs


class Progress:
    """Show one bar over all runs, in which an epoch is one step, and so is a test after a training.

    The time left follows from the steps that this command has seen: what a run was found to have
    behind it is not counted as its work.
    """

    def __init__(self, runs: Iterable[Run]) -> None:
        """Take the runs that are to be done."""
        self._steps = {str(run): run.row.epochs + len(run.stages()) for run in runs}
        self._done: dict[str, float] = {}
        self._begun: dict[str, float] = {}  # when the process of a run began
        self._ended = 0
        self._next_look = 0.0
        # A log is no terminal: there a line a minute is enough.
        interval = PERIOD if sys.stderr.isatty() else 60
        self._bar = tqdm(
            desc=self._title(),
            total=sum(self._steps.values()),
            bar_format=FORMAT,
            smoothing=0,
            miniters=0,
            mininterval=interval,
        )

    def __enter__(self) -> "Progress":
        """Return itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Leave the bar as it is."""
        self._bar.close()

    def start(self, job: Job) -> None:
        """Count what a run has behind it, once its process has begun."""
        name = str(job.run)
        self._begun[name] = time.time()
        if name not in self._done:
            self._done[name] = 0.0
            self._skip(name, done_before(job))

    def look(self, jobs: Sequence[Job]) -> None:
        """Show how far the running processes are, once in a while."""
        if time.monotonic() < self._next_look:
            return
        self._next_look = time.monotonic() + PERIOD
        for job in jobs:
            name = str(job.run)
            spent: float = done_before(job)
            if not job.stage:
                spent = job.run.row.epochs * share_trained(job.run.folder, self._begun[name])
            self._move(name, max(spent, self._done[name]))
        self._bar.set_postfix_str(", ".join(str(job.run) for job in jobs), refresh=False)
        self._bar.update(0)

    def end(self, run: Run, failed: bool = False) -> None:
        """Count a run that needs nothing more; what a failed one leaves undone is no work."""
        name = str(run)
        left = self._steps[name] - self._done.setdefault(name, 0.0)
        if failed:
            self._skip(name, left)
        else:
            self._move(name, self._steps[name])
        self._ended += 1
        self._bar.set_description_str(self._title())

    def _title(self) -> str:
        return f"{self._ended} of {len(self._steps)} runs"

    def _move(self, name: str, done: float) -> None:
        steps, self._done[name] = done - self._done[name], done
        self._bar.update(steps)

    def _skip(self, name: str, steps: float) -> None:
        self._bar.initial += steps
        self._move(name, self._done[name] + steps)


def done_before(job: Job) -> int:
    """Count the steps before what the process does: for a test, the training and earlier tests."""
    if not job.stage:
        return 0
    stages = [stage.name for stage in job.run.stages()]
    return job.run.row.epochs + stages.index(job.stage.name)


def share_trained(folder: Path, begun: float, now: float | None = None) -> float:
    """Estimate how much of a training is done, from the time left that it logs itself.

    Args:
        folder: OUTPUT_DIR of the training.
        begun: when its process began, in seconds as ``time.time()`` has them.
        now: the time; None for the clock's.

    Returns:
        0 to 1; 0 before the first line of its metrics.
    """
    now = time.time() if now is None else now
    file = folder / METRICS_FILE
    try:
        written = file.stat().st_mtime
        left = float(json.loads(last_line(file))["eta_seconds"])
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        return 0.0
    spent = now - begun
    if written <= begun or spent <= 0 or math.isnan(left):  # of an earlier process, or of no use
        return 0.0
    return spent / (spent + max(left - (now - written), 0.0))


def last_line(file: Path) -> bytes:
    """Read the last whole line of a file; empty without one."""
    with open(file, "rb") as source:
        source.seek(-min(TAIL, os.fstat(source.fileno()).st_size), os.SEEK_END)
        lines = source.read().split(b"\n")
    return lines[-2] if len(lines) > 1 else b""
