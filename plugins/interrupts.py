"""SIGINT (Ctrl-C) and SIGTERM: the first one ends a command in order, a second one at once.

Python answers SIGINT with a traceback of whatever runs at the moment, and SIGTERM ends it without a
clean-up. Here both become ``Interrupted``, which unwinds to the command; or a loop notes them and
ends itself where its state is whole.
"""

import contextlib
import functools
import multiprocessing
import multiprocessing.util
import os
import signal
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Iterator
from types import FrameType, TracebackType
from typing import Any, TypeVar

Batch = TypeVar("Batch")

STOP = (signal.SIGINT, signal.SIGTERM)
# As SIGTERM, but never a second signal; the process that started the ranks of a run sends it.
NUDGE = getattr(signal, "SIGUSR1", signal.SIGTERM)
_muted = False
# Seconds in which signals count as one: a launcher may pass on a signal that its processes got too.
SAME_SIGNAL = 1.0
# Seconds until a signal is sent again that came where Python can raise nothing.
AGAIN = 0.05


class Interrupted(KeyboardInterrupt):
    """Tell that a signal asked this process to end.

    Attributes:
        number: number of the signal.
        kept: a line that says what is kept and how to go on; None leaves it to the command, and an
            empty one prints nothing, because another process has printed it.
    """

    def __init__(self, number: int, kept: str | None = None) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number
        self.kept = kept

    @property
    def status(self) -> int:
        """The exit status that shells expect: 130 after SIGINT, 143 after SIGTERM."""
        return 128 + self.number


class StopSignals:
    """Catch SIGINT and SIGTERM inside a block; blocks may lie inside each other.

    The first signal is noted, so that it interrupts no statement, or raises Interrupted. A second
    one, SAME_SIGNAL seconds later or more, ends the process and its children at once. A signal that
    the process was started to ignore stays ignored; other threads than the main one catch nothing.

    Attributes:
        signal: number of the first signal, or None before it came.
        event: set once it came.
    """

    # Number and time of the first signal, which all blocks of a process share.
    _first: tuple[int, float] | None = None
    _depth = 0
    numbers: tuple[signal.Signals, ...] = STOP  # the signals that are caught

    def __init__(
        self, *, raising: bool = False, at_once: Callable[[], object] | None = None
    ) -> None:
        """Prepare the block; nothing is caught before it begins.

        Args:
            raising: raise Interrupted instead of noting the signal.
            at_once: ends children of the process before a second signal ends the process itself;
                children that ``multiprocessing`` started end without it.
        """
        self.event = threading.Event()
        self.signal: int | None = None
        self._raising = raising
        self._at_once = at_once
        self._before: dict[int, Any] = {}
        self._pid = os.getpid()
        self._unraisable: Callable | None = None

    def __enter__(self) -> "StopSignals":
        """Begin to catch the signals."""
        if StopSignals._depth == 0:
            StopSignals._first = None
        StopSignals._depth += 1
        if threading.current_thread() is threading.main_thread():
            for number in StopSignals.numbers:
                if signal.getsignal(number) is not signal.SIG_IGN:
                    self._before[number] = signal.signal(number, self._handle)
            self._unraisable, sys.unraisablehook = sys.unraisablehook, self._send_again
        return self

    def __exit__(self, *exception: object) -> None:
        """Restore the handlers; a command that a signal ends keeps ours to its very end."""
        StopSignals._depth -= 1
        if StopSignals._depth or not self._raising or StopSignals._first is None:
            for number, handler in self._before.items():
                signal.signal(number, handler)
            if self._unraisable is not None:
                sys.unraisablehook = self._unraisable

    def _send_again(self, unraisable: "sys.UnraisableHookArgs") -> None:
        """Send a signal again whose Interrupted Python dropped, as in a finalizer or fork hook."""
        assert self._unraisable is not None, "the block has not begun"
        dropped = unraisable.exc_value
        if not isinstance(dropped, Interrupted) or os.getpid() != self._pid:
            self._unraisable(unraisable)
            return
        StopSignals._first = None
        timer = threading.Timer(AGAIN, os.kill, (self._pid, dropped.number))
        timer.daemon = True
        timer.start()

    @staticmethod
    def received() -> int | None:
        """Return the first signal that any of the nested blocks caught, or None."""
        return StopSignals._first[0] if StopSignals._first else None

    @contextlib.contextmanager
    def raising(self) -> Iterator[None]:
        """Raise Interrupted for a signal that comes inside or was noted before."""
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
            if time.monotonic() - StopSignals._first[1] >= SAME_SIGNAL:
                self._leave(number)
            return
        StopSignals._first = (number, time.monotonic())
        self.signal = number
        self.event.set()
        if self._raising:
            raise Interrupted(number)

    def _leave(self, number: int) -> None:
        """End at once, without clean-up; files are still whole, as after a kill."""
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
    """Hold back signals inside the block; a process that starts there does so until it is ready."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, (*STOP, NUDGE))
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def start_workers(loader: Iterable[Batch]) -> Iterator[Batch]:
    """Return the iterator of a DataLoader, whose workers start without an interruption.

    Workers are told to end through queues. A garbage collection would close these before it ends
    the iterator, whose workers would then outlive it; so the queues are kept until it ends them.
    """
    kill_workers_at_exit()
    with held_back():
        iterator = iter(loader)
    if queues := getattr(iterator, "_index_queues", None):  # torch's, where there are workers
        weakref.finalize(iterator, list, queues).atexit = False
    return iterator


def catch_as_rank(rank: int) -> None:
    """Prepare a process that is one rank of a run: it takes nudges, and rank 0 reports for all."""
    global _muted
    _muted = rank > 0
    StopSignals.numbers = (*STOP, NUDGE)


def end_quietly(number: int, frame: FrameType | None = None) -> None:
    """Handle a signal in a child: leave Ctrl-C to the parent, end on SIGTERM without a message."""
    if number == signal.SIGTERM:
        raise SystemExit(128 + number)


def ignore_signals() -> None:
    """Ignore signals in a worker process, whose parent ends it; it starts in ``held_back``."""
    for number in STOP:
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, (*STOP, NUDGE))


def shield_loader_worker(worker: int = 0) -> None:
    """Shield a worker of a DataLoader, which its parent needs to the end of an iteration.

    Clusters and terminals signal all processes of a command, and a worker that such a signal ended
    would be an error in the parent. So the worker ignores SIGINT and the first SIGTERM.
    """

    def ignore_first(number: int, frame: FrameType | None) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, ignore_first)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, (*STOP, NUDGE))  # see start_workers


@functools.cache
def kill_workers_at_exit() -> None:
    """Kill the loader workers that are left when this process ends.

    ``multiprocessing`` sends them one SIGTERM, which they ignore, and would wait forever. A rank
    runs its finalizers at the end, and no function of ``atexit``.
    """

    def kill() -> None:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # torch's makes an error of each
        for child in multiprocessing.active_children():
            if child.daemon:
                child.kill()

    multiprocessing.util.Finalize(None, kill, exitpriority=100)  # before others


def tell_interrupted(stop: KeyboardInterrupt, kept: str) -> int:
    """Write the signal and what is kept to stderr; return the exit status of the command."""
    if not isinstance(stop, Interrupted):
        stop = Interrupted(signal.SIGINT)
    words = kept if stop.kept is None else stop.kept
    if words and not _muted:
        sys.stderr.write(f"interrupted by {stop}: {words}\n")
    return stop.status


@contextlib.contextmanager
def quiet_import() -> Iterator[None]:
    """Turn a Ctrl-C during an import, before any handler, into one line without a traceback.

    Only the message at the end of a script changes: code that catches KeyboardInterrupt does so as
    before.
    """
    before = sys.excepthook

    def hook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        if issubclass(kind, KeyboardInterrupt):
            sys.stderr.write("interrupted by SIGINT: nothing was begun\n")
        else:
            before(kind, error, trace)

    sys.excepthook = hook
    yield
    sys.excepthook = before
