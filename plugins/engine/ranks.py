"""The processes of a run, one a rank: passes signals on to them, and says which one was killed."""

import multiprocessing.connection
import os
import pickle
import signal
import time
from multiprocessing.process import BaseProcess

from torch.multiprocessing import ProcessContext, ProcessRaisedException

from plugins.errors import RunFailed
from plugins.interrupts import NUDGE, STOP, Interrupted, StopSignals

LOST = 75  # exit status of a rank whose connection to another broke: that one has more to say
LOST_RANK = (
    "the connection to another rank broke, as that one has ended; --resume goes on from the newest "
    "checkpoint"
)
STOPPED = {128 + number for number in STOP}  # exit statuses of a rank that a signal ended
LOOK = 0.2  # seconds between two looks for a signal
GRACE = 2.0  # seconds in which ranks find out by themselves that another one has ended
PATIENCE = 10.0  # seconds that they have to end after that
SAVING = 120.0  # seconds that they have if a signal ended one, as they may save


def wait_for_ranks(context: ProcessContext, first_rank: int, world_size: int) -> None:
    """Wait until all processes of this machine have ended; one that fails ends the others.

    A signal is passed on to all of them once; a second one ends them at once.

    Args:
        context: of the processes, in the order of their ranks.
        first_rank: rank of the first of them.
        world_size: number of ranks on all machines.

    Raises:
        Interrupted: a signal ended them.
        RunFailed: the system or somebody killed one, or one on another machine has ended.
        ProcessRaisedException: an exception ended one.
        SystemExit: one ended with a status of its own.
    """
    processes = context.processes
    ours: set[BaseProcess] = set()  # whom we have killed
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
    """Signal those that are still there."""
    for process in processes:
        if process.is_alive():
            os.kill(process.pid, number)


def conclude(
    processes: list[BaseProcess],
    error_files: list[str],
    ours: set[BaseProcess],
    number: int | None,
    first_rank: int,
    world_size: int,
) -> None:
    """Raise what ended processes that did not end well; see :func:`wait_for_ranks`.

    Args:
        processes: all have ended.
        error_files: where torch.multiprocessing puts the traceback of each.
        ours: those that were killed for not ending after another had.
        number: of the signal that this process has got.
        first_rank: rank of the first process.
        world_size: number of ranks on all machines.
    """
    codes = [process.exitcode for process in processes]
    if not any(codes):
        return
    for rank, process in enumerate(processes, start=first_rank):
        if process.exitcode < 0 and process not in ours:
            raise RunFailed(killed(rank, world_size, process), status=128 - process.exitcode)
    stopped = [code - 128 for code in codes if code in STOPPED]
    if number is not None or stopped:
        # Rank 0 has said what it saved, if it came to that.
        said = first_rank > 0 or codes[0] in STOPPED
        raise Interrupted(number or stopped[0], "" if said else None)
    for index, (process, file) in enumerate(zip(processes, error_files, strict=True)):
        if os.path.exists(file):
            with open(file, "rb") as trace:
                message = f"\n\n-- Rank {first_rank + index} ended with:\n{pickle.load(trace)}"
            raise ProcessRaisedException(message, index, process.pid)
    others = [code for code in codes if code not in (0, LOST) and code > 0]
    if others:
        raise SystemExit(others[0])
    raise RunFailed(f"rank {first_rank + codes.index(LOST)} of {world_size}: {LOST_RANK}")


def killed(rank: int, world_size: int, process: BaseProcess) -> str:
    """One line on a process that a signal killed."""
    name = signal.Signals(-process.exitcode).name
    why = ", as the system does where memory runs out" if name == "SIGKILL" else ""
    return (
        f"rank {rank} of {world_size} (process {process.pid}) was killed by {name}{why}; the other "
        "ranks were ended; --resume goes on from the newest checkpoint"
    )
