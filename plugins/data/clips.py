"""Clips: which frames of a tracklet are looked at, and the torch dataset that reads them.

Legend: L frames of a tracklet, S segments, T = S frames of a clip, H x W size of the input.

A tracklet is padded with its last frame to S segments of n = ceil(L / S) frames. Testing takes the
first frame of each segment, training a random one.
"""

from collections.abc import Callable, Sequence
from math import ceil

import torch
from torch import Tensor
from torch.utils.data import Dataset

from plugins.data.datasets.tracklet import as_tracklet, is_image
from plugins.data.frames import read_frame
from plugins.errors import InputError


def test_segments(length: int, segments: int) -> list[int]:
    """First frame of each segment.

    >>> test_segments(13, 6)
    [0, 3, 6, 9, 12, 12]
    """
    step = ceil(length / segments)
    return [min(segment * step, length - 1) for segment in range(segments)]


def train_segments(length: int, segments: int, generator: torch.Generator) -> list[int]:
    """One frame of each segment, drawn uniformly from the padded segment."""
    step = ceil(length / segments)
    offsets = torch.randint(step, (segments,), generator=generator).tolist()
    return [min(segment * step + offset, length - 1) for segment, offset in enumerate(offsets)]


class ClipDataset(Dataset):
    """Reads clips of tracklets, or fastreid's images, as the samples of a batch.

    Attributes:
        items: one tracklet per sample, in the order given.
    """

    def __init__(
        self,
        items: Sequence[tuple],
        transform: Callable[[list[Tensor]], Tensor],
        length: int,
        train: bool,
    ) -> None:
        """Number people and cameras.

        Args:
            items: all tracklets, or all fastreid images (path, pid, camid).
            transform: list of T frames (3, h, w) uint8 -> (T, 3, H, W) float32 in [0, 255].
            length: T, frames of a clip.
            train: draw frames at random, and relabel people and cameras to 0, 1, ... in sorted
                order; otherwise the same frames each time, and ids as they are.

        Raises:
            InputError: images and tracklets are mixed.
        """
        kinds = {is_image(item) for item in items}
        if len(kinds) > 1:
            raise InputError("DATASETS: images and tracklets cannot share a batch; name one kind")
        self.items = [as_tracklet(item) for item in items]
        self._images = kinds == {True}
        self._transform = transform
        self._length = 1 if self._images else length
        self._train = train
        # Sorted: the order of a set differs between processes.
        self._labels = {p: i for i, p in enumerate(sorted({item.pid for item in self.items}))}
        self._cameras = {c: i for i, c in enumerate(sorted({item.camid for item in self.items}))}

    @property
    def num_classes(self) -> int:
        """Number of people."""
        return len(self._labels)

    @property
    def num_cameras(self) -> int:
        """Number of cameras."""
        return len(self._cameras)

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, key: int | tuple[int, int]) -> dict:
        """One sample.

        Args:
            key: index; or (index, draw seed), and then every random choice comes from that seed and
                no global random state changes, so that a sample does not depend on who reads it,
                when, and after what.

        Returns:
            ``images`` (T, 3, H, W) float32 in [0, 255], (3, H, W) for an image; ``targets``,
            ``camids``, ``modalities`` int; ``img_paths`` the T files, or the image's one.

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
        item = self.items[index]
        if self._train:
            chosen = train_segments(len(item.img_paths), self._length, torch.default_generator)
        else:
            chosen = test_segments(len(item.img_paths), self._length)
        paths = [item.img_paths[frame] for frame in chosen]
        images = self._transform([read_frame(path) for path in paths])
        return {
            "images": images[0] if self._images else images,
            "targets": self._labels[item.pid] if self._train else item.pid,
            "camids": self._cameras[item.camid] if self._train else item.camid,
            "modalities": item.modality,
            "img_paths": paths[0] if self._images else paths,
        }
