"""Turn what trackers leave into tracklets: boxes in frames or in a video, or folders of crops.

A row of the table is a sequence: a camera's frames or video, with all tracks in it. Its path is

- a folder as MOTChallenge has them: ``gt/gt.txt``, and frames in ``img1`` (or the ``imDir`` of
  ``seqinfo.ini``) or a video in the folder;
- a video, with boxes in MOTChallenge's format beside it, in a file of its name that ends in
  ``.txt``, as trackers write them;
- a folder of crops, as BoxMOT saves them: ``<track>/<frame>.jpg``, also below
  ``crops/<class>``.

A line of ground truth is read by the same rule in both places: it has up to nine values, the 7th
says whether the box counts, the 8th is its class, and the 9th is its visibility, 0 to 1. Trackers
write more values, or a negative one there; all their boxes count.

Source: Dendorfer et al., "MOTChallenge: A Benchmark for Single-Camera Multiple Target Tracking",
IJCV 2021; frames, tracks and pixels count from 1 there.
"""

import configparser
import os
import re
import shutil
from collections import Counter
from collections.abc import Iterator, Sequence
from decimal import Decimal
from pathlib import Path
from typing import NamedTuple

from PIL import Image
from tqdm import tqdm

from plugins.data.conversion import manifest
from plugins.data.conversion.item import Item
from plugins.data.conversion.videos import decode
from plugins.data.datasets.manifest import Row
from plugins.data.datasets.tracklet import MODALITIES
from plugins.errors import InputError
from plugins.utils.drafts import draft_of, require_new
from plugins.utils.images import ENDINGS, read_image
from plugins.utils.io import read_text, write_errors

TRACK = "{track}"  # in a person's name: the number of the track
VIDEOS = (".mp4", ".avi", ".mkv", ".mov", ".webm", ".m4v", ".mpg", ".ts")
PEDESTRIAN = 1  # class of MOTChallenge
PERSON = ("0", "person")  # class folders of crops: COCO's number and name
NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d{1,3})?", re.ASCII | re.IGNORECASE)
LARGEST = 1e9  # pixels
SMALLEST = 8  # pixels; a box with a shorter side shows nobody


class Box(NamedTuple):
    """A track's box in one frame; ``where`` is its line, as file:line. Pixels count from 0."""

    where: str
    frame: int
    track: str
    left: float
    top: float
    width: float
    height: float


class Cropped(NamedTuple):
    """Result of cropping: numbers of tracklets and frames, and what was left out, a line each."""

    tracklets: int
    frames: int
    losses: list[str]


def crop_tracks(table: str, out: Path, every: int = 1) -> Cropped:
    """Write the crops of all tracks of a table of sequences, and their manifest.

    Args:
        table: CSV or Parquet file with the columns of ``ManifestDataset``, a row for each sequence;
            ``tracklet`` and ``frame`` are empty. ``{track}`` in ``person`` stands for the number of
            the track: ``{track}`` where a number is the same person in all sequences,
            ``north-{track}`` where it is not.
        out: new folder; it grows under another name, so that a killed run leaves no whole folder.
        every: keep one of so many boxes of each track, beginning with the first.

    Raises:
        InputError: from the table; a row is no sequence, holds no track, or lists a frame that does
            not exist; a line of boxes is wrong, or lists a track twice in a frame; a crop's name
            holds no number.
    """
    require_new(out)
    rows = manifest.read_sources(table, "sequence", "tracks")
    items: list[Item] = []
    losses: list[str] = []
    with draft_of(out, "--out", "conversion") as draft:
        for row in tqdm(rows, unit="sequence"):
            path = Path(os.path.dirname(table), row.path)
            writer = _Writer(row, draft, len(items), every)
            left_out = _read_sequence(row, path, writer)
            if not writer.files:
                raise InputError(f"{row.where}: {row.path}: no track in it")
            items += writer.items()
            losses += [f"{row.path}: {number} {what}" for what, number in left_out.items()]
        manifest.write_index(draft, items)
    return Cropped(len(items), sum(len(item.files) for item in items), losses)


class _Writer:
    """Writes the crops of one sequence, a folder for each track."""

    def __init__(self, row: Row, out: Path, first: int, every: int) -> None:
        self._row, self._out, self._first, self._every = row, out, first, every
        self._seen: Counter[str] = Counter()
        self._numbers: dict[str, int] = {}
        self.files: dict[str, list[str]] = {}

    def add(self, track: str, crop: Image.Image | Path) -> None:
        """Write a crop, or copy its file, unless ``every`` leaves it out."""
        self._seen[track] += 1
        if (self._seen[track] - 1) % self._every:
            return
        files = self.files.setdefault(track, [])
        number = self._numbers.setdefault(track, self._first + len(self.files))
        ending = crop.suffix.lower() if isinstance(crop, Path) else ".png"
        name = f"{self._row.split}/{number:06d}/{len(files) + 1:04d}{ending}"
        path = self._out / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(crop, Path):
            read_image(crop)  # whole and of a format that is read
            with write_errors(path):
                shutil.copyfile(crop, path)
        else:
            with write_errors(path):
                crop.save(path)
        files.append(name)

    def items(self) -> list[Item]:
        """Return the tracklets, in the order in which their tracks began."""
        row, modality = self._row, MODALITIES.index(self._row.modality)
        return [
            Item(row.split, row.person.replace(TRACK, track), row.camera, modality, tuple(files))
            for track, files in self.files.items()
        ]


def _read_sequence(row: Row, path: Path, writer: _Writer) -> Counter[str]:
    """Write all crops of a sequence; return what was left out, counted."""
    if path.is_file():
        source, frames = path.with_suffix(".txt"), decode(str(path), row.where)
        if not source.is_file():
            raise InputError(
                f"{row.where}: {source}: no such file; expected the boxes of {row.path}"
            )
    elif not path.is_dir():
        raise InputError(f"{row.where}: {path}: no such folder or video")
    elif (path / "gt/gt.txt").is_file():
        source, frames = path / "gt/gt.txt", sequence_frames(row, path)
    else:
        return _copy_crops(row, path, writer)
    boxes, left_out = read_boxes(source)
    return left_out + _crop_boxes(row, boxes, frames, writer)


def read_boxes(path: Path) -> tuple[dict[int, list[Box]], Counter[str]]:
    """Read boxes in MOTChallenge's format: frame, track, left, top, width, height, ...

    Args:
        path: a text file, values separated by commas.

    Returns:
        (frame -> its boxes, number of boxes of each kind that is left out)

    Raises:
        InputError: a line has too few values, one that is no number, or a frame or track that is no
            whole number, or lists a track twice in a frame; or there is no box of a pedestrian.
    """
    boxes: dict[int, list[Box]] = {}
    left_out: Counter[str] = Counter()
    first: dict[tuple[int, str], str] = {}
    for number, line in enumerate(read_text(path).splitlines(), start=1):
        if not line.strip():
            continue
        where, cells = f"{path}:{number}", [cell.strip() for cell in line.split(",")]
        try:
            box = Box(where, whole(cells[0]), str(whole(cells[1])), *map(pixels, cells[2:6]))
            excluded = _excluded([float(cell) for cell in cells[6:9]], len(cells))
        except (ValueError, TypeError, IndexError):
            raise InputError(
                f"{where}: '{line}'; expected frame,track,left,top,width,height and more: numbers, "
                f"whole ones for frame and track, pixels up to {LARGEST:g}"
            ) from None
        if excluded:
            left_out[excluded] += 1
            continue
        key = box.frame, box.track
        if first.setdefault(key, where) != where:
            raise InputError(
                f"{where}: track {box.track} is in frame {box.frame} at {first[key]} too"
            )
        boxes.setdefault(box.frame, []).append(box._replace(left=box.left - 1, top=box.top - 1))
    if not boxes:
        found = "".join(f"; left out: {count} {what}" for what, count in left_out.items())
        raise InputError(f"{path}: it lists no boxes of pedestrians{found}")
    return boxes, left_out


def whole(cell: str) -> int:
    """Read a whole number of any length exactly; 1.0 is one.

    >>> whole("99999999999999999999"), whole("7.0"), whole("1e1")
    (99999999999999999999, 7, 10)

    Raises:
        ValueError: it is no whole number.
    """
    if not NUMBER.fullmatch(cell):
        raise ValueError(cell)
    numerator, denominator = Decimal(cell).as_integer_ratio()
    if denominator != 1:
        raise ValueError(cell)
    return numerator


def pixels(cell: str) -> float:
    """Read a number of pixels; raise ValueError for what is none."""
    if not NUMBER.fullmatch(cell) or abs(float(cell)) > LARGEST:
        raise ValueError(cell)
    return float(cell)


def _excluded(more: Sequence[float], number: int) -> str:
    """Say why ground truth leaves a box out; empty where it does not.

    Args:
        more: values 7 to 9 of the line, as far as there are any.
        number: number of its values.
    """
    if number > 9 or (len(more) == 3 and more[2] < 0):  # a tracker's
        return ""
    if more and more[0] == 0:
        return "boxes that do not count"
    return "boxes of other classes" if len(more) > 1 and more[1] != PEDESTRIAN else ""


def sequence_frames(row: Row, folder: Path) -> Iterator[Image.Image]:
    """Yield the frames of a sequence of MOTChallenge, from number 1 on."""
    info = configparser.ConfigParser()
    if (folder / "seqinfo.ini").is_file():
        try:
            info.read_string(read_text(folder / "seqinfo.ini"))
        except configparser.Error as error:
            raise InputError(f"{folder / 'seqinfo.ini'}: {error}") from error
    images = folder / info.get("Sequence", "imDir", fallback="img1")
    if not images.is_dir():
        videos = sorted(path for path in folder.iterdir() if path.suffix.lower() in VIDEOS)
        if len(videos) != 1:
            raise InputError(
                f"{row.where}: {images}: no such folder, and {len(videos)} videos in {folder}; "
                "expected the frames or one video"
            )
        yield from decode(str(videos[0]), row.where)
        return
    files = {number_in(path): path for path in images.iterdir() if path.suffix.lower() in ENDINGS}
    for number in range(1, max(files, default=0) + 1):
        if number not in files:
            raise InputError(f"{row.where}: {images}: frame {number} is missing")
        yield read_image(files[number])


def number_in(path: Path) -> int:
    """Return the last number in a file's name.

    >>> number_in(Path("cam1_000012.jpg"))
    12
    """
    numbers = re.findall(r"\d+", path.stem)
    if not numbers:
        raise InputError(f"{path}: no number in its name; expected that of its frame")
    return int(numbers[-1])


def _crop_boxes(
    row: Row, boxes: dict[int, list[Box]], frames: Iterator[Image.Image], writer: _Writer
) -> Counter[str]:
    """Crop every box out of its frame."""
    left_out: Counter[str] = Counter()
    number = 0
    for number, image in enumerate(tqdm(frames, unit="frame", leave=False), start=1):
        for box in boxes.pop(number, ()):
            left, top = max(round(box.left), 0), max(round(box.top), 0)
            right = min(round(box.left + box.width), image.width)
            bottom = min(round(box.top + box.height), image.height)
            if min(right - left, bottom - top) < SMALLEST:
                left_out[f"boxes of less than {SMALLEST} pixels inside the frame"] += 1
                continue
            writer.add(box.track, image.crop((left, top, right, bottom)))
    if boxes:
        box = boxes[min(boxes)][0]
        raise InputError(f"{box.where}: frame {box.frame}; {row.path} has {number} frames")
    return left_out


def _copy_crops(row: Row, folder: Path, writer: _Writer) -> Counter[str]:
    """Copy the crops of every track of a folder, in the order of their frames."""
    left_out: Counter[str] = Counter()
    folders: dict[Path, list[Path]] = {}
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() in ENDINGS and path.is_file():
            folders.setdefault(path.parent, []).append(path)
    for track, files in sorted(folders.items(), key=lambda each: (len(each[0].name), each[0].name)):
        kind = track.parent.name if track.parent.parent.name == "crops" else PERSON[0]
        if kind not in PERSON:
            left_out[f"crops of class {kind}"] += len(files)
            continue
        if not track.name.isdecimal():
            raise InputError(
                f"{row.where}: {track}: crops in a folder that is no track's; expected folders "
                "named by the numbers of tracks. Crops that ultralytics saves by save_crop do not "
                "say whose they are: use its boxes instead, or BoxMOT's crops"
            )
        if track.name in writer.files:
            raise InputError(f"{row.where}: {track}: track {track.name} is in another folder too")
        for path in sorted(files, key=number_in):
            writer.add(track.name, path)
    return left_out
