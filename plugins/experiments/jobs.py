"""Run many runs, some at a time; a failing run or a signal costs the others nothing."""

import contextlib
import sys
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path

from tqdm import tqdm

from plugins.errors import InputError
from plugins.evaluation import Evaluation
from plugins.experiments.processes import LOCAL, Executor, Job, Process, keep_only_final, start
from plugins.experiments.progress import Progress
from plugins.experiments.runs import Run
from plugins.interrupts import StopSignals

# Seconds that a process has to end: a training ends its iteration and saves.
PATIENCE = 60.0


def execute(
    runs: list[Run],
    train_net: Path,
    jobs: int,
    threads: int,
    finished: Callable[[dict, Evaluation | None], None],
    executor: Executor = LOCAL,
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
        executor: starts the processes, here or on a cluster.

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
            progress.end(run, failed=True)

    def record(run: Run) -> None:
        results = None
        with failing(run):
            results = run.result(), run.queries()
        if results:
            finished(*results)  # what cannot be recorded ends everything
            keep_only_final(run.folder)
            progress.end(run)

    def kill() -> None:
        for job in running:
            job.process.kill()

    with StopSignals(at_once=kill) as stop, Progress(runs) as progress:
        try:
            while (waiting or running) and stop.signal is None:
                while waiting and len(running) < jobs:
                    run, state = waiting.popleft(), None
                    with failing(run):
                        state = run.state()
                        if state != "finished":
                            running.append(start(run, train_net, threads, executor))
                            progress.start(running[-1])
                    if state == "finished":  # and we were killed before we recorded it
                        record(run)
                for job in wait_for_some(running, stop, progress):
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


def wait_for_some(running: list[Job], stop: StopSignals, progress: Progress) -> list[Job]:
    """Wait for the first process to end, or for a signal; return the ended jobs."""
    while running and stop.signal is None:
        progress.look(running)
        if ended := [job for job in running if job.process.poll() is not None]:
            return ended
        stop.event.wait(0.2)
    return []


def end(processes: list[Process]) -> None:
    """End processes with their children: they may save first, but not for ever."""
    for process in processes:
        process.terminate()
    for process in processes:
        process.wait(PATIENCE)
        process.kill()
        process.wait()
