"""Memory and processes that a test leaves behind."""

import contextlib
import ctypes
import gc
import multiprocessing

from torch.utils.data.dataloader import _MultiProcessingDataLoaderIter


def free() -> None:
    """Give garbage back to the system: trainers are cycles of few objects and much memory.

    Python alone would wait for long, and the C library keep gigabytes, which each later fork would
    share and then copy.
    """
    gc.collect()
    with contextlib.suppress(OSError, AttributeError):  # not glibc
        ctypes.CDLL(None).malloc_trim(0)


def end_loader_workers() -> None:
    """End the workers of all loaders.

    A collection closes the queues of an iterator before the iterator asks its workers to end, which
    then do not hear it: torch waits 5 seconds for each worker, and 5 more because ours survive one
    SIGTERM.
    """
    if multiprocessing.active_children():
        for thing in gc.get_objects():
            if type(thing) is _MultiProcessingDataLoaderIter:
                thing._shutdown_workers()
        gc.collect()
