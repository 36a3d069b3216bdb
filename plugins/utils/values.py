"""Read values as people write them, as values of the type that a setting has.

YAML and the command line are read alike: "8" serves where 8.0 is the default, a lone name where a
list of names is.
"""

import ast
import math
import numbers
import reprlib
import sys
from typing import Any, cast

from plugins.errors import InputError

PLAIN = (str, int, float, bool, type(None))


def as_type_of(default: object, value: object) -> Any:
    """Convert ``value`` to the type of ``default``.

    A whole number serves for a number, a single entry for a list, nothing for an empty text or an
    empty list. Text is read as a Python literal, but for a setting that holds text itself. A list
    of numbers or of text takes nothing else.

    Args:
        default: a bool, int, float, str, list or tuple.
        value: from YAML, from the command line, or from Python.

    Raises:
        ValueError: ``value`` is of another type; the message says what was found and expected.

    >>> as_type_of(8.0, "4"), as_type_of(("A",), "B"), as_type_of([], "[C, D]")
    (4.0, ('B',), ['C', 'D'])
    """
    if isinstance(default, str):
        return _text(value)
    if isinstance(value, str):
        value = _literal(value)
    if isinstance(default, list | tuple):
        return _list(default, value)
    if isinstance(default, bool):
        if isinstance(value, str) and value.lower() in ("true", "false"):
            return value.lower() == "true"
        return _expect(isinstance(value, bool), value, "True or False")
    if isinstance(default, int):
        return _expect(_is_whole(value), value, "a whole number")
    assert isinstance(default, float), f"no setting has a value such as {default!r}"
    number: Any = _expect(_is_number(value), value, "a number")
    try:
        return float(number)
    except OverflowError:
        return _expect(False, value, "a smaller number")


def require_number(value: object, name: str, least: float = 0) -> None:
    """Raise InputError unless an argument is a finite number of ``least`` or more."""
    number = isinstance(value, numbers.Real) and not isinstance(value, bool)
    # Not math.isfinite, which a whole number of 400 digits overflows.
    if not (number and least <= cast(float, value) <= sys.float_info.max):
        raise InputError(f"{name} {shortened(value)}; expected {least} or more, a finite number")


def require_whole(value: object, name: str, least: int) -> None:
    """Raise InputError unless an argument is a whole number of ``least`` or more."""
    whole = isinstance(value, numbers.Integral) and not isinstance(value, bool)
    if not (whole and cast(int, value) >= least):
        raise InputError(f"{name} {shortened(value)}; expected {least} or more, a whole number")


def shortened(value: object) -> str:
    """Write ``value`` as Python does, cut to the length of a message."""
    short = reprlib.Repr()
    short.maxstring = short.maxother = short.maxlong = 60
    return short.repr(value)


def json_value(value: object) -> str:
    """Write a value of JSON for a message, with "null" for None.

    >>> json_value(None), json_value("ten"), json_value([1])
    ('null', "'ten'", '[1]')
    """
    return "null" if value is None else shortened(value)


def _text(value: object) -> str:
    if value is None:
        return ""
    if not isinstance(value, str):
        raise ValueError(f"{shortened(value)}; expected text: write '{value}' in quotes")
    literal = _literal(value)
    text = literal if isinstance(literal, str) else "" if literal is None else value
    return _expect("\0" not in text, text, "text without a character of code 0")


def _list(default: list | tuple, value: object) -> list | tuple:
    if isinstance(value, str):
        balanced = all(value.count(a) == value.count(b) for a, b in ("[]", "()"))
        _expect(balanced, value, "a list, such as [A, B]")
        # Names without quotes: "SMA", "SMA,FNA" or "[SMA, FNA]".
        names = [name.strip() for name in value.strip(" []()").split(",")]
        _expect(any(names) or "," not in value, value, "a list of names")
        value = [name for name in names if name]
    elif value is None:
        value = []
    elif not isinstance(value, list | tuple):
        value = [value]
    if default and all(map(_is_number, default)):
        example = list(default)
        _expect(all(map(_is_number, value)), value, f"numbers, such as {example}")
    elif default and all(isinstance(entry, str) for entry in default):
        names_now = ", ".join(default)
        _expect(
            all(isinstance(entry, str) for entry in value), value, f"names, such as {names_now}"
        )
    else:
        _expect(_is_plain(value), value, "a list of names, numbers, or lists of these")
    return type(default)(value)


def _expect(fits: bool, value: Any, expected: str) -> Any:
    if not fits:
        raise ValueError(f"{shortened(value)}; expected {expected}")
    return value


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: object) -> bool:
    return _is_whole(value) or (isinstance(value, float) and not math.isnan(value))


def _is_plain(value: object) -> bool:
    if isinstance(value, list | tuple):
        return all(map(_is_plain, value))
    return isinstance(value, PLAIN) and not (isinstance(value, float) and math.isnan(value))


def _literal(text: str) -> object:
    """Read ``text`` as a Python literal; return it as it is where it is none."""
    try:
        return ast.literal_eval(text)
    # Of nested or long text: MemoryError, RecursionError; of "{[]: 1}": TypeError.
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return text
