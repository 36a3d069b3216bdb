"""Memory that a test leaves behind."""

import contextlib
import ctypes
import gc


def free() -> None:
    """Give garbage back to the system: trainers are cycles of few objects and much memory.

    Python alone would wait for long, and the C library keep gigabytes, which each later fork would
    share and then copy.
    """
    gc.collect()
    with contextlib.suppress(OSError, AttributeError):  # not glibc
        ctypes.CDLL(None).malloc_trim(0)
