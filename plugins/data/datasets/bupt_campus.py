"""BUPTCampus: 3,080 people, 6 cameras that see visible light and infrared at once (AuxNet, 2023).

``data_paths.json`` lists the frames of every tracklet, the row files name tracklets by
``pid modality camera tracklet``. Files and layouts are those of the public release.
"""

import functools
import json
import os
from collections import Counter
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from fastreid.config import CfgNode

from plugins.config import check_value
from plugins.data.datasets.base import ReidDataset
from plugins.data.datasets.index_files import (
    check_people_differ,
    read_lines,
    read_text,
    require_part,
    whole_number,
)
from plugins.data.datasets.tracklet import INFRARED, VISIBLE, Tracklet, as_tracklet
from plugins.data.datasets.unlisted import Folders
from plugins.errors import InputError
from plugins.protocol import Direction
from plugins.registry import DATASET

# The codes are ours and never change: results and checkpoints may depend on them.
CAMERAS = {"LS3": 1, "G25": 2, "CQ1": 3, "W4": 4, "TSG1": 5, "TSG2": 6}
MODALITY_CODES = {"RGB": VISIBLE, "IR": INFRARED}
PAIR = "RGB/IR"
TRANSLATED = "FakeIR"  # folder of frames that a generator made of the visible ones
PROTOCOLS = ("full", "official")
# AuxNet's test batches of visible clips are whole batches of this size; the rest is left out.
OFFICIAL_BATCH = 64


class Row(NamedTuple):
    """A row of ``file``, at ``line``: one tracklet, or an aligned pair of them."""

    file: str
    line: int
    pid: str
    modality: str
    camera: str
    tracklet: str

    @property
    def where(self) -> str:
        """Return the row's line, as file:line."""
        return f"{self.file}:{self.line}"


@DATASET.register()
class BUPTCampus(ReidDataset):
    """BUPTCampus, or a set in its format, such as the rendered one.

    Query and gallery hold both modalities. A row of the training files is an aligned pair and gives
    a visible and an infrared tracklet, one after the other. The reader opens no frame.

    Two protocols are in use and their numbers do not compare: "full" is M3-ReID's, on all items and
    without gallery items of the query's person and camera; "official" is AuxNet's, without that
    rule and with the visible rows cut to a multiple of 64.
    """

    dataset_url = "https://github.com/dyhBUPT/BUPTCampus"
    holds = "clips"

    def __init__(
        self,
        root: str = "datasets",
        combineall: bool = False,
        dataset_dir: str = "BUPTCampus",
        protocol: str = "full",
        auxiliary: bool = False,
        fake_ir: bool = False,
    ) -> None:
        """Read ``data_paths.json`` and the row files.

        Args:
            root: folder of all data sets.
            combineall: train on the test tracklets too.
            dataset_dir: folder of this set in ``root``.
            protocol: "full" or "official".
            auxiliary: train on the people of ``train_auxiliary.txt`` too; one camera alone sees
                each of them.
            fake_ir: train on the translated infrared frames too, a third tracklet of each pair.

        Raises:
            InputError: there is no such protocol, or it leaves no visible rows; the folder is
                missing, or a file disagrees with the format or with another.
        """
        check_value("DATASETS.BUPT.PROTOCOL", protocol)
        folder = os.path.join(root, dataset_dir)
        index_file = os.path.join(folder, "data_paths.json")
        require_part(
            folder, "data_paths.json", "BUPTCampus", self.dataset_url, "--layout bupt-campus"
        )
        self.protocol = protocol
        self._index_file = index_file
        index = read_index(index_file)
        splits = ("train", "train_auxiliary") if auxiliary else ("train",)
        train = [row for split in splits for row in read_rows(folder, split, paired=True)]
        query = read_rows(folder, "query", paired=False)
        gallery = read_rows(folder, "gallery", paired=False)
        check_people_differ(
            *([(int(row.pid), row.where) for row in rows] for rows in (train, query + gallery))
        )
        frames = os.path.join(folder, "DATA")
        pairs = [make_pair(row, index, frames, fake_ir) for row in train]
        self._rows = [*(row for row in train for _ in pairs[0]), *query, *gallery]
        super().__init__(
            [item for pair in pairs for item in pair],
            [make_tracklet(row, row.modality, index, frames) for row in query],
            [make_tracklet(row, row.modality, index, frames) for row in gallery],
            combineall,
        )
        self.directions()  # raises now, not after the training

    @classmethod
    def options(cls, cfg: CfgNode) -> dict:
        """Read DATASETS.BUPT."""
        bupt = cfg.DATASETS.BUPT
        return {"protocol": bupt.PROTOCOL, "auxiliary": bupt.AUXILIARY, "fake_ir": bupt.FAKE_IR}

    def folders(self) -> Folders:
        """Return ``DATA``; the index lists its frames, used or not, except translated ones."""
        root = os.path.join(os.path.dirname(self._index_file), "DATA")
        files = (os.path.join(root, path) for path in listed_files(read_index(self._index_file)))
        translated = f"{os.sep}{TRANSLATED}{os.sep}"
        return Folders(
            (root,), files, lambda path: translated in path[len(root) :], by_pattern=False
        )

    def line_of(self, file: str, split: str) -> str:
        """Return the line of the file's tracklet in a row file."""
        return self._lines.get(file, "")

    @functools.cached_property
    def _lines(self) -> dict[str, str]:
        items = (*self.train, *self.query, *self.gallery)[: len(self._rows)]
        return {
            path: row.where
            for row, item in zip(self._rows, items, strict=True)
            for path in as_tracklet(item).img_paths
        }

    def camera_name(self, label: int | str) -> str:
        """Return the name in the index files, such as LS3."""
        return next(name for name, number in CAMERAS.items() if number == label)

    def directions(self) -> dict[str, Direction]:
        """Search I2V and V2I, where there are rows, with the protocol in the name: "I2V full".

        Raises:
            InputError: the official protocol leaves no visible rows.
        """
        trials, junk = self.trials_by_modality(), "camera"
        if self.protocol == "official":
            junk = "none"
            i2v, v2i = trials["I2V"], trials["V2I"]
            trials["V2I"] = v2i._replace(query=whole_batches(v2i.query, "query"))
            trials["I2V"] = i2v._replace(gallery=whole_batches(i2v.gallery, "gallery"))
        return {
            f"{name} {self.protocol}": Direction((trial,), junk=junk)
            for name, trial in trials.items()
            if len(trial.query) and len(trial.gallery)
        }


def whole_batches(rows: np.ndarray, name: str) -> np.ndarray:
    """Cut rows at the end, so that their number is a multiple of 64.

    Raises:
        InputError: nothing is left.
    """
    if len(rows) < OFFICIAL_BATCH:
        raise InputError(
            f"DATASETS.BUPT.PROTOCOL: official cuts the visible rows of {name}.txt to a multiple "
            f"of {OFFICIAL_BATCH}, but there are {len(rows)}; use full"
        )
    return rows[: len(rows) // OFFICIAL_BATCH * OFFICIAL_BATCH]


def read_index(path: str) -> dict:
    """Read ``data_paths.json``: person -> modality -> camera -> tracklet -> paths below ``DATA/``.

    Raises:
        InputError: not UTF-8, not JSON, or not such a table; or a name is in a table twice.
    """

    def table(pairs: list[tuple[str, object]]) -> dict:
        entries = dict(pairs)
        if len(entries) < len(pairs):  # json itself keeps the last of the two
            ((name, times),) = Counter(name for name, _ in pairs).most_common(1)
            raise InputError(f"{path}: '{name}' is {times} times in one table; expected once")
        return entries

    try:
        index = json.loads(read_text(path), object_pairs_hook=table)
    except json.JSONDecodeError as error:
        raise InputError(f"{path}:{error.lineno}: not JSON: {error.msg}") from error
    except InputError:
        raise
    except ValueError:  # Python reads no more than 4300 digits
        raise InputError(f"{path}: a number has too many digits; expected text") from None
    except RecursionError:
        raise InputError(f"{path}: nested too deeply; expected a table of people") from None
    if not isinstance(index, dict):
        raise InputError(f"{path}: found a {type(index).__name__}, expected a table of people")
    return index


def listed_files(index: object) -> Iterator[str]:
    """Yield all paths in ``data_paths.json``, or in a part of it."""
    if isinstance(index, str):
        yield index
    elif isinstance(index, dict | list):
        for part in index.values() if isinstance(index, dict) else index:
            yield from listed_files(part)


def read_rows(folder: str, split: str, paired: bool) -> list[Row]:
    """Read the rows of ``<split>.txt``, without blank lines.

    Args:
        folder: folder of the data set.
        split: train, train_auxiliary, query or gallery.
        paired: whether the rows are aligned pairs, RGB/IR.

    Raises:
        InputError: the file is missing or empty; a row is not four words, has an unknown modality
            or camera, or comes twice.
    """
    path = os.path.join(folder, f"{split}.txt")
    modalities = (PAIR,) if paired else tuple(MODALITY_CODES)
    rows = []
    seen: dict[tuple[str, ...], int] = {}
    for line, text in enumerate(read_lines(path), start=1):
        words = text.split()
        if not words:
            continue
        if len(words) != 4 or whole_number(words[0]) is None:
            raise InputError(
                f"{path}:{line}: found {text.strip()!r}, expected: pid modality camera tracklet"
            )
        row = Row(path, line, *words)
        for value, choices, what in (
            (row.modality, modalities, "modality"),
            (row.camera, tuple(CAMERAS), "camera"),
        ):
            if value not in choices:
                raise InputError(
                    f"{path}:{line}: {what} {value!r}, expected one of {', '.join(choices)}"
                )
        first = seen.setdefault(row[2:], line)
        if first != line:
            raise InputError(f"{path}:{line}: {text.strip()!r} is on line {first} too")
        rows.append(row)
    return rows


def make_pair(row: Row, index: dict, frames: str, fake_ir: bool) -> list[Tracklet]:
    """Make the two tracklets of a training row, and with ``fake_ir`` the translated one."""
    visible = make_tracklet(row, "RGB", index, frames)
    pair = [visible, make_tracklet(row, "IR", index, frames)]
    if fake_ir:
        # Only below DATA: the data set itself may lie in a folder named RGB.
        start = len(frames)
        translated = tuple(
            path[:start] + path[start:].replace("/RGB/", f"/{TRANSLATED}/")
            for path in visible.img_paths
        )
        pair.append(visible._replace(img_paths=translated, modality=INFRARED, is_pseudo=True))
    return pair


def make_tracklet(row: Row, modality: str, index: dict, frames: str) -> Tracklet:
    """Make one tracklet of ``row``.

    Raises:
        InputError: ``data_paths.json`` does not have it, or lists no frames for it.
    """
    paths: Any = index
    for key in (row.pid, modality, row.camera, row.tracklet):
        paths = paths.get(key) if isinstance(paths, dict) else None
    if not (isinstance(paths, list) and paths and all(isinstance(path, str) for path in paths)):
        raise InputError(
            f"{row.where}: data_paths.json lists no frames for person {row.pid}, "
            f"{modality}, camera {row.camera}, tracklet {row.tracklet}"
        )
    return Tracklet(
        tuple(f"{frames}/{path}" for path in paths),
        int(row.pid),
        CAMERAS[row.camera],
        MODALITY_CODES[modality],
    )
