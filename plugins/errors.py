"""Errors of one line: what a user reads when a command ends before its work is done."""

import contextlib
import errno
import functools
import logging
import os
import re
import signal
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from plugins.interrupts import Interrupted, StopSignals, tell_interrupted

# What torch says when a process of a DataLoader has gone.
LOADER_WORKER = re.compile(r"DataLoader worker \(pid(?:\(s\))? (\d+(?:, \d+)*)\)")
# What torch says when a process of a DataLoader finds no room for a batch in /dev/shm.
SHARED_MEMORY = re.compile(r"unable to .{1,40}<(/torch_[^>]*)>.*No space left on device")
# Characters of a message; those of a word leave a path of a usual length whole.
LONGEST, LONGEST_WORD = 3000, 500
# What a disk answers to any write: it is full, or a quota or a limit is reached; it is read-only.
DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
READ_ONLY = (errno.EROFS,)
KEPT = "what was saved before is kept; the same command starts anew"
# Functions that tell an exception of code outside this package in one line, or return None.
EXPLAINERS: list[Callable[[BaseException], "InputError | None"]] = []


class InputError(ValueError):
    """Report bad input: a config key, a file, a row, an argument.

    The message is one line: the culprit (file and line, or key), its value, the expected value and
    the closest valid choice where there is one. The tools print it without a traceback; every other
    exception is a defect of ours and keeps its traceback. Line breaks of what the user gave are
    escaped, and what is too long to read is cut.
    """

    def __init__(self, message: object = "") -> None:
        text = str(message)
        if "Original Traceback" not in text:  # a loader's worker puts its traceback before the line
            text = readable(text)
        super().__init__(text)


def readable(text: str) -> str:
    r"""Escape line breaks, and cut the middle of a word or of a text that is too long to read.

    >>> readable("person 'a\nb'"), readable("9" * 5000)
    ("person 'a\\nb'", '999999999999999999999999999999...999999999999999999999999999999')
    """
    text = text.replace("\r", r"\r").replace("\n", r"\n")
    text = re.sub(rf"\S{{{LONGEST_WORD},}}", lambda word: f"{word[0][:30]}...{word[0][-30:]}", text)
    return text if len(text) <= LONGEST else f"{text[: LONGEST // 2]} ... {text[-LONGEST // 2 :]}"


def one_line(error: BaseException) -> str:
    """Write the message of an exception without its line breaks."""
    return " ".join(str(error).split())


def explained(error: BaseException) -> "InputError | None":
    """Return the one line on an exception that is no defect of this package; None for others."""
    return next(filter(None, (explain(error) for explain in EXPLAINERS)), None)


def require_output(option: str, path: Path, ending: str = "") -> None:
    """Raise InputError where nothing can be written, before the work that would be lost.

    Args:
        option: name of the option that names the file or folder, for the message.
        path: file or folder to write; the folders above it may be missing.
        ending: suffix that a file must have, such as ".png"; empty for a folder.
    """
    if ending and path.is_dir():
        raise InputError(f"{option} {path}: a folder; expected a file *{ending}")
    if ending and path.suffix.lower() != ending:
        raise InputError(f"{option} {path}: expected a file *{ending}")
    for folder in path.parents if ending else (path, *path.parents):
        if folder.exists() and not folder.is_dir():
            raise InputError(f"{option} {path}: {folder} is a file; expected a folder")
        if folder.is_dir():
            return _require_writable(option, path, folder)


def _require_writable(option: str, path: Path, folder: Path) -> None:
    """Raise InputError if a folder that exists takes no new file; it stays as it is."""
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"0")
    except OSError as error:
        raise InputError(f"{option} {path}: cannot write there: {error.strerror}") from error


class RunFailed(RuntimeError):
    """Report a run that failed although its input was fine: a diverged loss, a killed process.

    The message is one line, printed without a traceback, as that of an InputError.

    Attributes:
        status: exit status of the command.
        reported: whether another process prints the line.
    """

    def __init__(self, message: str, status: int = 1, reported: bool = False) -> None:
        super().__init__(message)
        self.status = status
        self.reported = reported


def user_errors(main: Callable | None = None, *, kept: str = KEPT) -> Callable:
    """Decorate a command's ``main``, so that an error or a signal becomes one line on stderr.

    An InputError gives exit status 2, as do an exception of code outside this package, see
    ``EXPLAINERS``, and a read-only disk; a RunFailed gives its own, a full disk 1, SIGINT 130 and
    SIGTERM 143.

    Args:
        main: function of the command; a SystemExit that it raises passes.
        kept: what is kept after a signal, and how to go on.
    """
    if main is None:
        return functools.partial(user_errors, kept=kept)

    @quiet_threads()
    @functools.wraps(main)
    def reporting(*args: Any, **kwargs: Any) -> Any:
        try:
            with StopSignals(raising=True):
                return main(*args, **kwargs)
        except KeyboardInterrupt as stop:
            sys.exit(tell_interrupted(stop, kept))
        except BrokenPipeError:  # the reader of what is printed, such as `head`, has enough
            with contextlib.suppress(OSError, ValueError):  # else Python complains at its end
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            sys.exit(128 + signal.SIGPIPE)
        except Exception as caught:
            error = worker_failure(caught) or caught
            if number := StopSignals.received():  # the signal broke something, such as a queue
                sys.exit(tell_interrupted(Interrupted(number), kept))
            if isinstance(error, InputError):
                sys.stderr.write(f"error: {message_of(error)}\n")
                sys.exit(2)
            if isinstance(error, RunFailed):
                if not error.reported:
                    sys.stderr.write(f"error: {error}\n")
                sys.exit(error.status)
            if isinstance(error, OSError) and error.errno in (*DISK_FULL, *READ_ONLY):
                file = f"{error.filename}: " if error.filename else ""
                sys.stderr.write(f"error: {file}cannot be written: {error.strerror}; {kept}\n")
                sys.exit(1 if error.errno in DISK_FULL else 2)
            if fault := explained(error):
                sys.stderr.write(f"error: {fault}\n")
                sys.exit(2)
            raise

    return reporting


@contextlib.contextmanager
def quiet_threads() -> Iterator[None]:
    """Tell in one line, after this block, of each thread of it that a full disk ended.

    A block that raises has its own last line, so no thread is told of: whoever writes by such a
    thread, as TensorBoard does, gets its error.
    """

    def hook(ended: threading.ExceptHookArgs) -> None:
        error = ended.exc_value
        if isinstance(error, OSError) and error.errno in DISK_FULL:
            errors.append(error)
        else:
            before(ended)

    errors: list[OSError] = []
    before, threading.excepthook = threading.excepthook, hook
    try:
        yield
    finally:
        threading.excepthook = before
    for error in errors:
        sys.stderr.write(f"a thread that writes files has ended: {error.strerror}\n")


def worker_failure(error: BaseException | None) -> RunFailed | None:
    """Return the one line on a DataLoader worker without memory; None for any other error.

    torch raises that error wherever the process is, so it may lie below others.
    """
    while error is not None:
        if isinstance(error, RuntimeError) and SHARED_MEMORY.search(str(error)):
            return RunFailed(
                "a loader worker found no room for a batch in the shared memory /dev/shm; give it "
                "more, as docker run --shm-size 2g does, or set DATALOADER.NUM_WORKERS 0; what was "
                "saved before is kept; a training goes on with --resume"
            )
        if isinstance(error, RuntimeError) and (worker := LOADER_WORKER.search(str(error))):
            return RunFailed(
                f"a loader worker (process {worker[1]}) was killed from outside; out of memory or "
                "of shared memory? Fewer DATALOADER.NUM_WORKERS need less; what was saved before "
                "is kept; a training goes on with --resume"
            )
        error = error.__cause__ or error.__context__
    return None


def message_of(error: InputError | RunFailed) -> str:
    """Return an error's one line, also where a loader's worker put its traceback before it."""
    prefix = f"{InputError.__module__}.{InputError.__name__}: "
    return str(error).strip().splitlines()[-1].removeprefix(prefix)


# Marks a record of a log that the terminal does not show: the command prints its line at the end.
IN_FILE = {"in_file_alone": True}


def shown(record: logging.LogRecord) -> bool:
    """Tell, as a filter of the terminal's handler, whether it shows a record; see ``IN_FILE``."""
    return not getattr(record, "in_file_alone", False)


class WithoutTraceback(logging.Filter):
    """Shorten an InputError or RunFailed in a log to its line; others keep their traceback."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Rewrite the record; all records pass."""
        error = record.exc_info[1] if record.exc_info else None
        if isinstance(error, InputError | RunFailed):
            record.msg, record.exc_info = f"{record.msg} {message_of(error)}", None
        return True


without_traceback = WithoutTraceback()
