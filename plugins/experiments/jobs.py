"""Run many runs, some at a time; a failing run or a signal costs the others nothing."""

import contextlib
import os
import signal
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path

from tqdm import tqdm

from plugins.errors import InputError
from plugins.evaluation import Evaluation
from plugins.experiments.processes import Job, keep_only_final, start
from plugins.experiments.runs import Run
from plugins.interrupts import StopSignals

# Seconds that a process has to end after SIGTERM: a training ends its iteration and saves.
PATIENCE = 60.0


def execute(
    runs: list[Run],
    train_net: Path,
    jobs: int,
    threads: int,
    finished: Callable[[dict, Evaluation | None], None],
) -> tuple[dict[str, str], int | None]:
    """Run all runs, ``jobs`` at a time; a failing run is reported and stops no other.

    SIGINT and SIGTERM end the processes, which save first and are resumed the next time. A second
    signal ends them at once.

    Args:
        runs: runs to execute.
        train_net: path of the training tool.
        jobs: processes at a time.
        threads: OMP threads of each process.
        finished: receives the record of every run as it ends, and the results of each query.

    Returns:
        (reason of each failed run, the signal that stopped the command or None).
    """
    waiting, failures = deque(runs), {}
    running: list[Job] = []

    @contextlib.contextmanager
    def failing(run: Run) -> Iterator[None]:
        try:
            yield
        except InputError as error:
            failures[str(run)] = str(error)
            tqdm.write(f"failed: {run}: {error}", file=sys.stderr)
            bar.update()

    def record(run: Run) -> None:
        results = None
        with failing(run):
            results = run.result(), run.queries()
        if results:
            finished(*results)  # what cannot be recorded ends everything
            keep_only_final(run.folder)
            bar.update()

    def kill() -> None:
        for job in running:
            _signal_group(job.process, signal.SIGKILL)

    with StopSignals(at_once=kill) as stop, tqdm(total=len(runs), unit="run") as bar:
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
            if running and stop.signal is not None:
                tqdm.write(
                    f"stopping: {len(running)} runs save what they have; a second signal ends them "
                    "at once",
                    file=sys.stderr,
                )
            end([job.process for job in running])
    return failures, stop.signal


def wait_for_some(running: list[Job], stop: StopSignals) -> list[Job]:
    """Wait for the first process to end, or for a signal; return the ended jobs."""
    while running and stop.signal is None:
        if ended := [job for job in running if job.process.poll() is not None]:
            return ended
        stop.event.wait(0.2)
    return []


def end(processes: list[subprocess.Popen]) -> None:
    """End processes with their children: SIGTERM first, then SIGKILL."""
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
