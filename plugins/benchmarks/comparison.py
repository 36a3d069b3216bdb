"""Measure two ways to do the same work side by side: time in turn, memory in a process of its own.

A ratio is theirs / ours: above 1 this package is faster, or takes less memory.
"""

import os
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

import faiss
import torch

from plugins.errors import RunFailed

MIB = 1 << 20
CLOCKS: dict[str, Callable[[], float]] = {
    "wall": time.perf_counter,
    "cpu": time.process_time,
    "children": lambda: sum(os.times()[2:4]),
}
STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


class Work(NamedTuple):
    """Two ways to do the same work.

    Attributes:
        ours: does it with this package, and returns its result.
        theirs: does it the other way.
        check: raises AssertionError if two results differ.
    """

    ours: Callable[[], Any]
    theirs: Callable[[], Any]
    check: Callable[[Any, Any], None]


@dataclass(frozen=True)
class Comparison:
    """What is compared, and the ratio that is wanted.

    Attributes:
        name: names the work and its size.
        build: makes inputs and work; a function of a module or a partial of one, so that another
            process can call it.
        target: wanted ratio of times.
        note: what "theirs" is, or what else is to know.
        threads: of each way.
        memory_target: wanted ratio of peak memory; 0 if memory is not measured.
        rounds: how often each way runs.
        clock: "wall", "cpu" for the processor time of the process, or "children" for that of the
            processes that it started and that have ended.
        frames: number that each way processes, of which the note tells how many a second; 0 for
            work that is not counted in frames.
    """

    name: str
    build: Callable[[], Work]
    target: float
    note: str
    threads: int = 1
    memory_target: float = 0.0
    rounds: int = 3
    clock: str = "wall"
    frames: int = 0


def measure(comparison: Comparison, progress: Callable[[], object] = lambda: None) -> list[dict]:
    """Run both ways in turn, check that their results are equal, and measure their memory.

    Args:
        comparison: what to measure.
        progress: called after each run, see ``runs``.

    Returns:
        A row of time in seconds and, if wanted, one of peak memory in MiB.

    Raises:
        RunFailed: the results differ.
    """
    before = torch.get_num_threads(), faiss.omp_get_max_threads()
    set_threads(comparison.threads)
    try:
        rows = [_time(comparison, progress)]
    finally:
        torch.set_num_threads(before[0])
        faiss.omp_set_num_threads(before[1])
    if comparison.memory_target and CLEAR.exists():
        rows.append(_memory(comparison, progress))
    return rows


def runs(comparison: Comparison) -> int:
    """Count the runs of a comparison, for a progress bar."""
    memory = comparison.memory_target and CLEAR.exists()
    return 2 * comparison.rounds + (2 if memory else 0)


def one_thread_clock() -> str:
    """Choose the clock of work on one thread: its processor time, or on a GPU the wall's."""
    return "wall" if torch.cuda.is_available() else "cpu"


def set_threads(number: int) -> None:
    """Set the threads of torch and of faiss."""
    torch.set_num_threads(number)
    faiss.omp_set_num_threads(number)


def _time(comparison: Comparison, progress: Callable[[], object]) -> dict:
    work, clock = comparison.build(), CLOCKS[comparison.clock]
    seconds: dict[str, list[float]] = {"ours": [], "theirs": []}
    for number in range(comparison.rounds):
        results = {}
        for side in seconds:
            start = clock()
            results[side] = getattr(work, side)()
            seconds[side].append(clock() - start)
            progress()
        if number == 0:
            try:
                work.check(results["ours"], results["theirs"])
            except AssertionError as error:
                raise RunFailed(f"{comparison.name}: the two results differ: {error}") from error
    return _row(comparison, seconds, "s" if comparison.clock == "wall" else "CPU s")


def _memory(comparison: Comparison, progress: Callable[[], object]) -> dict:
    megabytes = {}
    for side in ("ours", "theirs"):
        megabytes[side] = [peak_memory(comparison.build, side, comparison.threads)]
        progress()
    return _row(comparison, megabytes, "MiB")


def _row(comparison: Comparison, values: dict[str, list[float]], unit: str) -> dict:
    ours, theirs = (min(values[side]) for side in ("ours", "theirs"))
    target = comparison.memory_target if unit == "MiB" else comparison.target
    ratio = theirs / max(ours, 1e-9)
    note = comparison.note
    if comparison.frames and unit != "MiB":
        rates = [f"{comparison.frames / max(each, 1e-9):.0f}" for each in (ours, theirs)]
        note += f"; {' and '.join(rates)} frames / {unit}"
    return {
        "name": comparison.name,
        "ours": round(ours, 4),
        "theirs": round(theirs, 4),
        "ratio": round(ratio, 3),
        "target": target,
        "met": ratio >= target,
        "unit": unit,
        "note": note,
        "threads": comparison.threads,
        "ours_median": round(statistics.median(values["ours"]), 4),
        "theirs_median": round(statistics.median(values["theirs"]), 4),
    }


def peak_memory(build: Callable[[], Work], side: str, threads: int) -> float:
    """Measure how much memory one way takes at most beyond its inputs, in a new process.

    Args:
        build: as of a ``Comparison``.
        side: "ours" or "theirs".
        threads: as of a ``Comparison``.

    Returns:
        MiB.

    Raises:
        RunFailed: the process ended without an answer.
    """
    context = get_context("spawn")  # a fork would share the memory of this process
    here, there = context.Pipe(duplex=False)
    process = context.Process(target=_send_peak, args=(there, build, side, threads))
    process.start()
    there.close()
    try:
        return here.recv()
    except EOFError:
        raise RunFailed("the process that measures memory ended without an answer") from None
    finally:
        process.join()


def _send_peak(sender: Connection, build: Callable[[], Work], side: str, threads: int) -> None:
    set_threads(threads)
    run = getattr(build(), side)
    CLEAR.write_text("5")  # resets the peak
    before = memory("VmRSS")
    run()
    sender.send((memory("VmHWM") - before) / MIB)


def memory(field: str) -> int:
    """Read a field of the memory of this process, such as VmRSS, in bytes."""
    lines: Iterator[str] = iter(STATUS.read_text().splitlines())
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith(f"{field}:"))
