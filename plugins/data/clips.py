"""Choose the frames of a tracklet that make a clip, and read them as a torch dataset.

Legend: L frames of a tracklet, S segments, T = S frames of a clip, H x W size of the input.

**segments**: a tracklet is padded with its last frame to S segments of n = ceil(L / S) frames.
Testing takes the first frame of each segment, training a random one. A test of several clips takes
further frames of each segment, or all frames. So the time between two frames of a clip depends on
L, and is random in training.

**window**: a clip has T frames at equal distances, see ``windows``.
"""

import logging
from collections.abc import Callable, Sequence
from math import ceil

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from plugins.data.corruptions import Corruption
from plugins.data.datasets.tracklet import as_tracklet, is_image, number_sorted
from plugins.data.erasing import BoxErasing
from plugins.data.frames import read_frame
from plugins.data.windows import test_windows, train_window
from plugins.errors import InputError

logger = logging.getLogger(__name__)


def test_segments(length: int, segments: int, offset: int = 0) -> list[int]:
    """Choose the frame at ``offset`` of each segment, by default its first.

    >>> test_segments(13, 6)
    [0, 3, 6, 9, 12, 12]
    """
    step = ceil(length / segments)
    return [min(segment * step + offset, length - 1) for segment in range(segments)]


def test_clips(length: int, segments: int, clips: int) -> list[list[int]]:
    """Choose the frames of each clip of a tracklet, S for a clip.

    Args:
        length: L.
        segments: S.
        clips: k > 0 for at most k clips: clip j of K = min(k, n) takes the frame at offset
            floor(j n / K) of each segment. So the first clip is that of ``test_segments``, and no
            two are the same. 0 for the whole tracklet: S consecutive frames at a time, the last
            clip padded with the last frame.

    >>> test_clips(13, 6, clips=2)
    [[0, 3, 6, 9, 12, 12], [1, 4, 7, 10, 12, 12]]
    >>> test_clips(8, 3, clips=0)
    [[0, 1, 2], [3, 4, 5], [6, 7, 7]]
    """
    if clips == 0:
        starts = range(0, length, segments)
        return [[min(start + i, length - 1) for i in range(segments)] for start in starts]
    step = ceil(length / segments)
    number = min(clips, step)
    return [test_segments(length, segments, clip * step // number) for clip in range(number)]


def test_linspace(length: int, segments: int) -> list[int]:
    """Choose S frames at equal distances from the first, rounded down, as AuxNet (BUPTCampus) does.

    Its floating point sometimes rounds a whole number down to the one before it.

    >>> test_linspace(13, 6)
    [0, 2, 4, 6, 8, 10]
    """
    return np.linspace(0, length, segments, endpoint=False).astype(int).tolist()


def train_segments(length: int, segments: int, generator: torch.Generator) -> list[int]:
    """Draw one frame of each segment, uniformly from the padded segment."""
    step = ceil(length / segments)
    offsets = torch.randint(step, (segments,), generator=generator).tolist()
    return [min(segment * step + offset, length - 1) for segment, offset in enumerate(offsets)]


class ClipDataset(Dataset):
    """Reads clips of tracklets, or fastreid's images, as the samples of a batch.

    Training has one sample per item, testing one per clip, those of an item side by side.

    Attributes:
        items: the tracklets, in the given order.
        holds_images: whether the items are fastreid's images, whose samples have no frames.
    """

    def __init__(
        self,
        items: Sequence[tuple],
        transform: Callable[[list[Tensor], int], Tensor],
        length: int,
        train: bool,
        clips: int = 1,
        sampling: str = "segments",
        stride: int = 1,
        read: Callable[[str], Tensor] = read_frame,
        corruption: Corruption | None = None,
        erasing: BoxErasing | None = None,
        order: str = "kept",
    ) -> None:
        """Number people and cameras.

        Args:
            items: all tracklets, or all fastreid images (path, pid, camid).
            transform: list of T frames (3, h, w) uint8, and their modality -> (T, 3, H, W) uint8.
            length: T, frames of a clip.
            train: whether to draw frames at random, and to relabel people and cameras to 0, 1, ...
                in sorted order; otherwise frames are the same each time, and labels stay.
            clips: number of clips of a tracklet in testing, see ``test_clips`` and
                ``test_windows``.
            sampling: "segments"; "linspace" for the one clip of ``test_linspace`` in testing, and
                segments in training; or "window".
            stride: frames from one frame of a window to the next.
            read: image file -> (3, h, w) uint8.
            corruption: corrupts the frames of some items; None for none.
            erasing: draws a box of each clip to erase; None for none.
            order: "kept"; or "shuffled": the frames of a clip, read and transformed as ever, stand
                in an order that training draws and that a clip in testing has by its number.

        Raises:
            InputError: images and tracklets are mixed.
        """
        kinds = {is_image(item) for item in items}
        if len(kinds) > 1:
            raise InputError("DATASETS: images and tracklets cannot share a batch; name one kind")
        self.items = [as_tracklet(item) for item in items]
        self.holds_images = kinds == {True}
        self._transform = transform
        self._read_frame = read
        self._corruption, self._erasing = corruption, erasing
        self._shuffled = order == "shuffled"
        self._length = 1 if self.holds_images else length
        longest = max((len(item.img_paths) for item in self.items), default=self._length)
        if self._length > longest:
            logger.warning(
                "INPUT.CLIP.LENGTH: %d, but the longest tracklet has %d frames: clips repeat "
                "frames, which costs time and memory and adds nothing",
                self._length,
                longest,
            )
        self._train = train
        self._sampling, self._stride = sampling, stride
        self._clips = [
            (row, frames)
            for row, item in enumerate([] if train else self.items)
            for frames in self._test_clips(len(item.img_paths), clips)
        ]
        self._labels = number_sorted(item.pid for item in self.items)
        self._cameras = number_sorted(item.camid for item in self.items)

    def _test_clips(self, length: int, clips: int) -> list[list[int]]:
        if self._sampling == "linspace":
            return [test_linspace(length, self._length)]
        if self._sampling == "window":
            return test_windows(length, self._length, self._stride, clips)
        return test_clips(length, self._length, clips)

    def _train_clip(self, length: int) -> list[int]:
        if self._sampling == "window":
            return train_window(length, self._length, self._stride, torch.default_generator)
        return train_segments(length, self._length, torch.default_generator)

    def _order_generator(self, index: int) -> torch.Generator:
        if self._train:
            return torch.default_generator
        return torch.Generator().manual_seed(index)

    @property
    def clip_rows(self) -> list[int]:
        """Return the row of the item of each clip in testing."""
        return [row for row, _ in self._clips]

    def clip_files(self, index: int) -> list[str]:
        """Return the files of the frames of a clip in testing, in their order."""
        row, frames = self._clips[index]
        return [self.items[row].img_paths[frame] for frame in frames]

    def clip_paths(self) -> set[str]:
        """Return the files that the clips in testing show."""
        return {file for index in range(len(self._clips)) for file in self.clip_files(index)}

    @property
    def num_classes(self) -> int:
        """Return the number of people."""
        return len(self._labels)

    @property
    def num_cameras(self) -> int:
        """Return the number of cameras."""
        return len(self._cameras)

    def __len__(self) -> int:
        return len(self.items if self._train else self._clips)

    def __getitem__(self, key: int | tuple[int, int]) -> dict:
        """Read one sample.

        Args:
            key: index; or (index, draw seed): then every random choice comes from that seed and no
                global random state changes, so that a sample does not depend on the process that
                reads it or on earlier samples.

        Returns:
            ``images`` (T, 3, H, W) uint8, (3, H, W) for an image; ``targets``, ``camids``,
            ``modalities`` int; ``is_pseudo`` bool; ``rows`` int, the item's index in ``items``;
            ``img_paths`` the T files, or the image's one; with an erasing ``erased`` (7,), see
            ``plugins.data.erasing``.

        Raises:
            InputError: names a frame that cannot be read.
        """
        if isinstance(key, int):
            return self._read(key)
        index, seed = key
        with torch.random.fork_rng(devices=[]):
            # torch.manual_seed would also seed CUDA, which is not forked here.
            torch.default_generator.manual_seed(seed)
            return self._read(index)

    def _read(self, index: int) -> dict:
        if self._train:
            row, item = index, self.items[index]
            frames = self._train_clip(len(item.img_paths))
        else:
            row, frames = self._clips[index]
            item = self.items[row]
        paths = [item.img_paths[frame] for frame in frames]
        read = [self._read_frame(path) for path in paths]
        if self._corruption and row in self._corruption.rows:
            read = [self._corruption(path, frame) for path, frame in zip(paths, read, strict=True)]
        images = self._transform(read, item.modality)
        erased = {"erased": self._erasing.draw(images, item.modality)} if self._erasing else {}
        if self._shuffled:
            # Last, so that all other draws are those of a clip whose order is kept.
            order = torch.randperm(len(paths), generator=self._order_generator(index))
            images, paths = images[order], [paths[frame] for frame in order]
        return {
            "images": images[0] if self.holds_images else images,
            "targets": self._labels[item.pid] if self._train else item.pid,
            "camids": self._cameras[item.camid] if self._train else item.camid,
            "modalities": item.modality,
            "is_pseudo": item.is_pseudo,
            "rows": row,
            "img_paths": paths[0] if self.holds_images else paths,
            **erased,
        }
