"""Many runs, some at a time; one that fails, or a signal, costs the others nothing."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path

from tqdm import tqdm

from plugins.errors import InputError
from plugins.evaluation import Evaluation
from plugins.experiments.processes import Job, keep_only_final, start
from plugins.experiments.runs import Run

PATIENCE = 10.0  # seconds that a process has to end after SIGTERM


class StopSignals:
    """Notes SIGINT and SIGTERM inside its block: neither strikes between two statements there.

    Attributes:
        signal: the first that came, or None.
        event: set then.
    """

    def __init__(self) -> None:
        """None came yet."""
        self.event = threading.Event()
        self.signal: int | None = None

    def __enter__(self) -> "StopSignals":
        """Catch them."""
        numbers = (signal.SIGINT, signal.SIGTERM)
        self._before = {number: signal.signal(number, self._note) for number in numbers}
        return self

    def __exit__(self, *exception: object) -> None:
        """Put the handlers back."""
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: object) -> None:
        self.signal = self.signal or number
        self.event.set()


def execute(
    runs: list[Run],
    train_net: Path,
    jobs: int,
    threads: int,
    finished: Callable[[dict, Evaluation | None], None],
) -> tuple[dict[str, str], int | None]:
    """Run all, ``jobs`` at a time; a failing one is told and does not stop the others.

    SIGINT and SIGTERM end the processes; what they have saved is resumed the next time.

    Args:
        runs: what to run.
        train_net: path of the training tool.
        jobs: processes at a time.
        threads: OMP threads of each.
        finished: gets the result of every run as it ends, and what each query found.

    Returns:
        (run to why it failed, the signal that stopped us or None).
    """
    waiting, running, failures = deque(runs), [], {}

    @contextlib.contextmanager
    def failing(run: Run) -> Iterator[None]:
        try:
            yield
        except InputError as error:
            failures[str(run)] = str(error)
            tqdm.write(f"failed: {run}: {error}", file=sys.stderr)
            bar.update()

    def record(run: Run) -> None:
        found = None
        with failing(run):
            found = run.result(), run.queries()
        if found:
            finished(*found)  # what cannot be recorded ends everything
            keep_only_final(run.folder)
            bar.update()

    with StopSignals() as stop, tqdm(total=len(runs), unit="run") as bar:
        try:
            while (waiting or running) and stop.signal is None:
                while waiting and len(running) < jobs:
                    run, state = waiting.popleft(), None
                    with failing(run):
                        state = run.state()
                        if state != "finished":
                            running.append(start(run, train_net, threads))
                    if state == "finished":  # and we were killed before we recorded it
                        record(run)
                bar.set_postfix_str(", ".join(str(job.run) for job in running))
                for job in wait_for_some(running, stop):
                    running.remove(job)
                    with failing(job.run):
                        job.check()
                        waiting.appendleft(job.run)  # to be tested, or recorded
        finally:
            end([job.process for job in running])
    return failures, stop.signal


def wait_for_some(running: list[Job], stop: StopSignals) -> list[Job]:
    """Jobs whose process has ended; waits for the first one, or for a signal."""
    while running and stop.signal is None:
        if ended := [job for job in running if job.process.poll() is not None]:
            return ended
        stop.event.wait(0.2)
    return []


def end(processes: list[subprocess.Popen]) -> None:
    """End processes with their children: SIGTERM, and SIGKILL for what is left."""
    for process in processes:
        _signal_group(process, signal.SIGTERM)
    for process in processes:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(PATIENCE)
        _signal_group(process, signal.SIGKILL)
        process.wait()


def _signal_group(process: subprocess.Popen, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, number)
