"""Share work among processes."""

import contextlib
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool

from plugins.errors import RunFailed
from plugins.interrupts import held_back, ignore_signals


@contextlib.contextmanager
def worker_processes(workers: int) -> Iterator[Callable[[Callable, Iterable, int], Iterator]]:
    """Start worker processes that ignore SIGINT and SIGTERM, which reach all of a command.

    When the caller is interrupted or fails, each worker ends after the chunk at hand: none is
    killed while it holds a lock.

    Args:
        workers: processes, at least 1.

    Yields:
        A function ``(function, items, chunk) -> results`` in the order of the items, which are read
        at once; a worker takes ``chunk`` of them at a time. All must be picklable.

    Raises:
        RunFailed: for a worker that was ended from outside.
    """
    executor = ProcessPoolExecutor(workers, initializer=ignore_signals)

    def results(function: Callable, items: Iterable, chunk: int) -> Iterator:
        with held_back():
            return executor.map(function, items, chunksize=chunk)

    try:
        yield results
    except BrokenProcessPool:
        raise RunFailed("a worker process was killed from outside; out of memory?") from None
    finally:
        executor.shutdown(cancel_futures=True)
