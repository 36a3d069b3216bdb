"""Lock a folder for one run, with a lock of the operating system that names its owner."""

import contextlib
import json
import os
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from plugins.errors import InputError
from plugins.utils.io import make_folder, write_text


@contextlib.contextmanager
def hold(folder: str | os.PathLike, option: str, task: str = "run") -> Iterator[Path]:
    """Keep a folder for this process; make it if need be.

    The operating system gives the lock back when the process ends, however it ends. The process
    number and the host, which another container may not know, stand in the message alone.

    Args:
        folder: to hold.
        option: what names the folder, such as "OUTPUT_DIR", for the message.
        task: what the folder is held for; tasks of different names do not exclude each other.

    Yields:
        The folder.

    Raises:
        InputError: another process holds the folder, or it cannot be made or written.
    """
    new = [each for each in (Path(folder), *Path(folder).parents) if not each.exists()]
    folder = make_folder(folder, option)
    lock = FileLock(folder / f".{task}.lock", timeout=0)
    note = folder / f".{task}.holder.json"
    try:
        lock.acquire()
    except Timeout:
        raise InputError(
            f"{option} {folder}: in use by another {task}{_holder(note)}; wait for it, stop it, or "
            "name another folder"
        ) from None
    except OSError as error:
        raise InputError(f"{option} {folder}: cannot be locked: {error.strerror}") from error
    try:
        _tell_holder(note)
        yield folder
    finally:
        note.unlink(missing_ok=True)
        left = {entry.name for entry in folder.iterdir()} if folder.is_dir() else set()
        if new and left <= {Path(lock.lock_file).name}:  # nothing came of the task
            Path(lock.lock_file).unlink(missing_ok=True)
        lock.release()
        with contextlib.suppress(OSError):  # such as: not empty
            for each in new:
                each.rmdir()


def _tell_holder(note: Path) -> None:
    about = {
        "pid": os.getpid(),
        "host": socket.gethostname(),
        "since": time.strftime("%Y-%m-%d %H:%M:%S"),
        "command": " ".join(sys.argv)[:200],
    }
    write_text(note, json.dumps(about))


def _holder(note: Path) -> str:
    """Tell who holds the folder, after a comma; nothing where that is not known."""
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        about = json.loads(note.read_text(encoding="utf-8"))
        return f", process {about['pid']} on {about['host']} since {about['since']}"
    return ""
