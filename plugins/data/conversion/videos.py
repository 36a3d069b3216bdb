"""Turn a table that lists videos into one that lists their frames."""

import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np
from PIL import Image
from tqdm import tqdm

from plugins.data.conversion import manifest
from plugins.data.conversion.item import Item
from plugins.data.datasets.manifest import Row
from plugins.data.datasets.tracklet import MODALITIES
from plugins.errors import InputError
from plugins.utils.drafts import draft_of, require_new
from plugins.utils.io import write_errors

if TYPE_CHECKING:
    import av

logger = logging.getLogger(__name__)

REMEDY = "to take what is left of it, write it anew: ffmpeg -i OLD NEW"
TS_PACKETS = (188, 192, 204)  # bytes: plain, with time codes, with error correction
# Seconds by which sound may end later than its last packet says.
OTHER_STREAMS = 0.25
# Share of steps between frames beyond which a rate is not steady.
IRREGULAR = 0.1


def extract_frames(table: str, out: Path, every: int = 1) -> tuple[int, int]:
    """Decode the videos of a table into PNG files and the table of ``ManifestDataset``.

    Args:
        table: CSV or Parquet file with the columns of ``ManifestDataset``; each row's ``path`` is a
            video that shows one person, and becomes one tracklet. ``tracklet`` and ``frame`` are
            left empty.
        out: new folder; it grows under another name, so that a killed run leaves no whole folder.
        every: keep one of so many frames, beginning with the first.

    Returns:
        (tracklets, frames)

    Raises:
        InputError: from the table; it is empty, lists frames, or lists a video twice; ``out`` is
            there, or the rest of a killed extraction; PyAV is missing; a video is missing, damaged
            or empty (with the table's row).
    """
    require_new(out)
    rows = manifest.read_sources(table, "video", "frames")
    with draft_of(out, "--out", "extraction") as draft:
        with tqdm(rows, unit="video") as bar:
            items = [
                extract(row, number, os.path.dirname(table), draft, every)
                for number, row in enumerate(bar, start=1)
            ]
        manifest.write_index(draft, items)
    return len(items), sum(len(item.files) for item in items)


def extract(row: Row, number: int, folder: str, out: Path, every: int) -> Item:
    """Write the frames of one video below ``out``; return their tracklet."""
    tracklet = out / row.split / f"{number:06d}"
    tracklet.mkdir(parents=True)
    files: list[str] = []
    for index, image in enumerate(decode(os.path.join(folder, row.path), row.where)):
        if index % every == 0:
            path = tracklet / f"{len(files) + 1:04d}.png"
            with write_errors(path):
                image.save(path)
            files.append(str(path.relative_to(out)))
    if not files:
        raise InputError(f"{row.where}: {row.path} holds no frames")
    modality = MODALITIES.index(row.modality)
    return Item(row.split, row.person, row.camera, modality, tuple(files))


def decode(path: str, where: str) -> Iterator[Image.Image]:
    """Yield the frames of a video, RGB, as a player shows them.

    A decoder silently conceals some damage, and a recording without a header, such as MPEG-TS, does
    not say where it was to end; neither can be noticed. A warning says that frames are missing from
    a steady rate: the camera dropped them, or the file has lost them.

    Args:
        path: the video.
        where: file and line that list it, for the message.

    Raises:
        InputError: PyAV is not installed, the file is no video, a frame is damaged, or the file
            ends before its header says.
    """
    try:
        import av  # of the extra "video"
    except ImportError:
        raise InputError(f"{path}: reading videos needs PyAV: pip install av") from None
    if os.path.exists(path) and not os.path.isfile(path):
        raise InputError(f"{where}: {path}: not a regular file")
    try:
        # A playlist may be called .mp4 as well; it shall fetch nothing.
        options = {"protocol_whitelist": "file"}
        with av.open(path, options=options, metadata_errors="replace") as container:
            video = container.streams.video[0]
            packets, end = 0, 0.0
            times: list[float | None] = []
            for packet in container.demux():
                end = max(end, end_of(packet))
                if packet.stream is not video:
                    continue
                packets += packet.size > 0
                if packet.is_corrupt:  # its frame may come later, and look whole
                    raise InputError(f"{where}: {path}: packet {packets} is damaged; {REMEDY}")
                for frame in cast("list[av.VideoFrame]", packet.decode()):
                    times.append(frame.time)
                    if frame.is_corrupt:
                        raise InputError(
                            f"{where}: {path}: frame {len(times)} is damaged; {REMEDY}"
                        )
                    # A phone films lying down and notes by how many degrees, counter-clockwise.
                    yield frame.to_image().rotate(frame.rotation, expand=True)
            if shortfall := find_shortfall(container, path, packets, end):
                raise InputError(
                    f"{where}: {path}: {shortfall}: it is cut off or damaged; {REMEDY}"
                )
            if gap := find_gap(times, float(video.time_base or 0)):
                logger.warning("%s: %s: %s", where, path, gap)
    except (OSError, av.error.FFmpegError, IndexError) as error:
        raise InputError(f"{where}: {path}: not a whole video: {error}") from error


def end_of(packet: "av.Packet") -> float:
    """Return when a packet ends, seconds; 0 if it does not say."""
    start = packet.dts if packet.pts is None else packet.pts
    return 0.0 if start is None else float((start + (packet.duration or 0)) * packet.time_base)


def find_shortfall(
    container: "av.container.InputContainer", path: str, packets: int, end: float
) -> str:
    """Compare what a container holds with what its header promises.

    Args:
        container: a container that has been read to its end.
        path: the file.
        packets: number of packets of the first video stream that are not empty.
        end: when the last packet of all streams ends, seconds.

    Returns:
        What the file lacks, in words; "" if it lacks nothing or its format promises nothing.
    """
    video, kind = container.streams.video[0], container.format.name
    # Only AVI: an edit list of MP4 may leave out some of the frames that it counts.
    if kind == "avi" and packets < video.frames:
        return f"it holds {packets} of {video.frames} frames"
    if kind == "mpegts" and all(os.path.getsize(path) % size for size in TS_PACKETS):
        return "it ends within a packet"
    duration = (container.duration or 0) / 1e6  # microseconds
    tolerance = 1.5 / float(video.average_rate or 10) + OTHER_STREAMS * (len(container.streams) > 1)
    if end < duration - tolerance:
        return f"it ends after {end:.2f} of {duration:.2f} s"
    return ""


def find_gap(times: list[float | None], tick: float) -> str:
    """Count the frames that are missing from a steady rate.

    Args:
        times: times of the frames, seconds.
        tick: the unit to which they are rounded, seconds.

    Returns:
        How many are missing and where, in words; "" if none is or the rate is not steady.

    >>> find_gap([0.0, 0.04, 0.08, 0.12, 0.16, 0.2, 0.24, 0.28, 0.32, 0.36, 0.48], 0.001)
    '2 frames are missing from a steady 25 a second, the first after 0.36 s'
    """
    seconds = [time for time in times if time is not None]
    if len(times) < 3 or len(seconds) < len(times):
        return ""
    steps: np.ndarray = np.diff(seconds)
    usual = np.median(steps)
    odd = np.abs(steps - usual) > 1.5 * tick
    missing = np.where(odd, np.round(steps / usual) - 1, 0) if usual > 0 else np.zeros(1)
    if odd.mean() > IRREGULAR or missing.max() < 1:
        return ""
    first = seconds[int(np.argmax(missing))]
    return (
        f"{int(missing.sum())} frames are missing from a steady {1 / usual:.3g} a second, the "
        f"first after {first:.2f} s"
    )
