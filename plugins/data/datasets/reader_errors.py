"""Explain which file stopped a reader of fastreid, whose message is only ``AssertionError()``."""

import linecache
import os
import re
from collections.abc import Iterator
from types import FrameType, TracebackType

from plugins.errors import InputError
from plugins.utils.io import read_text


def explain(error: BaseException) -> str:
    """Name the file, or the line of a list, that an error is about, and say why.

    Args:
        error: raised by a reader; the variables of its traceback tell the file.

    Returns:
        Text such as "query/0003_c9s1_1.jpg: camid is 9, expected 1 <= camid <= 6"; the message of
        the error if no variable is a file.
    """
    reason = f"{type(error).__name__}: {error}"
    if isinstance(error, AttributeError) and "'NoneType'" in str(error):  # of a pattern's match
        reason = "the reader's pattern of a person and a camera does not fit it"
    for frame, line in _frames(error.__traceback__):
        if isinstance(error, AssertionError) and line.startswith("assert "):
            reason = _broken_condition(frame, line)
        if where := _file_in(frame):
            if isinstance(error, UnicodeDecodeError):
                return _undecodable(where)
            return f"{where}: {reason}"
    return reason


def _frames(trace: TracebackType | None) -> Iterator[tuple[FrameType, str]]:
    """Yield the frames of a traceback, the innermost first, each with the line it stopped at."""
    frames = []
    while trace:
        line = linecache.getline(trace.tb_frame.f_code.co_filename, trace.tb_lineno)
        frames.append((trace.tb_frame, line.split("#")[0].strip()))
        trace = trace.tb_next
    return reversed(frames)


def _broken_condition(frame: FrameType, line: str) -> str:
    """Describe an assertion by its numbers: "camid is 9, expected 1 <= camid <= 6"."""
    condition = line.removeprefix("assert ")
    names = re.findall(r"[a-zA-Z_]\w*", condition)
    values = ", ".join(
        f"{name} is {frame.f_locals[name]}"
        for name in dict.fromkeys(names)
        if isinstance(frame.f_locals.get(name), int)
    )
    return f"{values or 'not so'}, expected {condition}"


def _file_in(frame: FrameType) -> str:
    """Return the first file among a function's variables, with the line that another one holds."""
    texts = [value for value in frame.f_locals.values() if isinstance(value, str)]
    file = next((text for text in texts if os.path.isfile(text)), "")
    for lines in frame.f_locals.values():
        if isinstance(lines, list) and lines and isinstance(lines[0], str) and file not in lines:
            stripped = [line.strip() for line in lines]
            for text in texts:
                if text.strip() in stripped:
                    return f"{file}:{stripped.index(text.strip()) + 1}"
    return file


def _undecodable(file: str) -> str:
    """Name the line and the byte that is not UTF-8; Python's own message holds the whole file."""
    try:
        read_text(file)
    except InputError as error:
        return str(error)
    return f"{file}: not text in this machine's encoding"
