"""Wait for the processes of a run, one for each rank: forward signals, name a killed process."""

import multiprocessing.connection
import os
import pickle
import signal
import time
from multiprocessing.process import BaseProcess

from torch.multiprocessing import ProcessContext, ProcessRaisedException

from plugins.errors import RunFailed
from plugins.interrupts import NUDGE, STOP, Interrupted, StopSignals

LOST = 75  # exit status of a rank whose connection to another broke; the other reports why
LOST_RANK = (
    "the connection to another rank broke, as that one has ended; --resume goes on from the newest "
    "checkpoint"
)
STOPPED = {128 + number for number in STOP}  # exit statuses of a rank that a signal ended
LOOK = 0.2  # seconds between two checks for a signal
GRACE = 2.0  # seconds in which ranks notice by themselves that another one has ended
PATIENCE = 10.0  # seconds that they have to end after that
SAVING = 120.0  # seconds that they have after a signal, because they may save


def wait_for_ranks(context: ProcessContext, first_rank: int, world_size: int) -> None:
    """Wait until all processes of this machine have ended; a failing one ends the others.

    The first signal is forwarded to all of them; a second one ends them at once.

    Args:
        context: holds the processes, in the order of their ranks.
        first_rank: rank of the first of them.
        world_size: number of ranks on all machines.

    Raises:
        Interrupted: a signal ended the processes.
        RunFailed: a process was killed, or a rank on another machine has ended.
        ProcessRaisedException: an exception ended a process.
        SystemExit: a process ended with a status of its own.
    """
    processes = context.processes
    ours: set[BaseProcess] = set()  # processes that this one has killed
    with StopSignals() as stop:
        passed_on, failed_at, nudged = False, None, False
        while alive := [process for process in processes if process.is_alive()]:
            multiprocessing.connection.wait([process.sentinel for process in alive], LOOK)
            if stop.signal is not None and not passed_on:
                send(alive, stop.signal)
                passed_on = True
            codes = {process.exitcode for process in processes} - {None, 0}
            if not codes:
                continue
            failed_at = failed_at or time.monotonic()
            waited = time.monotonic() - failed_at
            stopping = stop.signal is not None or codes & STOPPED
            if not nudged and (stopping or waited > GRACE):
                send(alive, NUDGE)
                nudged = True
            if waited > (SAVING if stopping else GRACE + PATIENCE):
                ours |= set(alive)
                send(alive, signal.SIGKILL)
    conclude(processes, context.error_files, ours, stop.signal, first_rank, world_size)


def send(processes: list[BaseProcess], number: int) -> None:
    """Send a signal to the processes that are still alive."""
    for process in processes:
        if process.is_alive():
            assert process.pid is not None
            os.kill(process.pid, number)


def conclude(
    processes: list[BaseProcess],
    error_files: list[str],
    ours: set[BaseProcess],
    number: int | None,
    first_rank: int,
    world_size: int,
) -> None:
    """Raise the error that ended the processes; see :func:`wait_for_ranks`.

    Args:
        processes: processes that have all ended.
        error_files: files in which torch.multiprocessing leaves the traceback of each.
        ours: processes that were killed because they outlived another.
        number: signal that this process has received.
        first_rank: rank of the first process.
        world_size: number of ranks on all machines.
    """
    codes = [process.exitcode or 0 for process in processes]
    if not any(codes):
        return
    for rank, (process, code) in enumerate(zip(processes, codes, strict=True), start=first_rank):
        if code < 0 and process not in ours:
            raise RunFailed(killed(rank, world_size, process, -code), status=128 - code)
    stopped = [code - 128 for code in codes if code in STOPPED]
    if number is not None or stopped:
        # Rank 0 has said what it saved, unless it could not save.
        said = first_rank > 0 or codes[0] in STOPPED
        raise Interrupted(number or stopped[0], "" if said else None)
    for index, (process, file) in enumerate(zip(processes, error_files, strict=True)):
        if os.path.exists(file):
            with open(file, "rb") as trace:
                message = f"\n\n-- Rank {first_rank + index} ended with:\n{pickle.load(trace)}"
            raise ProcessRaisedException(message, index, process.pid or 0)
    others = [code for code in codes if code not in (0, LOST) and code > 0]
    if others:
        raise SystemExit(others[0])
    raise RunFailed(f"rank {first_rank + codes.index(LOST)} of {world_size}: {LOST_RANK}")


def killed(rank: int, world_size: int, process: BaseProcess, number: int) -> str:
    """Describe in one line a process that a signal killed."""
    name = signal.Signals(number).name
    why = ", as the system does where memory runs out" if name == "SIGKILL" else ""
    return (
        f"rank {rank} of {world_size} (process {process.pid}) was killed by {name}{why}; the other "
        "ranks were ended; --resume goes on from the newest checkpoint"
    )
