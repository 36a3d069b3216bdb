"""Lists of a data set whose people, cameras and files compare between its splits."""

import logging
from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple

from fastreid.config import CfgNode

from plugins.data.datasets.base import ReidDataset
from plugins.data.datasets.own_names import line_of, named
from plugins.data.datasets.presence import check_command
from plugins.data.datasets.tracklet import MODALITIES, SPLITS, Tracklet
from plugins.data.datasets.wrapped import innermost
from plugins.utils.real_files import first_spellings

logger = logging.getLogger(__name__)

Splits = dict[str, list[Tracklet]]
LineOf = Callable[[str, str], str]  # file and its split -> file:line of a list; "" without one
# Names, sizes and first files of the data sets that this process has checked.
_checked: set[tuple] = set()


class SharedFile(NamedTuple):
    """A file that two items show as different things.

    Attributes:
        where: place of the later item, see :func:`place`, and the file as that item names it.
        text: what the two items disagree on.
    """

    where: str
    text: str


def no_line(file: str, split: str) -> str:
    """Return "": no text file lists the files."""
    return ""


def place(split: str, row: int, file: str, line_of: LineOf) -> str:
    """Name the place of an item: the line that lists its file, else its row in a split, from 0."""
    return line_of(file, split) or f"{split} row {row}"


def read_splits(data: ReidDataset) -> Splits:
    """List the tracklets of each split, with own names; an image is a tracklet of one frame."""
    return {split: [named(data, item) for item in getattr(data, split)] for split in SPLITS}


def find_shared_files(splits: Splits, line_of: LineOf = no_line) -> Iterator[SharedFile]:
    """Find files, however their paths are spelled, that two items show as different things.

    The file is in train and in test, or has two people, cameras or modalities.

    Args:
        splits: splits to compare.
        line_of: tells the line that lists a file.
    """
    spellings = first_spellings(
        file for items in splits.values() for item in items for file in item.img_paths
    )
    first: dict[str, tuple[str, int, Tracklet]] = {}
    for split, items in splits.items():
        for row, item in enumerate(items):
            for file in item.img_paths:
                spelling = spellings[file]
                first_split, first_row, owner = first.setdefault(spelling, (split, row, item))
                if first_row == row and first_split == split:
                    continue
                where = place(first_split, first_row, spelling, line_of)
                if (split == "train") != (first_split == "train"):
                    text = f"the file is in {where} too"
                elif owner.pid != item.pid:
                    text = f"person {item.pid}, but person {owner.pid} in {where}"
                elif (owner.camid, owner.modality) != (item.camid, item.modality):
                    views = [f"{MODALITIES[i.modality]}, camera {i.camid}" for i in (item, owner)]
                    text = f"{views[0]}, but {views[1]} in {where}"
                else:
                    continue
                if spelling != file:
                    text += f", as {spelling}"
                yield SharedFile(f"{place(split, row, file, line_of)} ({file})", text)


def warn_of_faults(data: ReidDataset, name: str, cfg: CfgNode | None = None) -> None:
    """Warn, once in a process, of what biases a run: see ``faults`` and ``find_shared_files``.

    Args:
        data: the data set, without test items among those of training.
        name: its registered name.
        cfg: config of the run, for the command that tells more.
    """
    splits = read_splits(data)
    sizes = tuple((len(items), items[0].img_paths[0]) for items in splits.values() if items)
    if (name, sizes) in _checked:
        return
    _checked.add((name, sizes))
    for where, fault in getattr(innermost(data), "faults", {}).items():
        logger.warning("%s: %s: %s", name, where, fault)
    if shared := list(find_shared_files(splits, partial(line_of, data))):
        logger.warning(
            "%s: %d files are listed as two different things, such as %s: %s; %s lists them",
            *(name, len(shared), *shared[0], check_command(name, cfg)),
        )
