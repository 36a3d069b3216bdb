"""From a table that lists videos to one that lists their frames."""

import os
from collections.abc import Iterator
from pathlib import Path

from PIL import Image
from tqdm import tqdm

from plugins.data.conversion import manifest
from plugins.data.conversion.draft import draft_of, require_new
from plugins.data.conversion.item import Item
from plugins.data.datasets.manifest import Row, read_table
from plugins.data.datasets.tracklet import MODALITIES
from plugins.errors import InputError


def extract_frames(table: str, out: Path, every: int = 1) -> tuple[int, int]:
    """Decode the videos of a table into PNG files and the table of ``ManifestDataset``.

    Args:
        table: CSV or Parquet file with the columns of ``ManifestDataset``; each row's ``path`` is a
            video that shows one person, and becomes one tracklet. ``tracklet`` and ``frame`` are
            left empty.
        out: new folder; it grows under another name, so that a killed run leaves nothing whole.
        every: of so many frames one is kept, the first included.

    Returns:
        (tracklets, frames)

    Raises:
        InputError: from the table, or it is empty; ``out`` is there, or what a killed
            extraction left; PyAV is missing; a video is missing, damaged or empty (with the
            table's row).
    """
    require_new(out)
    rows = list(read_table(table))
    if not rows:
        raise InputError(f"{table}: it lists no videos")
    with draft_of(out, "--out", "extraction") as draft:
        with tqdm(rows, unit="video") as bar:
            items = [
                extract(row, number, os.path.dirname(table), draft, every)
                for number, row in enumerate(bar, start=1)
            ]
        manifest.write_index(draft, items)
    return len(items), sum(len(item.files) for item in items)


def extract(row: Row, number: int, folder: str, out: Path, every: int) -> Item:
    """The frames of one video as files below ``out``, and the tracklet that they are."""
    tracklet = out / row.split / f"{number:06d}"
    tracklet.mkdir(parents=True)
    files = []
    for index, image in enumerate(decode(os.path.join(folder, row.path), row.place)):
        if index % every == 0:
            path = tracklet / f"{len(files) + 1:04d}.png"
            image.save(path)
            files.append(str(path.relative_to(out)))
    if not files:
        raise InputError(f"{row.place}: {row.path} holds no frames")
    modality = MODALITIES.index(row.modality)
    return Item(row.split, row.person, row.camera, modality, tuple(files))


def decode(path: str, place: str) -> Iterator[Image.Image]:
    """The frames of a video, RGB, as a player shows them.

    Args:
        path: of the video.
        place: where it is listed, for the message.

    Raises:
        InputError: PyAV is not installed, or it cannot read the file to its end.
    """
    try:
        import av  # of the extra "video"
    except ImportError:
        raise InputError(f"{path}: reading videos needs PyAV: pip install av") from None
    try:
        with av.open(path) as container:
            for frame in container.decode(video=0):
                # A phone films lying down and notes by how many degrees, counter-clockwise.
                yield frame.to_image().rotate(frame.rotation, expand=True)
    except (OSError, av.error.FFmpegError, IndexError) as error:
        raise InputError(f"{place}: {path}: not a whole video: {error}") from error
