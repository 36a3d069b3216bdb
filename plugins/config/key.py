"""A key of the config: its default, the values that it takes, and one sentence about it."""

import math
import numbers
import re
import sys
from dataclasses import KW_ONLY, dataclass
from typing import Any, cast

from plugins.errors import InputError
from plugins.utils.names import closest_names, join_choices
from plugins.utils.values import shortened

Scalar = bool | int | float | str
Value = Scalar | list | tuple
KINDS = {bool: "True or False", int: "a whole number", float: "a number", str: "text"}


@dataclass(frozen=True)
class Key:
    """Describe one key; ``expected`` and ``mistake`` say in words what it takes.

    A limit holds for each entry of a list. A list whose default has whole numbers alone takes
    whole numbers alone.

    Attributes:
        default: value of the key unless a config or the command line sets it; its type is the
            key's.
        meaning: one sentence or two, with the unit.
        least: the smallest value.
        above: a number that every value exceeds.
        most: the largest value.
        below: a number that every value stays below.
        multiple_of: a divisor of every value.
        choices: all values, where these are few.
        pattern: a regular expression that a text matches, and what it means in words.
        lengths: numbers of entries that a list may have; empty allows any.
        nonempty: whether a list needs an entry.
        ascending: whether no number of a list is larger than the next.
        infinite: whether a number may be infinite.
        unique: whether a list has each entry once.
        names: whether a list holds names; an empty default does not show it.
    """

    default: Value
    meaning: str
    _: KW_ONLY
    least: float | None = None
    above: float | None = None
    most: float | None = None
    below: float | None = None
    multiple_of: int = 1
    choices: tuple[Scalar, ...] = ()
    pattern: tuple[str, str] | None = None
    lengths: tuple[int, ...] = ()
    nonempty: bool = False
    ascending: bool = False
    unique: bool = False
    infinite: bool = False
    names: bool = False

    def __post_init__(self) -> None:
        """Check the description itself.

        Raises:
            InputError: the default is no value of the key, or of a type that no key has.
        """
        kinds = (*KINDS, list, tuple)
        if type(self.default) not in kinds:
            found = shortened(self.default)
            raise InputError(
                f"Key: default {found}; expected True or False, a number, a text or a list"
            )
        if isinstance(self.default, bool | str) and self.limits:
            raise InputError(
                f"Key: default {shortened(self.default)}, {self.limits}; expected a number where "
                "there are limits"
            )
        if mistake := self.mistake(self.default):
            raise InputError(f"Key: default {shortened(self.default)}; {mistake}")

    @property
    def limits(self) -> str:
        """The limits of a number in words, such as "0 or more, below 1"; empty without limits."""
        low, high, words = self.least, self.most, []
        if low is not None and high is not None:
            words.append(f"{low:.12g} to {high:.12g}")
        elif low is not None:
            words.append(f"{low:.12g} or more")
        elif self.above is not None:
            words.append(f"more than {self.above:g}")
            if high is not None:
                words.append(f"at most {high:.12g}")
        elif high is not None:
            words.append(f"{high:.12g} or less")
        if self.below is not None:
            words.append(f"below {self.below:.12g}")
        if self.multiple_of != 1:
            words.append(f"a multiple of {self.multiple_of}")
        return ", ".join(words)

    @property
    def expected(self) -> str:
        """What the key takes, in words.

        >>> Key(0.5, "Probability.", least=0, most=1).expected
        'a number, 0 to 1'
        >>> Key([256, 128], "Height and width, in pixels.", least=1, lengths=(2,)).expected
        'a list of 2 whole numbers, each 1 or more'
        """
        if self.choices:
            return join_choices(self.choices)
        if self.pattern:
            return self.pattern[1]
        if isinstance(self.default, list | tuple):
            return self._expected_list
        return ", ".join(filter(None, (KINDS[type(self.default)], self.limits)))

    @property
    def _expected_list(self) -> str:
        assert isinstance(self.default, list | tuple)
        if self.lengths == (0,):
            return "an empty list"
        holds = "numbers" if self.default else "values"
        if self._whole:
            holds = "whole numbers"
        if self.names or any(isinstance(entry, str) for entry in self.default):
            holds = "names"
        count = [join_choices(self.lengths)] if self.lengths else []
        return ", ".join(
            [
                " ".join(["a list of", *count, holds]),
                *(["one or more"] if self.nonempty else []),
                *([f"each {self.limits}"] if self.limits else []),
                *(["in ascending order"] if self.ascending else []),
                *(["each once"] if self.unique else []),
            ]
        )

    @property
    def _whole(self) -> bool:
        """Whether the key is a list of whole numbers."""
        entries = self.default if isinstance(self.default, list | tuple) else ()
        return bool(entries) and all(type(entry) is int for entry in entries)

    def mistake(self, value: Value) -> str:
        """Say what is expected instead of a value; empty where the value fits.

        Values of a config have the key's type; others may be of any.
        """
        if not self._of_type(value):
            return f"expected {self.expected}"
        entries = value if isinstance(value, list | tuple) else [value]
        if self.choices:
            return "" if value in self.choices else f"expected {self._closest(value)}"
        if self.pattern:
            fits = bool(re.fullmatch(self.pattern[0], str(value)))
        else:
            fits = (
                (not self.lengths or len(entries) in self.lengths)
                and (not self.nonempty or len(entries) > 0)
                and (not self.names or all(isinstance(entry, str) for entry in entries))
                and (not self._whole or all(isinstance(entry, int) for entry in entries))
                and (self.infinite or all_finite(entries))
                and (not self.limits or all(map(self._within, entries)))
                and (not self.ascending or list(entries) == sorted(entries))
                and (not self.unique or len(set(entries)) == len(entries))
            )
        if fits:
            return ""
        if isinstance(value, int | float):
            if self.infinite or math.isfinite(value):
                return f"expected {self.limits}"
            return "expected a finite number"
        return f"expected {self.expected}"

    def _of_type(self, value: object) -> bool:
        """Whether a value is of the key's type; a whole number serves for a number."""
        if isinstance(self.default, list | tuple):
            return isinstance(value, list | tuple)
        if isinstance(self.default, bool | str):
            return isinstance(value, type(self.default))
        if isinstance(value, bool) or not isinstance(value, numbers.Real):
            return False
        if isinstance(self.default, int):
            return isinstance(value, numbers.Integral)
        # Not math.isfinite, which a whole number of 400 digits overflows.
        return isinstance(value, float) or abs(cast(float, value)) <= sys.float_info.max

    def _within(self, entry: Value) -> bool:
        """Whether a value is a number that keeps all limits."""
        number: Any = entry
        return (
            isinstance(entry, numbers.Real)
            and (self.least is None or number >= self.least)
            and (self.above is None or number > self.above)
            and (self.most is None or number <= self.most)
            and (self.below is None or number < self.below)
            and (self.multiple_of == 1 or number % self.multiple_of == 0)
        )

    def _closest(self, value: Value) -> str:
        if len(self.choices) < 4 or not isinstance(value, str):
            return join_choices(self.choices)
        close = closest_names(value[:60], [str(choice) for choice in self.choices])
        return f"{join_choices(self.choices)}; nearest: {close[0]}"


def all_finite(value: object) -> bool:
    """Tell whether no number in a value, or in its nested lists, is infinite or not a number.

    >>> all_finite([1, ["A", 2.5]]), all_finite(["A", [math.inf]])
    (True, False)
    """
    if isinstance(value, list | tuple):
        return all(map(all_finite, value))
    return not isinstance(value, float) or math.isfinite(value)


def describe(name: str, key: Key) -> str:
    """Write a key on one line: name, default, values, meaning.

    >>> describe("SEED", Key(-1, "Seed of everything.", most=9))
    'SEED: -1 by default; a whole number, 9 or less. Seed of everything.'
    """
    return f"{name}: {write_default(key.default)} by default; {key.expected}. {key.meaning}"


def write_default(value: Value) -> str:
    """Write a default as YAML and the command line take it; an empty text as two quotes."""
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(write_default, value))}]"
    if isinstance(value, float) and len(repr(value)) > 10:
        return f"{value:.6g}"
    return str(value) if value != "" else "''"
