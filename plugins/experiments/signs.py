"""Signs of life of a trained network: what its parts did at the end of its training.

A gate that is one number for all clips, or an attack that moves no feature, gives a row of the
table a name that nothing stands behind. So the record of a run holds the last values of the scalars
that its parts log: ``temporal/NAME_over_clips`` and ``temporal/NAME_over_frames``, how a part
deviates; ``self_attack/feature_distance``, how far the attack moves a feature; ``distance/cross``
and ``distance/other``, how far a person's features are apart across the modalities, and two
people's; and what was trained, ``total_loss`` and ``cls_accuracy``.
"""

import json
import statistics
from collections.abc import Iterable
from pathlib import Path

from tabulate import tabulate

from plugins.errors import InputError
from plugins.utils.io import read_text
from plugins.utils.values import shortened

METRICS_FILE = "metrics.json"
# Logged values that a record keeps; those of the parts by their prefix.
NAMES = ("total_loss", "cls_accuracy", "relation_accuracy", "distance/cross", "distance/other")
PREFIXES = ("temporal/", "self_attack/")


def gather_signs(folder: Path) -> dict[str, float]:
    """Read the last value of each sign of life in the metrics of a run.

    A logged value is the median over the last iterations (fastreid's window of 20).

    Args:
        folder: OUTPUT_DIR of a finished training.

    Returns:
        Name to value; empty of a run that kept no metrics.

    Raises:
        InputError: a line of the file is no JSON, or a value is no number.
    """
    file = folder / METRICS_FILE
    if not file.is_file():
        return {}
    found: dict[str, float] = {}
    for number, line in enumerate(read_text(file).split("\n"), start=1):
        if not line:
            continue
        try:
            values = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise InputError(f"{file}:{number}: no line of metrics: {error}") from error
        if not isinstance(values, dict):
            raise InputError(f"{file}:{number}: no line of metrics; expected a mapping")
        signs = {name: value for name, value in values.items() if is_sign(name)}
        for name, value in signs.items():
            if type(value) not in (int, float):
                raise InputError(
                    f"{file}:{number}: {name}: found {shortened(value)}; expected a number"
                )
        found |= signs
    return {name: float(f"{found[name]:.4g}") for name in sorted(found)}


def is_sign(name: str) -> bool:
    """Tell whether a record keeps a logged scalar of this name."""
    return name in NAMES or name.startswith(PREFIXES)


def signs_table(rows: Iterable[str], results: list[dict]) -> str:
    """Markdown: a line for each sign, a column for each row that has some; empty with none.

    Args:
        rows: names, in the order of the columns.
        results: records of runs; each value is the mean over those of a row that have it.
    """
    means: dict[str, dict[str, float]] = {}
    for row in rows:
        of_row = [result.get("signs", {}) for result in results if result["row"] == row]
        if any(of_row):
            means[row] = {
                name: statistics.fmean(signs[name] for signs in of_row if name in signs)
                for name in dict.fromkeys(name for signs in of_row for name in signs)
            }
    names = sorted({name for values in means.values() for name in values})
    if not names:
        return ""
    lines = [
        [
            f"`{name}`",
            *(f"{values[name]:.3g}" if name in values else "-" for values in means.values()),
        ]
        for name in names
    ]
    headers = ["sign of life", *(f"`{row}`" for row in means)]
    grid = tabulate(lines, headers, tablefmt="pipe", disable_numparse=True)
    return f"{grid}\n\nThe last values that training logged, mean over the seeds.\n"
