"""Recognize files and arrays that have changed."""

import os
from hashlib import blake2b

import numpy as np

from plugins.errors import InputError


def file_state(path: str) -> tuple[int, int]:
    """Return a file's size in bytes and the time of its last change in ns.

    Raises:
        InputError: no such file.
    """
    try:
        stat = os.stat(path)
    except OSError as error:
        raise InputError(f"{path}: no such frame ({error.strerror})") from None
    except ValueError as error:  # a name that holds NUL
        raise InputError(f"{path!r}: no such frame ({error})") from None
    return stat.st_size, stat.st_mtime_ns


def digest(content: np.ndarray) -> int:
    """Return 64 bits of BLAKE2b of an array's bytes, C order."""
    return int.from_bytes(blake2b(content.data, digest_size=8).digest(), "little")
