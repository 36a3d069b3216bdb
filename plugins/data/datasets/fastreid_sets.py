"""What fastreid's readers know and do not say: where pictures are, and what is left out.

The readers are used as they are. They take what fits a pattern, pass over the rest, and read the
first digits of a number; so what they found is compared with the folders and with the names.
"""

import linecache
import os
import re
from collections.abc import Callable, Iterator
from types import FrameType, TracebackType
from typing import Any, NamedTuple

from fastreid.data import datasets as fastreid_sets
from fastreid.data.datasets.bases import ImageDataset

from plugins.data.datasets.unlisted import Folders, folders_around
from plugins.errors import InputError
from plugins.utils.io import read_text

# Attributes in which readers keep the folders that they list.
FOLDERS = ("train_dir", "query_dir", "gallery_dir", "test_dir", "train_path")


class Layout(NamedTuple):
    """What is known of one reader.

    Attributes:
        folders: attributes of the reader that hold its folders, each with the part below it that
            is meant; empty for the folders of the files that it found.
        by_pattern: as of ``Folders``.
        known: what the set leaves out by its own rules: the reader -> whether, by a file's path.
        name: person and camera in a file's name, whole; empty where the reader reads names whole.
    """

    folders: tuple[str, ...] = FOLDERS
    by_pattern: bool = True
    known: Callable[[Any], Callable[[str], bool]] = lambda reader: lambda path: False
    name: str = ""


def _validation_files(reader: fastreid_sets.MSMT17) -> Callable[[str], bool]:
    """``list_val.txt``, on which fastreid does not train, names the rest of the training files."""
    lines = read_text(reader.list_val_path).splitlines()
    names = {os.path.abspath(os.path.join(reader.train_dir, line.split(" ")[0])) for line in lines}
    return names.__contains__


def _junk(reader: fastreid_sets.Market1501) -> Callable[[str], bool]:
    """Person -1 is no person: detections that show too little of one."""
    return lambda path: os.path.basename(path).startswith("-1_")


# A person's number that no letter or digit stands before, and all digits of the camera.
PERSON_CAMERA = r"(?<![^\W_])(-?\d+)_c(\d+)"
# A pool from which lists take what they want: nothing in it is missing.
POOL = Layout(folders=(), by_pattern=False, known=lambda reader: lambda path: True)
LAYOUTS: dict[type, Layout] = {
    fastreid_sets.Market1501: Layout(known=_junk, name=PERSON_CAMERA),
    fastreid_sets.DukeMTMC: Layout(name=PERSON_CAMERA),
    fastreid_sets.VeRi: Layout(name=PERSON_CAMERA),
    fastreid_sets.MSMT17: Layout(by_pattern=False, known=_validation_files),
    fastreid_sets.cuhkSYSU: Layout(("data_dir",)),
    fastreid_sets.SAIVT: Layout(("train_path/cropped_images",)),
    # The infrared cameras, 3 and 6, are left out.
    fastreid_sets.SYSU_mm: Layout(tuple(f"train_path/cam{camera}" for camera in (1, 2, 4, 5))),
    # A list, of which people below 11001 are left out.
    fastreid_sets.AirportALERT: Layout((), by_pattern=False),
    fastreid_sets.CUHK03: Layout((), by_pattern=False),
    fastreid_sets.VehicleID: POOL,
    fastreid_sets.VeRiWild: POOL,
}


def layout_of(reader: ImageDataset) -> Layout:
    """What is known of a reader or of the one that it extends; of others, what is usual."""
    return next((LAYOUTS[kind] for kind in type(reader).__mro__ if kind in LAYOUTS), Layout())


def image_folders(reader: ImageDataset, files: list[str]) -> Folders:
    """Where a reader's pictures are.

    Args:
        reader: fastreid's or a user's.
        files: that it found.
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

    ``_c(\d)`` reads camera 1 in ``0002_c10s1_000151_01.jpg``, and looks for it in the names of the
    folders above first.

    Raises:
        InputError: names the first file whose name says something else.
    """
    layout = layout_of(reader)
    if not layout.name or type(reader).process_dir not in _own_methods():
        return
    pattern = re.compile(layout.name)
    prefix = re.compile(rf"{re.escape(reader.dataset_name)}_(test_)?")
    for path, pid, camid in (*reader.train, *reader.query, *reader.gallery):
        found = tuple(int(prefix.sub("", str(label), count=1)) for label in (pid, camid))
        match = pattern.search(os.path.basename(path))
        if not match or (int(match[1]), int(match[2]) - 1) != found:
            said = f"person {int(match[1])}, camera {int(match[2])}" if match else "neither"
            raise InputError(
                f"{path}: its name says {said}, but fastreid's reader takes person {found[0]}, "
                f"camera {found[1] + 1}; expected a name such as 0002_c1s1_000151_01.jpg, and no "
                "folder above it with such a name"
            )


def _own_methods() -> list[Callable]:
    """The methods of fastreid that read names; a subclass may have another one."""
    return [kind.process_dir for kind, layout in LAYOUTS.items() if layout.name]


def explain(error: BaseException) -> str:
    """Which file a reader of fastreid stumbled over, and why, as far as its variables tell."""
    reason = f"{type(error).__name__}: {error}"
    for frame, line in _frames(error.__traceback__):
        if isinstance(error, AssertionError) and line.startswith("assert "):
            reason = _broken_condition(frame, line)
        if where := _file_in(frame):
            if isinstance(error, UnicodeDecodeError):
                return _undecodable(where)
            return f"{where}: {reason}"
    return reason


def _undecodable(file: str) -> str:
    """The line and the byte that is not UTF-8; Python's own message holds the file's contents."""
    try:
        read_text(file)
    except InputError as error:
        return str(error)
    return f"{file}: not text in this machine's encoding"


def _frames(trace: TracebackType | None) -> Iterator[tuple[FrameType, str]]:
    """Frames of a traceback with the line that each stopped at, the innermost first."""
    frames = []
    while trace:
        code = trace.tb_frame.f_code
        line = linecache.getline(code.co_filename, trace.tb_lineno)
        frames.append((trace.tb_frame, line.split("#")[0].strip()))
        trace = trace.tb_next
    return reversed(frames)


def _broken_condition(frame: FrameType, line: str) -> str:
    """An assertion and the numbers in it: "camid is 9, expected 1 <= camid <= 6"."""
    condition = line.removeprefix("assert ")
    values = {
        name: frame.f_locals[name]
        for name in re.findall(r"[a-zA-Z_]\w*", condition)
        if isinstance(frame.f_locals.get(name), int)
    }
    found = ", ".join(f"{name} is {value}" for name, value in values.items())
    return f"{found or 'not so'}, expected {condition}"


def _file_in(frame: FrameType) -> str:
    """The first file among a function's variables, with the line of it that another one holds."""
    texts = [value for value in frame.f_locals.values() if isinstance(value, str)]
    file = next((text for text in texts if os.path.isfile(text)), "")
    for lines in frame.f_locals.values():
        if isinstance(lines, list) and lines and isinstance(lines[0], str) and file not in lines:
            stripped = [line.strip() for line in lines]
            for text in texts:
                if text.strip() in stripped:
                    return f"{file}:{stripped.index(text.strip()) + 1}"
    return file
