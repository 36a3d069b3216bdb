"""The layout of a user's data: ``manifest.csv`` and ``<split>/<tracklet>/<frame>.jpg``."""

import csv
import os
from pathlib import Path

from plugins.data.conversion.item import Item, Plan
from plugins.data.datasets.manifest import COLUMNS, ManifestDataset
from plugins.data.datasets.tracklet import MODALITIES, VISIBLE

NAME = "manifest"
TABLE = "manifest.csv"


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
    with open(root / TABLE, "w", encoding="utf-8", newline="") as file:
        # With the default end of line: with another a carriage return in a name is not quoted.
        table = csv.writer(file)
        table.writerow(COLUMNS)
        for number, item in enumerate(items, start=1):
            modality = MODALITIES[item.modality]
            for frame, path in enumerate(item.files, start=1):
                position = ("", "") if images else (number, frame)
                table.writerow((path, item.person, item.camera, modality, *position, item.split))
