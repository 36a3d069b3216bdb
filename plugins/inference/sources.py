"""Find the user's own items: pictures, folders of frames, videos, arrays; and read their names.

Legend: F frames of a clip, h x w their size.
"""

import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from plugins.data.conversion.videos import decode
from plugins.data.datasets.folder import names_in
from plugins.data.datasets.tracklet import INFRARED, MODALITIES, VISIBLE, Tracklet
from plugins.data.datasets.unlisted import Folders, describe_unlisted, find_unlisted, walk_folders
from plugins.errors import InputError
from plugins.utils.images import ENDINGS
from plugins.utils.io import read_text
from plugins.utils.names import natural_order

VIDEOS = (".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".ts", ".mts", ".mpg", ".mpeg", ".wmv")
# Words for a modality in names of folders and files.
WORDS = {
    **dict.fromkeys(("visible", "rgb", "vis", "v"), VISIBLE),
    **dict.fromkeys(("infrared", "ir", "nir", "thermal", "i"), INFRARED),
}
GROUPS = ("person", "camera", "modality")


class Clip(NamedTuple):
    """An item of the user's own.

    Attributes:
        name: its own name, of this item alone.
        path: its picture, its folder or its video.
        frames: names of its frames, which a reader turns into pixels.
    """

    name: str
    path: str
    frames: tuple[str, ...]


@dataclass(frozen=True)
class Labels:
    """Say who is on an item, by which camera and in which light.

    Attributes:
        pattern: regular expression with the groups person, camera or modality, which is searched
            in the item's name, such as ``(?P<person>[^/]+)/(?P<camera>[^_]+)_``; empty for none.
        modality: modality of items whose names do not tell it.
    """

    pattern: str = ""
    modality: str = MODALITIES[VISIBLE]

    def __post_init__(self) -> None:
        """Check both.

        Raises:
            InputError: no such modality, or no regular expression with these groups.
        """
        if self.modality not in MODALITIES:
            raise InputError(f"modality {self.modality!r}; expected {' or '.join(MODALITIES)}")
        try:
            groups = re.compile(self.pattern).groupindex
        except re.error as error:
            raise InputError(f"names {self.pattern!r}: no regular expression: {error}") from None
        if self.pattern and (not groups or groups.keys() - set(GROUPS)):
            raise InputError(
                f"names {self.pattern!r}: has the groups {', '.join(groups) or 'none'}; expected "
                f"some of {', '.join(f'(?P<{group}>...)' for group in GROUPS)}"
            )

    def tracklet(self, clip: Clip) -> Tracklet:
        """Return an item as a tracklet whose person and camera are names, empty if not known.

        Raises:
            InputError: the item's name does not fit the pattern.
        """
        found: dict[str, str | None] = {}
        if self.pattern:
            match = re.search(self.pattern, clip.name)
            if match is None:
                raise InputError(f"{clip.name}: does not fit the pattern {self.pattern!r} of names")
            found = match.groupdict()
        word = (found.get("modality") or self.modality).lower()
        if word not in WORDS:
            raise InputError(
                f"{clip.name}: its modality is {word!r}; expected one of {', '.join(WORDS)}"
            )
        person, camera = found.get("person") or "", found.get("camera") or ""
        return Tracklet(clip.frames, person, camera, WORDS[word])


def find_pictures(folder: str | os.PathLike) -> list[Clip]:
    """List each picture below a folder as an item, whose name is its path from there.

    Raises:
        InputError: no such folder, or no picture in it.
    """
    root = require_folder(folder)
    clips = [Clip(_name(path, root), path, (path,)) for path in pictures_below(root)]
    if not clips:
        raise InputError(f"{root}: no pictures there{_others(root)}")
    return clips


def find_clips(folder: str | os.PathLike) -> list[Clip]:
    """List each folder that holds pictures, and each video, as an item.

    Frames stand in the order of their names, in which 2.jpg comes before 10.jpg.

    Raises:
        InputError: no such folder, no picture and no video below it, or from :func:`open_video`.
    """
    root = require_folder(folder)
    clips: dict[str, list[str]] = {}
    for path in pictures_below(root):
        clips.setdefault(os.path.dirname(path), []).append(path)
    found = [Clip(_name(path, root), path, tuple(frames)) for path, frames in clips.items()]
    for path in files_below(root):
        if is_video(path):
            found.append(open_video(path, _name(path, root)))
    if not found:
        raise InputError(f"{root}: no folders of frames and no videos there{_others(root)}")
    return sorted(found, key=lambda clip: natural_order(clip.name))


def find_files(paths: Iterable[str | os.PathLike]) -> list[Clip]:
    """List files: a picture is an item of one frame, a folder of pictures or a video a clip.

    Raises:
        InputError: a path leads nowhere, to no picture or video, or comes twice; or there is none.
    """
    clips = [find_file(os.fspath(path)) for path in paths]
    if not clips:
        raise InputError("no files; expected one or more pictures, folders of frames or videos")
    seen: set[str] = set()
    for clip in clips:
        if clip.name in seen:
            raise InputError(f"{clip.name}: listed twice; expected each file once")
        seen.add(clip.name)
    return clips


def find_file(path: str) -> Clip:
    """List one file, see :func:`find_files`."""
    if os.path.isdir(path):
        frames = [os.path.join(path, name) for name in names_in(path)]
        frames = sorted((f for f in frames if f.lower().endswith(ENDINGS)), key=natural_order)
        if not frames:
            raise InputError(f"{path}: no pictures in that folder{_others(path)}")
        return Clip(path, path, tuple(frames))
    if not os.path.exists(path):
        raise InputError(f"{path}: no such file")
    if is_video(path):
        return open_video(path, path)
    if not path.lower().endswith(ENDINGS):
        raise InputError(f"{path}: expected a picture, a folder of frames or a video")
    return Clip(path, path, (path,))


def read_list(path: str | os.PathLike) -> list[str]:
    """Read a text file with a path on each line, from the file's folder on or absolute.

    Raises:
        InputError: the file cannot be read.
    """
    folder = os.path.dirname(os.fspath(path))
    lines = (line.strip() for line in read_text(path).splitlines())
    return [os.path.join(folder, line) for line in lines if line]


def is_video(path: str) -> bool:
    """Tell whether a path is that of a file whose name ends as those of videos do."""
    return path.lower().endswith(VIDEOS) and os.path.isfile(path)


def open_video(path: str, name: str) -> Clip:
    """Count the frames of a video that shows one person.

    Raises:
        InputError: PyAV is missing, or the video is damaged or holds no frame.
    """
    number = sum(1 for _ in decode(path, "video"))
    if not number:
        raise InputError(f"{path}: holds no frames")
    return Clip(name, path, tuple(f"{path}#{index}" for index in range(number)))


class VideoReader:
    """Reads frames of videos and of picture files; of a video all that are asked for at once."""

    def __init__(self, videos: Iterable[str], decode_file: Callable[[str], Tensor]) -> None:
        """Take the paths of the videos.

        Args:
            videos: their frames are called "VIDEO#INDEX".
            decode_file: picture file -> (3, h, w) uint8.
        """
        self._read_file = decode_file
        self._needed: dict[str, set[int]] = {video: set() for video in videos}
        self._video, self._frames = "", dict[int, Tensor]()

    def keep(self, frames: Iterable[str]) -> None:
        """Say which frames will be read, so that the others are not kept."""
        for frame in frames:
            video, _, index = frame.rpartition("#")
            if video in self._needed:
                self._needed[video].add(int(index))

    def __call__(self, frame: str) -> Tensor:
        """Return a frame (3, h, w) uint8, RGB."""
        video, _, index = frame.rpartition("#")
        if video not in self._needed:
            return self._read_file(frame)
        if video != self._video:
            self._video, self._frames = video, dict(self._decode(video))
        return self._frames[int(index)]

    def _decode(self, video: str) -> Iterator[tuple[int, Tensor]]:
        for index, image in enumerate(decode(video, "video")):
            if index in self._needed[video]:
                yield index, torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1)


class ArrayReader:
    """Reads frames that are in memory."""

    def __init__(self, frames: Mapping[str, Tensor]) -> None:
        """Take frames (3, h, w) uint8 by their names."""
        self._frames = frames

    def __call__(self, frame: str) -> Tensor:
        """Return a frame."""
        return self._frames[frame]


def array_clips(
    arrays: Sequence[Tensor | np.ndarray], names: Sequence[str]
) -> tuple[list[Clip], ArrayReader]:
    """Make items of pictures and clips in memory.

    Args:
        arrays: uint8, RGB: tensors (3, h, w) or (F, 3, h, w); numpy arrays (h, w, 3) or
            (F, h, w, 3), as Pillow and OpenCV have them (OpenCV: after BGR to RGB).
        names: of the items.

    Raises:
        InputError: an array is of another type or shape, or has no frame.
    """
    clips: list[Clip] = []
    frames: dict[str, Tensor] = {}
    for array, name in zip(arrays, names, strict=True):
        pixels = as_frames(array, name)
        keys = tuple(f"{name}#{index}" for index in range(len(pixels)))
        frames.update(zip(keys, pixels, strict=True))
        clips.append(Clip(name, name, keys))
    return clips, ArrayReader(frames)


def as_frames(array: Tensor | np.ndarray, name: str) -> Tensor:
    """Turn an array into frames (F, 3, h, w) uint8; see :func:`array_clips`."""
    of_numpy = isinstance(array, np.ndarray)
    expected = "(h, w, 3) or (F, h, w, 3)" if of_numpy else "(3, h, w) or (F, 3, h, w)"
    pixels = torch.from_numpy(np.ascontiguousarray(array)) if of_numpy else torch.as_tensor(array)
    channels = -1 if of_numpy else -3
    fits = pixels.dim() in (3, 4) and pixels.shape[channels] == 3 and 0 not in pixels.shape
    if pixels.dtype != torch.uint8 or not fits:
        raise InputError(
            f"{name}: an array of {pixels.dtype} and shape {tuple(pixels.shape)}; expected uint8 "
            f"of shape {expected}, RGB"
        )
    pixels = pixels if pixels.dim() == 4 else pixels[None]
    return pixels.permute(0, 3, 1, 2) if of_numpy else pixels


def require_folder(folder: str | os.PathLike) -> str:
    """Return the path of a folder; raise InputError if there is none."""
    if not os.path.isdir(folder):
        what = "a file" if os.path.exists(folder) else "no such folder"
        raise InputError(f"{folder}: {what}; expected a folder")
    return os.fspath(folder)


def pictures_below(root: str) -> list[str]:
    """List the pictures below a folder, in the order of their names."""
    return [path for path in files_below(root) if path.lower().endswith(ENDINGS)]


def files_below(root: str) -> list[str]:
    """List the files below a folder without those whose name, or folder's name, begins with a dot.

    Raises:
        InputError: a folder cannot be read.
    """
    files = [
        os.path.join(folder, name)
        for folder, names in walk_folders([root], deep=True)
        for name in names
        if not name.startswith(".")
    ]
    return sorted(files, key=lambda path: natural_order(os.path.relpath(path, root)))


def describe_passed_over(folder: str | os.PathLike, clips: Sequence[Clip]) -> str:
    """Say which pictures and videos below a folder are in no item; empty if none."""
    read = [frame.rpartition("#")[0] or frame for clip in clips for frame in clip.frames]
    unlisted = find_unlisted(Folders((os.fspath(folder),), [*read, *(c.path for c in clips)]))
    return describe_unlisted(unlisted) if unlisted else ""


def _others(folder: str) -> str:
    text = describe_passed_over(folder, [])
    return f"; {text}" if text else ""


def _name(path: str, root: str) -> str:
    return Path(os.path.relpath(path, root)).as_posix()
