"""The real images of a training set, as the generator and the filters read them."""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from tqdm import tqdm

from plugins.data.datasets.tracklet import VISIBLE, as_tracklet
from plugins.data.frames import read_frame, resize_frame
from plugins.errors import InputError
from plugins.utils.images import MAX_PIXELS


class Photograph(NamedTuple):
    """One real image, with the names of its person and camera as text."""

    path: str
    person: str
    camera: str


def list_photographs(items: Iterable[Sequence], name: str) -> list[Photograph]:
    """List every frame of a training set.

    Args:
        items: fastreid's images, or tracklets.
        name: name of the set, for the message.

    Raises:
        InputError: an image is infrared, but the generator makes visible images only.
    """
    photographs = []
    for item in map(as_tracklet, items):
        if item.modality != VISIBLE:
            raise InputError(
                f"DATASETS.BALANCE.NAME {name}: {item.img_paths[0]} is infrared; expected a set of "
                "visible images, such as Market1501"
            )
        photographs += [Photograph(p, str(item.pid), str(item.camid)) for p in item.img_paths]
    return photographs


def count_pairs(photographs: Iterable[Photograph]) -> Counter[tuple[str, str]]:
    """Count images by (person, camera)."""
    return Counter((photograph.person, photograph.camera) for photograph in photographs)


def read_photographs(
    photographs: Sequence[Photograph], size: Sequence[int], max_pixels: int = MAX_PIXELS
) -> Tensor:
    """Read all images into memory, 24 KB each at 128 x 64.

    Args:
        photographs: N images.
        size: H, W.
        max_pixels: largest number of pixels of a file (INPUT.MAX_PIXELS).

    Returns:
        (N, 3, H, W) uint8, RGB.

    Raises:
        InputError: a file, which the message names, is not an image.
    """
    images = torch.empty((len(photographs), 3, *size), dtype=torch.uint8)
    for image, photograph in zip(images, tqdm(photographs, "reading", unit="image"), strict=True):
        image.copy_(resize_frame(read_frame(photograph.path, max_pixels), size))
    return images


def labels(names: Sequence[str], known: Sequence[str]) -> Tensor:
    """Return (N,) int64, the index of each name in ``known``."""
    index_of = {name: index for index, name in enumerate(known)}
    return torch.tensor([index_of[name] for name in names])
