"""The two tables of a balancing: the plan of slots, and the manifest of filled slots."""

import csv
import io
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple, TypeVar

from plugins.balancing.planner import Slot
from plugins.errors import InputError
from plugins.utils.commands import command_line
from plugins.utils.csv_files import read_csv
from plugins.utils.io import write_text

PLAN, MANIFEST, MADE_WITH = "plan.csv", "manifest.csv", "made_with.json"


class Outcome(NamedTuple):
    """A slot after its candidates were judged.

    Attributes:
        slot: number of the slot in the plan.
        person: the person that the image shows.
        camera: the camera that seems to have taken it.
        reason: reason of the slot.
        path: file of the image, relative to the table's folder; empty if no candidate passed.
        is_pseudo: always 1, because the table lists no real images.
        seed: seed of the generator.
        candidates: number of images generated for the slot.
        accepted: number of candidates that passed; the best of them is kept.
        person_rank: the teacher's rank of the right person, from 1; 0 for an empty slot.
        camera_probability: probability of the right camera; 0 for an empty slot.
    """

    slot: int
    person: str
    camera: str
    reason: str
    path: str
    is_pseudo: int
    seed: int
    candidates: int
    accepted: int
    person_rank: int
    camera_probability: float


Row = TypeVar("Row", Slot, Outcome)


def write_table(path: Path, kind: type[Row], rows: Iterable[Row]) -> None:
    """Write rows under a header, completely or not at all."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(kind._fields)
    writer.writerows(rows)
    write_text(path, text.getvalue())


def unfinished(folder: Path, outcomes: Sequence[Outcome]) -> str | None:
    """Return a message if the manifest lacks slots of the plan beside it, else None.

    Args:
        folder: folder of both tables.
        outcomes: rows of the manifest.
    """
    slots = read_table(folder / PLAN, Slot) if (folder / PLAN).is_file() else []
    if len(outcomes) >= len(slots):
        return None
    return (
        f"{folder / MANIFEST}: {len(outcomes)} of the {len(slots)} slots of {PLAN}; "
        f"{command_line('balance_data')} generate goes on"
    )


def read_table(path: Path, kind: type[Row]) -> list[Row]:
    """Read the rows of a table.

    Raises:
        InputError: there is no such file, or it has other columns or a cell of another type; the
            message names file and line.
    """
    if not path.is_file():
        task = "plan" if kind is Slot else "generate"
        command = f"{command_line('balance_data')} {task}"
        raise InputError(f"{path}: no such file; {command} writes it")
    (_, header), *lines = list(read_csv(path)) or [(1, [])]
    if tuple(header) != kind._fields:
        raise InputError(
            f"{path}:1: found the columns {','.join(header)}; expected {','.join(kind._fields)}"
        )
    types = kind.__annotations__.values()
    rows = []
    for number, cells in lines:
        if len(cells) != len(header):
            raise InputError(
                f"{path}:{number}: found {len(cells)} cells; expected {len(header)}, as in the "
                "header"
            )
        try:
            rows.append(kind(*(make(cell) for make, cell in zip(types, cells, strict=True))))
        except ValueError as error:
            raise InputError(f"{path}:{number}: {error}") from error
    return rows
