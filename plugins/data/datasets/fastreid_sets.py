"""Check the lists that fastreid's unmodified readers make of their files.

They take files that fit a pattern, pass over the rest, and read the first digits of a number; so
their lists are compared with their folders and with the names of their files.
"""

import contextlib
import os
import random
import re
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from fastreid.data import datasets as fastreid_sets
from fastreid.data.datasets.bases import ImageDataset

from plugins.data.datasets.unlisted import Folders, folders_around
from plugins.errors import InputError
from plugins.utils.commands import command_line
from plugins.utils.io import read_text

# Attributes in which readers keep the folders that they list.
FOLDERS = ("train_dir", "query_dir", "gallery_dir", "test_dir", "train_path")


MARKET_FOLDERS = ("bounding_box_train", "query", "bounding_box_test")


class Layout(NamedTuple):
    """Describe the files of one reader, which does not describe them itself.

    Attributes:
        folders: attributes of the reader that hold its folders, each with a path below the folder;
            empty for the folders of the files that the reader lists.
        by_pattern: as in ``Folders``.
        known: makes ``Folders.known`` for a reader.
        name: pattern of the person and the camera in a file's name; empty if the reader's pattern
            takes whole numbers.
        first_camera: number of the camera that the reader calls 0.
    """

    folders: tuple[str, ...] = FOLDERS
    by_pattern: bool = True
    known: Callable[[Any], Callable[[str], bool]] = lambda reader: lambda path: False
    name: str = ""
    first_camera: int = 0


def _validation_files(reader: fastreid_sets.MSMT17) -> Callable[[str], bool]:
    """Know the files of ``list_val.txt``, on which fastreid does not train."""
    lines = read_text(reader.list_val_path).splitlines()
    names = {os.path.abspath(os.path.join(reader.train_dir, line.split(" ")[0])) for line in lines}
    return names.__contains__


def _junk(reader: fastreid_sets.Market1501) -> Callable[[str], bool]:
    """Know person -1: detections that show too little of anybody."""
    return lambda path: os.path.basename(path).startswith("-1_")


# A person's number that follows no letter or digit, and all digits of the camera.
PERSON_CAMERA = r"(?<![^\W_])(-?\d+)_c(\d+)"
# A pool from which lists take some files: none of its files is missing in a list.
POOL = Layout(folders=(), by_pattern=False, known=lambda reader: lambda path: True)
LAYOUTS: dict[Any, Layout] = {
    fastreid_sets.Market1501: Layout(known=_junk, name=PERSON_CAMERA, first_camera=1),
    fastreid_sets.DukeMTMC: Layout(name=PERSON_CAMERA, first_camera=1),
    fastreid_sets.VeRi: Layout(name=PERSON_CAMERA, first_camera=1),
    fastreid_sets.MSMT17: Layout(by_pattern=False, known=_validation_files, first_camera=1),
    fastreid_sets.cuhkSYSU: Layout(("data_dir",)),
    fastreid_sets.SAIVT: Layout(("train_path/cropped_images",)),
    # The infrared cameras, 3 and 6, are left out.
    fastreid_sets.SYSU_mm: Layout(tuple(f"train_path/cam{camera}" for camera in (1, 2, 4, 5))),
    # A list, of which people below 11001 are left out.
    fastreid_sets.AirportALERT: Layout((), by_pattern=False),
    fastreid_sets.CUHK03: Layout((), by_pattern=False, first_camera=1),
    fastreid_sets.VehicleID: POOL,
    fastreid_sets.VeRiWild: POOL,
}


def missing_part(reader: Any, root: str) -> str:
    """Say what a Market-1501 lacks and where to get it; empty for a whole one and for other sets.

    Args:
        reader: registered as a data set.
        root: folder of all data sets.
    """
    if reader is not fastreid_sets.Market1501:
        return ""
    folder = os.path.join(root, "Market-1501-v15.09.15")
    home = folder if os.path.isdir(folder) else root  # fastreid reads both places
    lacks = [part for part in MARKET_FOLDERS if not os.path.isdir(os.path.join(home, part))]
    render = f"{command_line('make_synthetic')} --layout market1501 --out {folder}"
    if not lacks:
        return ""
    if len(lacks) == len(MARKET_FOLDERS) and home == root:
        return (
            f"{folder}: no Market-1501 there; set FASTREID_DATASETS to the folder that holds "
            f"{os.path.basename(folder)}, or render a stand-in: {render}"
        )
    return (
        f"{home}: it lacks {', '.join(lacks)}, so it is not whole: copy it again, or render a "
        f"stand-in again: {render}"
    )


def layout_of(reader: ImageDataset) -> Layout:
    """Return the layout of a reader, or of the reader that it extends, or the usual layout."""
    return next((LAYOUTS[kind] for kind in type(reader).__mro__ if kind in LAYOUTS), Layout())


def first_camera(reader: ImageDataset) -> int:
    """Return the number that the files of a reader's first camera have."""
    return layout_of(reader).first_camera


def image_folders(reader: ImageDataset, files: list[str]) -> Folders:
    """Return where a reader keeps its pictures.

    Args:
        reader: fastreid's or a user's.
        files: the files that it lists.
    """
    layout = layout_of(reader)
    roots = []
    for name in layout.folders:
        attribute, _, below = name.partition("/")
        root = os.path.join(str(getattr(reader, attribute, "")), below)
        if getattr(reader, attribute, "") and os.path.isdir(root):
            roots.append(root)
    known = layout.known(reader)
    if not roots:
        return folders_around(files)._replace(known=known)
    return Folders(tuple(roots), files, known, by_pattern=layout.by_pattern)


def check_names(reader: ImageDataset) -> None:
    r"""Compare people and cameras with the names of their files.

    The pattern ``_c(\d)`` reads camera 1 in ``0002_c10s1_000151_01.jpg``, and matches the names of
    the folders above first.

    Raises:
        InputError: a file's name has another person or camera; the message names the first one.
    """
    layout = layout_of(reader)
    if not layout.name or getattr(type(reader), "process_dir", None) not in _name_readers():
        return
    pattern = re.compile(layout.name)
    prefix = re.compile(rf"{re.escape(reader.dataset_name)}_(test_)?")
    for path, *labels in (*reader.train, *reader.query, *reader.gallery):
        pid, camid = (int(prefix.sub("", str(label), count=1)) for label in labels)
        match = pattern.search(os.path.basename(path))
        if not match or (int(match[1]), int(match[2]) - 1) != (pid, camid):
            named = f"person {int(match[1])}, camera {int(match[2])}" if match else "neither"
            raise InputError(
                f"{path}: its name says {named}, but fastreid's reader takes person {pid}, "
                f"camera {camid + 1}; expected a name such as 0002_c1s1_000151_01.jpg, and no "
                "folder above it with such a name"
            )


def _name_readers() -> list[Callable]:
    """Return fastreid's methods that read people from names; a subclass may have another one."""
    return [kind.process_dir for kind, layout in LAYOUTS.items() if layout.name]


@contextlib.contextmanager
def fixed_draws(reader: Any) -> Iterator[None]:
    """Let a reader of fastreid draw the same each time, and leave the global generator as it was.

    VehicleID shuffles its test items with Python's global generator (vehicleid.py, process_dir), so
    that each process of a run, and each run, would search another gallery.

    Args:
        reader: registered as a data set; the draws of a user's reader are not fixed.
    """
    if not getattr(reader, "__module__", "").startswith("fastreid."):
        yield
        return
    state = random.getstate()
    random.seed(0)
    try:
        yield
    finally:
        random.setstate(state)
