"""Fill a new folder that is whole or not there."""

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from plugins.errors import InputError
from plugins.utils.io import write_errors
from plugins.utils.locks import hold


def require_new(out: Path) -> None:
    """Raise InputError if there is something at ``out``."""
    if os.path.lexists(out):
        raise InputError(f"{out}: it is there already; expected a new folder")


@contextlib.contextmanager
def draft_of(out: Path, option: str, task: str) -> Iterator[Path]:
    """Give a folder beside ``out`` to fill, then rename it to ``out``; after an error remove it.

    The rest of a killed process in the draft is removed first.

    Args:
        out: the new folder.
        option: the option that names it, such as "--out", for the message.
        task: the task that fills the draft, such as "conversion", for the message.

    Raises:
        InputError: another process fills the draft, nothing can be written there, or a folder of
            that name holds something else.
    """
    draft = out.with_name(f"{out.name}.part")
    if draft.is_dir() and any(draft.iterdir()) and not (draft / f".{task}.lock").is_file():
        raise InputError(f"{draft}: it is there already, and no {task} has left it; move it away")
    with hold(draft, option, task) as draft:
        try:
            _empty(draft)
            yield draft
            with write_errors(out):
                draft.rename(out)
        except BaseException:
            shutil.rmtree(draft, ignore_errors=True)
            raise
    for moved in out.glob(f".{task}.*"):  # the lock and its holder
        moved.unlink()


def _empty(folder: Path) -> None:
    """Remove everything except names that begin with a dot: the lock and its holder."""
    for path in folder.glob("[!.]*"):
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()
