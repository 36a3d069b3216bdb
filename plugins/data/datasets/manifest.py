"""Read a user's clips or images: a table lists every frame."""

import os
import unicodedata
from collections.abc import Iterator
from typing import Any, NamedTuple

from fastreid.config import CfgNode

from plugins.data.datasets.base import Items, ReidDataset
from plugins.data.datasets.index_files import check_people_differ, whole_number
from plugins.data.datasets.tracklet import (
    MODALITIES,
    SPLITS,
    VISIBLE,
    Tracklet,
    as_tracklet,
    number_sorted,
)
from plugins.errors import InputError
from plugins.protocol import Direction
from plugins.registry import DATASET
from plugins.utils import csv_files
from plugins.utils.io import require_file
from plugins.utils.names import closest_names, find_invisible
from plugins.utils.real_files import find_repeated

COLUMNS = ("path", "person", "camera", "modality", "tracklet", "frame", "split")


class Row(NamedTuple):
    """One frame; ``where`` is its line in the table, as file:line."""

    where: str
    path: str
    person: str
    camera: str
    modality: str
    tracklet: str
    frame: int
    split: str


@DATASET.register()
class ManifestDataset(ReidDataset):
    """Frames listed in a CSV file, or a Parquet file with the same columns if pyarrow is there.

    The columns are path (relative to the table's folder, or absolute), person, camera, modality
    (visible or infrared), tracklet, frame (a number: the order in a tracklet) and split (train,
    query or gallery). Person, camera and tracklet are any text. Rows with the same split, person,
    camera, modality and tracklet are one tracklet; an image is a row with an empty tracklet, and
    may leave frame empty too. A table of nothing but visible images gives fastreid's images, (path,
    pid, camid), which fastreid's models take.
    """

    def __init__(
        self, root: str = "datasets", combineall: bool = False, file: str = "manifest.csv"
    ) -> None:
        """Read the table.

        Args:
            root: folder of all data sets.
            combineall: train on the test tracklets too.
            file: the table in ``root``; an absolute path needs no ``root``.

        Raises:
            InputError: no such file, a column is missing, a row is wrong (with file and line), or
                somebody is both in train and in test, or two names look alike.
        """
        path = os.path.join(root, file)
        rows = list(read_table(path))
        if not rows:
            raise InputError(f"{path}: it lists no frames")
        trained, tested = (
            [(row.person, row.where) for row in rows if (row.split == "train") == train]
            for train in (True, False)
        )
        refuse_lookalikes(rows)
        check_people_differ(trained, tested)
        self._people, self._cameras = (
            list(number_sorted(getattr(row, name) for row in rows)) for name in ("person", "camera")
        )
        items: dict[str, Items] = {**group(rows, os.path.dirname(path))}
        if all(row.modality == MODALITIES[VISIBLE] and not row.tracklet for row in rows):
            items = {split: [as_image(item) for item in items[split]] for split in SPLITS}
        super().__init__(items["train"], items["query"], items["gallery"], combineall)
        self._lines = {
            (row.split, os.path.join(os.path.dirname(path), row.path)): row.where for row in rows
        }
        if fault := find_frames_of_no_tracklet(rows):
            self.faults[file] = fault
        self.remarks |= find_split_tracklets(rows)

    def line_of(self, file: str, split: str) -> str:
        """Return the line of the table; of a file in other splits the first of these lines."""
        return next(
            (self._lines[key, file] for key in (split, *SPLITS) if (key, file) in self._lines), ""
        )

    @classmethod
    def options(cls, cfg: CfgNode) -> dict:
        """Read DATASETS.MANIFEST."""
        return {"file": cfg.DATASETS.MANIFEST.FILE}

    def person_name(self, label: int | str) -> str:
        """Return the name in the table."""
        return self._people[int(label)]

    def camera_name(self, label: int | str) -> str:
        """Return the name in the table."""
        return self._cameras[int(label)]

    def directions(self) -> dict[str, Direction]:
        """Search I2V and V2I, if the table has queries and a gallery for them.

        If all items are of one modality, all queries search the whole gallery (Q2G).
        """
        items = [as_tracklet(item) for item in [*self.query, *self.gallery]]
        if len({item.modality for item in items}) == 1:
            return {"Q2G": Direction((self.rows(),))}
        return {
            name: Direction((trial,))
            for name, trial in self.trials_by_modality().items()
            if len(trial.query) and len(trial.gallery)
        }


def as_image(item: tuple) -> tuple[str, int, int]:
    """Make fastreid's image (path, pid, camid) of a tracklet of one visible frame."""
    (path, *_), pid, camid, *_ = item
    return path, pid, camid


def read_table(path: str) -> Iterator[Row]:
    """Yield the rows of a CSV or Parquet file; see ``read_csv`` and ``read_parquet``.

    Raises:
        InputError: there is no such file, or from the reader.
    """
    try:
        require_file(path, "DATASETS.MANIFEST.FILE")
    except InputError as error:
        raise InputError(f"{error}; expected a table with columns {','.join(COLUMNS)}") from None
    return read_parquet(path) if path.endswith(".parquet") else read_csv(path)


def read_csv(path: str) -> Iterator[Row]:
    """Yield the rows of a CSV file with a header.

    Raises:
        InputError: the file is not UTF-8, a column is missing or unknown, a row is wrong,
            or a quote is not closed.
    """
    lines = csv_files.read_csv(path)
    _, header = next(lines, (1, []))
    check_columns(path, header)
    for number, cells in lines:
        if not cells:  # a blank line
            continue
        where = f"{path}:{number}"
        if len(cells) != len(header):
            raise InputError(f"{where}: expected {len(COLUMNS)} cells, as in the header")
        yield make_row(where, dict(zip(header, cells, strict=True)))


def read_parquet(path: str) -> Iterator[Row]:
    """Yield the rows of a Parquet file, numbered from 1 in messages.

    Raises:
        InputError: pyarrow is not installed, a column is missing or unknown, a text
            is not UTF-8, or a row is wrong.
    """
    try:
        from pyarrow import ArrowException, parquet
    except ImportError:
        raise InputError(f"{path}: reading Parquet needs pyarrow: pip install pyarrow") from None
    try:
        table = parquet.read_table(path)
    except (OSError, ArrowException) as error:
        raise InputError(f"{path}: no Parquet file: {error}") from error
    check_columns(path, table.column_names)
    columns = {name: texts_of(path, name, table[name]) for name in COLUMNS}
    for number, cells in enumerate(zip(*columns.values(), strict=True), start=1):
        yield make_row(f"{path}:{number}", dict(zip(COLUMNS, cells, strict=True)))


def texts_of(path: str, name: str, column: Any) -> list[str]:
    """Return the cells of a Parquet column as a CSV file would have them; an empty one is "".

    Raises:
        InputError: a text is not UTF-8, or a cell is neither text nor a number.
    """
    try:
        cells = column.to_pylist()
    except UnicodeDecodeError:
        raise InputError(f"{path}: a text in column {name} is not UTF-8") from None
    for number, cell in enumerate(cells, start=1):
        # In Python bool is a number, and NaN is one.
        if isinstance(cell, bytes | bool) or cell != cell:
            raise InputError(f"{path}:{number}: {name} is {cell!r}, expected text or a number")
    return ["" if cell is None else str(cell) for cell in cells]


def check_columns(path: str, names: list[str]) -> None:
    """Raise InputError unless a table has the columns, in any order."""
    if sorted(names) != sorted(COLUMNS):
        raise InputError(
            f"{path}:1: found the columns {','.join(names)}; expected {','.join(COLUMNS)}"
        )


def make_row(where: str, cells: dict[str, str]) -> Row:
    """Make a row of the table.

    Raises:
        InputError: a cell is empty, holds a line end or an invisible character, or has a value
            that is not among the choices.
    """
    for name, cell in cells.items():
        if "\n" in cell or "\r" in cell:
            raise InputError(
                f"{where}: {name} is {cell!r}, which holds a line end; expected a row in one line: "
                "is there a stray quote?"
            )
    cells = {name: cell.strip() for name, cell in cells.items()}
    for name in ("path", "person", "camera"):
        if not cells[name]:
            raise InputError(f"{where}: {name} is empty")
    if "\0" in cells["path"]:
        raise InputError(f"{where}: path holds a NUL character, which no file's name does")
    for name in ("person", "camera", "tracklet"):
        if unseen := find_invisible(cells[name]):
            raise InputError(f"{where}: {name} {cells[name]!r} holds an invisible {unseen}")
    for name, choices in (("modality", list(MODALITIES)), ("split", list(SPLITS))):
        if cells[name] not in choices:
            raise InputError(
                f"{where}: {name} is '{cells[name]}', expected one of "
                f"{', '.join(closest_names(cells[name], choices))}"
            )
    frame = cells["frame"] or ("" if cells["tracklet"] else "0")
    number = whole_number(frame)
    if number is None:
        raise InputError(f"{where}: frame is '{frame}', expected a whole number")
    others = {name: cells[name] for name in COLUMNS if name != "frame"}
    return Row(where, frame=number, **others)


def refuse_repeated(rows: list[Row], folder: str) -> None:
    """Raise InputError if a split lists a file twice, whose items would count double.

    Args:
        rows: rows of the table, whose paths may be spelled in any way.
        folder: folder to which paths are relative.
    """
    for split in SPLITS:
        listed = [row for row in rows if row.split == split]
        for place, first in find_repeated([os.path.join(folder, row.path) for row in listed]):
            row, other = listed[place], listed[first]
            spelled = f" as {other.path}" if other.path != row.path else ""
            raise InputError(f"{row.where}: {row.path} is listed at {other.where} too{spelled}")


def refuse_lookalikes(rows: list[Row]) -> None:
    """Raise InputError if two people, cameras or tracklets differ in their Unicode form only."""
    for field in ("person", "camera", "tracklet"):
        first: dict[str, Row] = {}
        for row in rows:
            first.setdefault(getattr(row, field), row)
        forms: dict[str, Row] = {}
        for name, row in first.items():
            other = forms.setdefault(unicodedata.normalize("NFC", name), row)
            if other is not row:
                raise InputError(
                    f"{row.where}: {field} {name!a} reads as {getattr(other, field)!a} "
                    f"at {other.where} does; expected one spelling, in Unicode's form NFC"
                )


def find_frames_of_no_tracklet(rows: list[Row]) -> str:
    """Say where frames of what looks like one walk stand without a tracklet, each for itself.

    A frame orders the frames of a tracklet, so that different ones of a person under a camera tell
    that the tracklets were forgotten. Images whose frames are all equal, or empty, tell nothing.
    """
    views: dict[tuple, list[Row]] = {}
    for row in rows:
        if not row.tracklet:
            view = (row.split, row.person, row.camera, row.modality)
            views.setdefault(view, []).append(row)
    ordered = (view for view in views.values() if len({row.frame for row in view}) > 1)
    numbered = [row for view in ordered for row in view]
    if not numbered:
        return ""
    return (
        f"{len(numbered)} rows have a frame but no tracklet, so that each is a single image and no "
        f"part of a clip, the first at {numbered[0].where}; expected the name of a tracklet, or "
        "for single images an empty frame"
    )


def find_split_tracklets(rows: list[Row]) -> dict[str, str]:
    """Say, by split, which of its tracklets have rows of another split, too."""
    first: dict[tuple, dict[str, Row]] = {}
    for row in rows:
        if row.tracklet:
            walk = (row.person, row.camera, row.modality, row.tracklet)
            first.setdefault(walk, {}).setdefault(row.split, row)
    shared = [list(splits.values()) for splits in first.values() if len(splits) > 1]
    if not shared:
        return {}
    one, other = shared[0][:2]
    return {
        other.split: (
            f"tracklets whose rows lie in two splits: {len(shared)}, such as {one.tracklet!r} of "
            f"person {one.person}, camera {one.camera}: {one.split} at {one.where}, {other.split} "
            f"at {other.where}"
        )
    }


def group(rows: list[Row], folder: str) -> dict[str, list[Tracklet]]:
    """Group rows into the tracklets of each split, in the order of their first rows.

    People and cameras are numbered from 0 in sorted order.

    Args:
        rows: rows of the whole table.
        folder: folder to which paths are relative.

    Raises:
        InputError: a tracklet lists a frame twice, or a split an image of its own.
    """
    refuse_repeated([row for row in rows if not row.tracklet], folder)
    people = number_sorted(row.person for row in rows)
    cameras = number_sorted(row.camera for row in rows)
    frames: dict[tuple, dict[int, Row]] = {}
    for row in rows:
        # An image is a tracklet of its own.
        tracklet = row.tracklet or (row.where,)
        key = (row.split, row.person, row.camera, row.modality, tracklet)
        first = frames.setdefault(key, {}).setdefault(row.frame, row)
        if first is not row:
            raise InputError(
                f"{row.where}: frame {row.frame} of tracklet '{row.tracklet}' is listed at "
                f"{first.where} too"
            )
    tracklets: dict[str, list[Tracklet]] = {split: [] for split in SPLITS}
    for (split, person, camera, modality, _), by_frame in frames.items():
        paths = tuple(os.path.join(folder, by_frame[frame].path) for frame in sorted(by_frame))
        tracklets[split].append(
            Tracklet(paths, people[person], cameras[camera], MODALITIES.index(modality))
        )
    return tracklets
