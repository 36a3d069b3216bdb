"""The entries of a card that its readers need, so that a damaged card is told in one line."""

import math
import re
from collections.abc import Mapping
from typing import Any

from plugins.errors import InputError
from plugins.robustness.checks import GROUPS
from plugins.robustness.report.status import COLORS, VERBS
from plugins.utils.values import json_value


class Percent(float):
    """Shape of a number from 0 to 100."""


# A shape is a type, a tuple of choices, [shape of each entry], [shape, number of entries],
# {"*": shape of each value} or {key: shape}.
METRIC = {"value": Percent, "interval_over_people": [float, 2]}
SCORES = {"Rank-1": METRIC, "mAP": METRIC}
RECIPE = {"restarts": int, "steps": int, "optimizer": str}
COUNTS = {"unique_wins": int, "mean_perturbation": float, "backwards": int, "recipe": RECIPE}
ROW = {"queries": int, "clean": float, "worst": float}
CHECK = {
    **{"id": str, "group": tuple(GROUPS), "question": str, "state": tuple(VERBS)},
    "explanation": str,
}
DATA = {"dataset": str, "direction": str, "queries": int, "people": int, "guides": str}
CARD = {
    "status": tuple(COLORS),
    "headline": str,
    "counts": {"*": int},
    "level": {"name": str},
    "model": {"architecture": str, "sha256": str},
    "code": {},
    "data": DATA,
    "threat": {"norm": ("linf", "l2"), "eps": float},
    "seed": int,
    "clean": SCORES,
    "worst": SCORES,
    "chance": float | None,
    "attacks": {"*": {**SCORES, **COUNTS}},
    "curve": {
        **{"attack": str, "queries": int, "area": float},
        "points": [{"eps": float, "Rank-1": float}],
    },
    "people": [ROW],
    "cameras": [ROW],
    "checks": [CHECK],
    "cost": {"seconds": float},
}
# Version 2 has no status, which follows from these entries.
STATUS_FROM = {"worst": SCORES, "checks": [CHECK]}
# Entries that are named otherwise today.
FORMAT_1 = {
    "level": {},
    "checks": [
        {
            **{"name": str, "group": str, "question": str, "state": str},
            **{"figure": float | None, "unit": str, "sentence": str},
        }
    ],
}
ROUNDING = 1e-6  # of a mean of shares, in percent
LARGEST = 1e12  # no number of a card is larger, and pictures overflow beyond
SURROGATE = re.compile("[\ud800-\udfff]")  # half a character, which JSON can escape
NAMES: dict[Any, str] = {
    **{float: "a finite number up to 1e12", float | None: "a finite number or null"},
    Percent: "a number from 0 to 100",
    **{int: "a whole number", str: "text"},
}


def require_card(card: Mapping[str, Any], source: str) -> None:
    """Raise InputError unless a card of today's version has all entries, and finite numbers only.

    Args:
        card: to check.
        source: file or name of the card, for the message.
    """
    require_entries(card, CARD, source)
    _require_writable(card, source)


def require_entries(value: object, shape: Any, source: str) -> None:
    """Raise InputError unless a value of JSON has a shape; further keys are allowed.

    Args:
        value: to check.
        shape: see the comment above.
        source: file and place of the value, for the message.
    """
    if isinstance(shape, dict):
        _require(isinstance(value, Mapping), value, "a mapping", source)
        assert isinstance(value, Mapping)
        if "*" in shape:
            for key, part in value.items():
                require_entries(part, shape["*"], f"{source}: {key}")
            return
        for key in shape:
            if key not in value:
                raise InputError(f"{source}: has no '{key}'; expected {', '.join(shape)}")
            require_entries(value[key], shape[key], f"{source}: {key}")
    elif isinstance(shape, list):
        length = shape[1] if len(shape) > 1 else None
        whole = isinstance(value, list) and length in (None, len(value))
        _require(whole, value, f"a list of {length}" if length else "a list", source)
        assert isinstance(value, list)
        for number, entry in enumerate(value, start=1):
            require_entries(entry, shape[0], f"{source}: entry {number}")
    elif isinstance(shape, tuple):
        choices = ", ".join(map(str, shape))
        _require(isinstance(value, str) and value in shape, value, f"one of {choices}", source)
    else:
        _require(_is_of(value, shape), value, NAMES[shape], source)


def _require_writable(value: object, source: str) -> None:
    """Raise InputError for what JSON or UTF-8 cannot hold: a NaN, half a character."""
    if isinstance(value, Mapping):
        for key, part in value.items():
            _require_writable(key, source)
            _require_writable(part, f"{source}: {key}")
    elif isinstance(value, list | tuple):
        for number, part in enumerate(value, start=1):
            _require_writable(part, f"{source}: entry {number}")
    elif isinstance(value, float):
        _require(math.isfinite(value), value, "a finite number", source)
    elif isinstance(value, str):
        _require(not SURROGATE.search(value), value, "text of whole characters", source)


def _require(fits: bool, value: object, expected: str, source: str) -> None:
    if not fits:
        raise InputError(f"{source}: found {json_value(value)}; expected {expected}")


def _is_of(value: object, kind: Any) -> bool:
    if isinstance(value, bool):
        return False
    if kind is float:
        return isinstance(value, int | float) and abs(value) <= LARGEST
    if kind is Percent:
        return _is_of(value, float) and -ROUNDING <= value <= 100 + ROUNDING  # type: ignore[operator]
    if kind == float | None:
        return value is None or _is_of(value, float)
    return isinstance(value, kind)
