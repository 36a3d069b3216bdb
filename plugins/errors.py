"""The one exception that tells a user what to change."""

import functools
import logging
import sys
from collections.abc import Callable
from pathlib import Path

import torch


class InputError(ValueError):
    """Bad input from outside: a config key, a file, a row, an argument.

    The message is one line: the culprit (file and line, or key), what was found, what was expected,
    and the nearest valid choice where there is one. The tools print it without a traceback; every
    other exception is a defect of ours and keeps its traceback.
    """


def require_output(option: str, path: Path, ending: str = "") -> None:
    """Raise InputError where nothing can be written, before the work that would be lost.

    Args:
        option: that names the file or folder, for the message.
        path: of the file or folder; the folders above it may be missing.
        ending: that a file must have, such as ".png"; empty for a folder.
    """
    if ending and path.is_dir():
        raise InputError(f"{option} {path}: a folder; expected a file *{ending}")
    if ending and path.suffix.lower() != ending:
        raise InputError(f"{option} {path}: expected a file *{ending}")
    for folder in path.parents if ending else (path, *path.parents):
        if folder.exists() and not folder.is_dir():
            raise InputError(f"{option} {path}: {folder} is a file; expected a folder")


def user_errors(main: Callable) -> Callable:
    """Decorate a command's ``main``: an InputError becomes one line on stderr and exit status 2."""

    @functools.wraps(main)
    def reporting(*args, **kwargs):
        try:
            return main(*args, **kwargs)
        except InputError as error:
            sys.stderr.write(f"error: {message_of(error)}\n")
            sys.exit(2)
        except torch.multiprocessing.ProcessExitedException as error:
            sys.exit(error.exit_code)

    return reporting


def message_of(error: InputError) -> str:
    """Its one line, also where a loader's worker has put its traceback before that."""
    prefix = f"{InputError.__module__}.{InputError.__name__}: "
    return str(error).strip().splitlines()[-1].removeprefix(prefix)


class WithoutTraceback(logging.Filter):
    """Lets a log tell an InputError by its one line; other exceptions keep their traceback."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Rewrites the record; all pass."""
        error = record.exc_info[1] if record.exc_info else None
        if isinstance(error, InputError):
            record.msg, record.exc_info = f"{record.msg} {message_of(error)}", None
        return True


without_traceback = WithoutTraceback()
