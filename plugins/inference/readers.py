"""Read frames of the user's own items: from pictures, videos and arrays.

Legend: F frames of a clip, h x w their size.
"""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from plugins.data.conversion.videos import decode
from plugins.errors import InputError
from plugins.inference.items import Clip

VIDEOS = (".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".ts", ".mts", ".mpg", ".mpeg", ".wmv")


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
        self._decode_picture = decode_file
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
            return self._decode_picture(frame)
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
