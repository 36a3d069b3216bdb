"""SIGINT (Ctrl-C) and SIGTERM: the first one ends a command in order, a second one at once.

Python answers SIGINT with a traceback of whatever runs at the moment, and SIGTERM ends it without a
clean-up. Here both become ``Interrupted``, which unwinds to the command; or a loop notes them and
ends itself where its state is whole.
"""

import atexit
import contextlib
import functools
import multiprocessing
import multiprocessing.util
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

STOP = (signal.SIGINT, signal.SIGTERM)
# As SIGTERM, but never a second signal; the process that started the ranks of a run sends it.
NUDGE = getattr(signal, "SIGUSR1", signal.SIGTERM)
_muted = False
# Seconds in which signals count as one: a launcher may pass on what all its processes have got.
SAME = 1.0


class Interrupted(KeyboardInterrupt):
    """A signal asked this process to end.

    Attributes:
        number: of the signal.
        kept: what is kept and how to go on, a line; None leaves that to the command, an empty one
            says nothing, as where another process has said it.
    """

    def __init__(self, number: int, kept: str | None = None) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number
        self.kept = kept

    @property
    def status(self) -> int:
        """Exit status that shells expect: 130 after SIGINT, 143 after SIGTERM."""
        return 128 + self.number


class StopSignals:
    """Catches SIGINT and SIGTERM inside its block; blocks may lie inside each other.

    The first signal is noted, so that it strikes between no two statements, or raises Interrupted.
    A second one, SAME seconds later or more, ends the process and its children at once. A signal
    that the process was started to ignore stays ignored; outside the main thread nothing is caught.

    Attributes:
        signal: the first that came, or None.
        event: set then.
    """

    # Of the process, whose blocks share it: number and time of the first signal.
    _first: tuple[int, float] | None = None
    _depth = 0
    numbers: tuple[signal.Signals, ...] = STOP  # what is caught

    def __init__(
        self, *, raising: bool = False, at_once: Callable[[], object] | None = None
    ) -> None:
        """Catch nothing before the block.

        Args:
            raising: raise Interrupted instead of noting the signal.
            at_once: ends what the process has started, before a second signal ends the process;
                processes of ``multiprocessing`` end without it.
        """
        self.event = threading.Event()
        self.signal: int | None = None
        self._raising = raising
        self._at_once = at_once
        self._before: dict[int, object] = {}
        self._pid = os.getpid()

    def __enter__(self) -> "StopSignals":
        """Catch them."""
        if StopSignals._depth == 0:
            StopSignals._first = None
        StopSignals._depth += 1
        if threading.current_thread() is threading.main_thread():
            for number in StopSignals.numbers:
                if signal.getsignal(number) is not signal.SIG_IGN:
                    self._before[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *exception: object) -> None:
        """Put the handlers back; a command that a signal ends keeps them to its very end."""
        StopSignals._depth -= 1
        if StopSignals._depth or not self._raising or StopSignals._first is None:
            for number, handler in self._before.items():
                signal.signal(number, handler)

    @staticmethod
    def received() -> int | None:
        """The first signal of all blocks that lie inside each other, or None."""
        return StopSignals._first[0] if StopSignals._first else None

    @contextlib.contextmanager
    def raising(self) -> Iterator[None]:
        """Raise Interrupted for a signal that comes inside, or that was noted before."""
        if self.signal is not None:
            raise Interrupted(self.signal)
        before, self._raising = self._raising, True
        try:
            yield
        finally:
            self._raising = before

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() != self._pid:  # a child that was forked just now
            return end_quietly(number, frame)
        if number == NUDGE:
            if StopSignals._first is not None:
                return
            number = signal.SIGTERM
        if StopSignals._first is not None:
            if time.monotonic() - StopSignals._first[1] >= SAME:
                self._leave(number)
            return
        StopSignals._first = (number, time.monotonic())
        self.signal = number
        self.event.set()
        if self._raising:
            raise Interrupted(number)

    def _leave(self, number: int) -> None:
        """End at once, without clean-up; files are whole all the same, as after a kill."""
        with contextlib.suppress(Exception):
            if self._at_once:
                self._at_once()
        for child in multiprocessing.active_children():
            child.kill()
        name = signal.Signals(number).name
        os.write(2, f"ended at once by a second {name}; what was saved before is kept\n".encode())
        os._exit(128 + number)


@contextlib.contextmanager
def held_back() -> Iterator[None]:
    """Hold signals back inside; a process started there holds them back until it is ready."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, (*STOP, NUDGE))
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def catch_as_rank(rank: int) -> None:
    """Prepare a process that is one rank of a run: it can be nudged, and rank 0 speaks for all."""
    global _muted
    _muted = rank > 0
    StopSignals.numbers = (*STOP, NUDGE)


def end_quietly(number: int, frame: FrameType | None = None) -> None:
    """Handle a signal in a child: Ctrl-C is its parent's affair; SIGTERM ends it without a word."""
    if number == signal.SIGTERM:
        raise SystemExit(128 + number)


def ignore_signals() -> None:
    """Ignore signals in a worker process, whose parent ends it; it starts in ``held_back``."""
    for number in STOP:
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, (*STOP, NUDGE))


def shield_loader_worker(worker: int = 0) -> None:
    """Start a worker of a DataLoader, which its parent needs to the end of an iteration.

    Clusters and terminals signal all processes of a command, and a worker that such a signal ended
    would be an error in the parent. So SIGINT is ignored, and of SIGTERM the first.
    """

    def once(number: int, frame: FrameType | None) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, once)


def shielded_workers(number: int) -> dict[str, Any]:
    """Return the options of a DataLoader whose workers are shielded, and end with this process.

    Args:
        number: of workers; 0 loads in this process.
    """
    if number:
        _kill_workers_at_exit()
    return {"num_workers": number, "worker_init_fn": shield_loader_worker}


@functools.cache
def _kill_workers_at_exit() -> None:
    """Kill the shielded workers that are left when this process ends; no loop needs them then.

    ``multiprocessing`` sends them one SIGTERM, which they ignore, and would wait for ever.
    """

    def kill() -> None:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # torch's handler raises an error for each
        for child in multiprocessing.active_children():
            if child.daemon:
                child.kill()

    # Hooks run in reverse: registered after the one of multiprocessing.util, this one runs first.
    atexit.register(kill)


def tell_interrupted(stop: KeyboardInterrupt, kept: str) -> int:
    """Say on stderr by what a command was interrupted and what is kept; gives its exit status."""
    if not isinstance(stop, Interrupted):
        stop = Interrupted(signal.SIGINT)
    words = kept if stop.kept is None else stop.kept
    if words and not _muted:
        sys.stderr.write(f"interrupted by {stop}: {words}\n")
    return stop.status


@contextlib.contextmanager
def quiet_import() -> Iterator[None]:
    """Make a Ctrl-C inside, which no handler catches yet, one line instead of a traceback.

    Only the word on a script's end changes: what catches KeyboardInterrupt is served as ever.
    """
    before = sys.excepthook

    def hook(kind: type[BaseException], error: BaseException, trace: object) -> None:
        if issubclass(kind, KeyboardInterrupt):
            sys.stderr.write("interrupted by SIGINT: nothing was begun\n")
        else:
            before(kind, error, trace)

    sys.excepthook = hook
    yield
    sys.excepthook = before
