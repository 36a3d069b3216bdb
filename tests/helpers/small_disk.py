"""A disk with little room, to see what a command says and keeps when the disk is full."""

import contextlib
import ctypes
from collections.abc import Iterator
from pathlib import Path

import pytest


@contextlib.contextmanager
def small_disk(folder: Path, size: int) -> Iterator[Path | None]:
    """A disk of ``size`` bytes in memory; None where this user may not mount one."""
    libc = ctypes.CDLL(None, use_errno=True)
    folder.mkdir()
    if libc.mount(b"tmpfs", str(folder).encode(), b"tmpfs", 0, f"size={size}".encode()):
        yield None
        return
    try:
        yield folder
    finally:
        libc.umount2(str(folder).encode(), 2)


@contextlib.contextmanager
def full_disk(folder: Path, size: int) -> Iterator[Path]:
    """A disk as :func:`small_disk` gives; the test is skipped where there is none."""
    with small_disk(folder, size) as disk:
        if disk is None:
            pytest.skip("a small disk cannot be mounted here")
        yield disk
