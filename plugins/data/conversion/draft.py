"""A new folder that is whole or not there."""

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from plugins.errors import InputError


def require_new(out: Path) -> None:
    """Raise InputError if there is something at ``out``."""
    if os.path.lexists(out):
        raise InputError(f"{out}: it is there already; expected a new folder")


@contextlib.contextmanager
def draft_of(out: Path, task: str) -> Iterator[Path]:
    """A folder beside ``out`` to fill, which then gets that name; after an error it is removed.

    Args:
        out: the new folder.
        task: who else may be filling it, for the message, such as "a conversion".

    Raises:
        InputError: another one is at work, or was killed.
    """
    draft = out.with_name(f"{out.name}.part")
    try:
        draft.mkdir(parents=True)
    except FileExistsError:
        raise InputError(
            f"{draft}: {task} is at work there, or one was killed; if so, remove it"
        ) from None
    try:
        yield draft
        draft.rename(out)
    except BaseException:
        shutil.rmtree(draft, ignore_errors=True)
        raise
