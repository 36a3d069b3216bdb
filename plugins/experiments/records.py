"""Check what JSON files of an ablation hold, so that a damaged one is told in one line.

These are the record of the results, ``run.json`` of a run, ``results.json`` of a training and
``evaluation.json`` of an evaluation.
"""

import sys
from collections.abc import Iterable
from pathlib import Path

from plugins.errors import InputError
from plugins.utils.io import read_json, read_mapping
from plugins.utils.values import json_value, shortened

RESULT_KEYS = {"row": str, "dataset": str, "seed": int, "overrides": dict, "metrics": dict}
OPTIONAL_RESULT_KEYS = {"tests": dict, "signs": dict, "queries": str}
NAMES = {str: "text", int: "a whole number", dict: "a mapping"}


def check_results(results: object, file: Path) -> list[dict]:
    """Return the recorded results; raise InputError for an entry that is none, or is there twice.

    Args:
        results: contents of ``file``.
        file: the record, for the message.
    """
    expected = f"expected a list of results, each with {', '.join(sorted(RESULT_KEYS))}"
    if not isinstance(results, list):
        raise InputError(f"{file}: found {json_value(results)}; {expected}")
    places: dict[tuple, int] = {}
    for number, result in enumerate(results, start=1):
        source = f"{file}: result {number}"
        if not isinstance(result, dict):
            raise InputError(f"{source}: found {json_value(result)}; {expected}")
        if missing := sorted(RESULT_KEYS.keys() - result.keys()):
            raise InputError(f"{source}: has no {', '.join(missing)}; {expected}")
        for key, kind in RESULT_KEYS.items():
            _require(result[key], kind, f"{source}: {key}")
        source += f", row {shortened(result['row'])}, seed {result['seed']}"
        if result["seed"] < 0:
            raise InputError(f"{source}: expected a seed of 0 or more")
        for key, kind in OPTIONAL_RESULT_KEYS.items():
            if result.get(key) is not None:
                _require(result[key], kind, f"{source}: {key}")
        check_blocks(result["metrics"], f"{source}: metrics")
        for name, sign in (result.get("signs") or {}).items():
            if not _is_number(sign):  # one that is not finite tells something, too
                raise InputError(
                    f"{source}: signs: {name}: found {json_value(sign)}; expected a number"
                )
        place = result["row"], result["dataset"], result["seed"]
        if place in places:
            raise InputError(
                f"{source}: is there already as result {places[place]}; expected each row and "
                "seed once"
            )
        places[place] = number
    return results


def read_scores(file: Path, *keys: str) -> dict:
    """Read ``results.json`` of a training, or ``evaluation.json`` of an evaluation.

    Args:
        file: the file.
        keys: whole numbers that it must hold besides "results", such as "epochs".

    Raises:
        InputError: it holds something else; the message names the entry.
    """
    saved = read_json(file, "results of a run")
    _require(saved, dict, f"{file}")
    for key in (*keys, "results"):
        if key not in saved:
            raise InputError(f"{file}: has no '{key}'; expected the results of a run")
        _require(saved[key], dict if key == "results" else int, f"{file}: {key}")
    for dataset, blocks in saved["results"].items():
        _require(blocks, dict, f"{file}: results of {dataset}")
        directions = {name: block for name, block in blocks.items() if isinstance(block, dict)}
        check_blocks(directions, f"{file}: {dataset}")
    return saved


def read_marker(file: Path, expected: str, texts: Iterable[str] = ()) -> dict:
    """Read the settings that a run or a test was started with.

    Args:
        file: the file.
        expected: contents that the file should have, for the message.
        texts: keys that it must hold, each with a text or null.

    Raises:
        InputError: it holds something else.
    """
    marker = read_mapping(file, expected)
    for key in texts:
        if not isinstance(marker.get(key), str | None):
            raise InputError(f"{file}: {key}: found {json_value(marker[key])}; expected text")
    return marker


def check_blocks(blocks: dict, source: str) -> None:
    """Raise InputError unless each block, by its name, maps metrics to finite numbers."""
    for name, block in blocks.items():
        _require(block, dict, f"{source}: {name}")
        check_scores(block, f"{source}: {name}")


def check_scores(scores: dict, source: str) -> None:
    """Raise InputError unless all values of a mapping are finite numbers."""
    for name, value in scores.items():
        # Not math.isfinite, which a whole number of 400 digits overflows.
        if not (_is_number(value) and abs(value) <= sys.float_info.max):
            raise InputError(
                f"{source}: {name}: found {json_value(value)}; expected a finite number"
            )


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _require(value: object, kind: type, source: str) -> None:
    if not isinstance(value, kind) or isinstance(value, bool):
        raise InputError(f"{source}: found {json_value(value)}; expected {NAMES[kind]}")
