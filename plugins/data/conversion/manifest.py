"""The layout of a user's data: ``manifest.csv`` and ``<split>/<tracklet>/<frame>.jpg``."""

import csv
import io
import os
from pathlib import Path

from plugins.data.conversion.item import Item, Plan
from plugins.data.datasets.manifest import (
    COLUMNS,
    ManifestDataset,
    Row,
    read_table,
    refuse_lookalikes,
    refuse_repeated,
)
from plugins.data.datasets.tracklet import MODALITIES, VISIBLE
from plugins.errors import InputError
from plugins.utils.io import write_text

NAME = "manifest"
TABLE = "manifest.csv"


def read_sources(table: str, source: str, parts: str) -> list[Row]:
    """Read a table whose rows are whole sources of tracklets instead of frames.

    Args:
        table: CSV or Parquet file with the columns of ``ManifestDataset``.
        source: kind of a row's file or folder, such as "video", for the message.
        parts: what is numbered in a source, such as "frames", for the message.

    Raises:
        InputError: from the table; it is empty, names a tracklet or a frame, or lists a source
            twice.
    """
    rows = list(read_table(table))
    if not rows:
        raise InputError(f"{table}: it lists no {source}s")
    for row in rows:
        if row.tracklet or row.frame:
            raise InputError(
                f"{row.where}: tracklet '{row.tracklet}', frame {row.frame}; expected both empty: "
                f"a row is a whole {source}, and its {parts} are numbered here"
            )
    refuse_lookalikes(rows)
    refuse_repeated(rows, os.path.dirname(table))
    return rows


def open_set(folder: Path) -> ManifestDataset:
    """Read the data set in ``folder``."""
    return ManifestDataset(root=str(folder), file=TABLE)


def plan(items: list[Item]) -> Plan:
    """Keep all items in their order; number tracklets from 1 through the whole set."""
    planned = [
        item._replace(
            files=tuple(
                f"{item.split}/{number:06d}/{frame:04d}{os.path.splitext(file)[1]}"
                for frame, file in enumerate(item.files, start=1)
            )
        )
        for number, item in enumerate(items, start=1)
    ]
    return Plan(planned, [item.files for item in items], [])


def write_index(root: Path, items: list[Item]) -> None:
    """Write ``manifest.csv``; a set of nothing but visible images becomes a table of images."""
    images = all(item.modality == VISIBLE and len(item.files) == 1 for item in items)
    text = io.StringIO(newline="")
    # With the default end of line: with another a carriage return in a name is not quoted.
    table = csv.writer(text)
    table.writerow(COLUMNS)
    for number, item in enumerate(items, start=1):
        modality = MODALITIES[item.modality]
        for frame, path in enumerate(item.files, start=1):
            position = ("", "") if images else (number, frame)
            table.writerow((path, item.person, item.camera, modality, *position, item.split))
    write_text(root / TABLE, text.getvalue())
