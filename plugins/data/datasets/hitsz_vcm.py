"""HITSZ-VCM: 927 people, 12 cameras, visible and infrared walks (Lin et al., MITML, CVPR 2022).

``info/`` describes the frames: a name file has one frame a line, a track file one tracklet a row,
by its first and last line in the name file. Files and layouts are those of the public release.
"""

import functools
import itertools
import logging
import os
import re
from typing import NamedTuple

from plugins.data.datasets.base import ReidDataset
from plugins.data.datasets.index_files import (
    check_people_differ,
    read_text,
    require_part,
    whole_number,
)
from plugins.data.datasets.tracklet import INFRARED, MODALITIES, VISIBLE, Tracklet
from plugins.data.datasets.unlisted import Folders
from plugins.errors import InputError
from plugins.registry import DATASET

logger = logging.getLogger(__name__)

MODALITY_CODES = {1: INFRARED, 2: VISIBLE}
MODALITY_FOLDERS = {INFRARED: "ir", VISIBLE: "rgb"}
COLUMNS = "modality start end person camera"
NAME = re.compile(r"(\d+)M([12])D(\d+)T\d+F(.+\.(?:jpg|jpeg|png|bmp))", re.IGNORECASE)


class Row(NamedTuple):
    """A row of a track ``file``, at ``line``; ``start`` and ``end`` are as written."""

    file: str
    line: int
    modality: int
    start: int
    end: int
    pid: int
    camid: int

    @property
    def where(self) -> str:
        """Return the row's line, as file:line."""
        return f"{self.file}:{self.line}"


@DATASET.register()
class HITSZVCM(ReidDataset):
    """HITSZ-VCM, or a set in its format, such as the rendered one.

    All infrared test tracklets are queries, all visible ones the gallery. The reader opens none of
    the 463,259 frames.
    """

    dataset_url = "https://github.com/VCM-project233/MITML"
    holds = "clips"
    # MITML's loader (min_seq_len=12) leaves out shorter tracklets, in training and in test;
    # published results are on the 9,751 + 4,584 + 5,099 tracklets that remain.
    min_frames = 12

    def __init__(
        self, root: str = "datasets", combineall: bool = False, dataset_dir: str = "HITSZ-VCM"
    ) -> None:
        """Read the five files of ``info/``.

        Args:
            root: folder of all data sets.
            combineall: train on the test tracklets too.
            dataset_dir: folder of this set in ``root``.

        Raises:
            InputError: the folder is missing, or a file disagrees with the format or with another.
        """
        folder = os.path.join(root, dataset_dir)
        require_part(folder, "info", "HITSZ-VCM", self.dataset_url, "--preset quick")
        rows, train = read_split(folder, "train")
        test_rows, test = read_split(folder, "test")
        check_people_differ(
            *([(row.pid, row.where) for row in listed] for listed in (rows, test_rows))
        )
        queries = read_query_rows(folder, test_rows)
        # query_IDX counts the rows of the file, so short tracklets are left out only now.
        subsets = {
            "train": train,
            "query": [test[row] for row in sorted(queries)],
            "gallery": [tracklet for row, tracklet in enumerate(test) if row not in queries],
        }
        long = {name: self._long(tracklets) for name, tracklets in subsets.items()}
        self._short = [item for item in (*train, *test) if len(item.img_paths) < self.min_frames]
        self._roots = tuple(
            frames_folder(folder, split, listed[0].pid)
            for split, listed in (("Train", rows), ("Test", test_rows))
        )
        super().__init__(**long, combineall=combineall)
        self._name_files = [
            (rows, items, os.path.join(folder, "info", f"{split}_name.txt"))
            for split, rows, items in (("train", rows, train), ("test", test_rows, test))
        ]
        for name, tracklets in subsets.items():
            if short := len(tracklets) - len(long[name]):
                self.remarks[name] = (
                    f"{short} of {len(tracklets)} tracklets are left out: they have fewer than "
                    f"{self.min_frames} frames, and MITML's loader leaves them out as well"
                )
        for split, listed in (("train", rows), ("test", test_rows)):
            pairs = itertools.pairwise(sorted(listed, key=lambda row: row.start))
            if breaks := [row.line for before, row in pairs if row.start != before.end + 1]:
                self.remarks[f"track_{split}_info.txt"] = (
                    f"{len(breaks)} of {len(listed)} rows do not start after the end of another, "
                    f"the first in line {breaks[0]}; a row may be lost or doubled"
                )

    def folders(self) -> Folders:
        """Return the folders of both splits; a remark counts the short tracklets left out."""
        short = [path for item in self._short for path in item.img_paths]
        return Folders(self._roots, [*self.image_files(), *short], by_pattern=False)

    def line_of(self, file: str, split: str) -> str:
        """Return the line of a name file."""
        return self._lines.get(file, "")

    @functools.cached_property
    def _lines(self) -> dict[str, str]:
        return {
            path: f"{name_file}:{row.start + index}"
            for rows, items, name_file in self._name_files
            for row, item in zip(rows, items, strict=True)
            for index, path in enumerate(item.img_paths)
        }

    def _long(self, tracklets: list[Tracklet]) -> list[Tracklet]:
        return [tracklet for tracklet in tracklets if len(tracklet.img_paths) >= self.min_frames]


def read_split(folder: str, split: str) -> tuple[list[Row], list[Tracklet]]:
    """Read the rows of a track file and their tracklets, in the order of the file.

    Args:
        folder: folder of the data set.
        split: train or test.

    Raises:
        InputError: with file and line: unreadable, or the track file and the name file disagree.
    """
    name_file = os.path.join(folder, "info", f"{split}_name.txt")
    track_file = os.path.join(folder, "info", f"track_{split}_info.txt")
    names = [name.strip() for name in read_text(name_file).rstrip().split("\n")]
    rows = read_rows(track_file)
    last = max(rows, key=lambda row: row.end)
    if last.end > len(names):
        raise InputError(
            f"{name_file}: ends at line {len(names)}, but {last.where} needs it up to "
            f"line {last.end}; it may be cut off"
        )
    if last.end < len(names):
        raise InputError(
            f"{track_file}: its rows end at line {last.end} of {name_file}, which has "
            f"{len(names)}; it may be cut off"
        )
    frames = frames_folder(folder, split.capitalize(), rows[0].pid)
    return rows, [make_tracklet(row, names, frames, name_file) for row in rows]


def read_rows(track_file: str) -> list[Row]:
    """Read the rows of a track file, without blank lines.

    Raises:
        InputError: a row is not five numbers, has an unknown modality, or starts after its end.
    """
    rows = []
    for line, text in enumerate(read_text(track_file).split("\n"), start=1):
        columns = text.split()
        if not columns:
            continue
        numbers = [n for n in map(whole_number, columns) if n is not None]
        if len(columns) != 5 or len(numbers) != 5:
            raise InputError(
                f"{track_file}:{line}: found {text.strip()!r}, expected five numbers: {COLUMNS}"
            )
        code, start, end, pid, camid = numbers
        if code not in MODALITY_CODES:
            raise InputError(
                f"{track_file}:{line}: modality {code}, expected 1 (infrared) or 2 (visible)"
            )
        if not 1 <= start <= end:
            raise InputError(
                f"{track_file}:{line}: start {start}, end {end}; expected 1 <= start <= end"
            )
        rows.append(Row(track_file, line, MODALITY_CODES[code], start, end, pid, camid))
    return rows


def make_tracklet(row: Row, names: list[str], frames: str, name_file: str) -> Tracklet:
    """Make the tracklet of ``row``.

    Raises:
        InputError: a name is unreadable, or has another person, modality or camera than the row.
    """
    folder = f"{frames}/{row.pid:04d}/{MODALITY_FOLDERS[row.modality]}/D{row.camid}"
    paths = []
    for line in range(row.start, row.end + 1):
        match = NAME.fullmatch(names[line - 1])
        if not match:
            raise InputError(
                f"{name_file}:{line}: found {names[line - 1]!r}, "
                "expected a frame such as 0001M2D3T1F6.jpg"
            )
        pid, code, camid, file = match.groups()
        labels = (int(pid), MODALITY_CODES[int(code)], int(camid))
        if labels != (row.pid, row.modality, row.camid):
            raise InputError(
                f"{name_file}:{line}: '{names[line - 1]}' is {describe(*labels)}, but "
                f"{row.where} is {describe(row.pid, row.modality, row.camid)}"
            )
        paths.append(f"{folder}/{file}")
    return Tracklet(tuple(paths), row.pid, row.camid, row.modality)


def describe(pid: int, modality: int, camid: int) -> str:
    """Describe a tracklet or a frame in words.

    >>> describe(1, 0, 3)
    'person 1, visible, camera 3'
    """
    return f"person {pid}, {MODALITIES[modality]}, camera {camid}"


def frames_folder(folder: str, split: str, pid: int) -> str:
    """Find the people of a split: in ``Train/``, doubled ``Train/Train/``, or ``folder`` itself.

    Args:
        folder: folder of the data set.
        split: Train or Test.
        pid: a person of the split, whose folder decides.

    Raises:
        InputError: the person is in none of them.
    """
    candidates = [os.path.join(folder, split, split), os.path.join(folder, split), folder]
    for candidate in candidates:
        if os.path.isdir(os.path.join(candidate, f"{pid:04d}")):
            return candidate
    raise InputError(
        f"{folder}: no frames of person {pid:04d}; looked for a folder {pid:04d} in "
        f"{', '.join(candidates)}"
    )


def read_query_rows(folder: str, test: list[Row]) -> set[int]:
    """Read the 0-based rows that ``query_IDX.txt`` lists: all infrared ones.

    Older copies of the file have a damaged last number. The one missing infrared row replaces it.

    Args:
        folder: folder of the data set.
        test: all rows of the test track file.

    Raises:
        InputError: a number is no infrared row or comes twice, or infrared rows are not listed.
    """
    path = os.path.join(folder, "info", "query_IDX.txt")
    tokens = read_text(path, keep_damage=True).split()
    missing = {number for number, row in enumerate(test, start=1) if row.modality == INFRARED}
    rows = set()
    for position, token in enumerate(tokens, start=1):
        number = whole_number(token)
        if number not in missing:
            if position == len(tokens) and len(missing) == 1:
                number = min(missing)
                logger.warning("%s: last number %r is damaged; took %d", path, token, number)
            else:
                raise InputError(
                    f"{path}: number {position} is {token!r}, expected an infrared row of "
                    f"track_test_info.txt (1 to {len(test)}), each once"
                )
        missing.remove(number)
        rows.add(number - 1)
    if missing:
        raise InputError(
            f"{path}: lists {len(rows)} rows, but track_test_info.txt has {len(missing)} more "
            f"infrared ones, such as row {min(missing)}; it may be cut off"
        )
    return rows
