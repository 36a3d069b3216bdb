"""Reading one frame."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torchvision.transforms import InterpolationMode, v2

from plugins.utils.images import MAX_PIXELS, read_image


def read_frame(path: str, max_pixels: int = MAX_PIXELS) -> Tensor:
    """Decode an image file; grey becomes three equal channels, EXIF orientation is applied.

    Args:
        path: of the file.
        max_pixels: that it may have, width times height.

    Returns:
        (3, H, W) uint8, RGB.

    Raises:
        InputError: from :func:`plugins.utils.images.read_image`. It is raised at once: a frame that
            cannot be read now cannot be read on a second try either.
    """
    return torch.from_numpy(np.array(read_image(path, max_pixels))).permute(2, 0, 1)


def resize_frame(frame: Tensor, size: Sequence[int]) -> Tensor:
    """Bicubic, antialiased; a frame of that size already comes back as it is.

    Args:
        frame: (3, h, w) uint8.
        size: H, W.

    Returns:
        (3, H, W) uint8.
    """
    return v2.functional.resize(frame, list(size), InterpolationMode.BICUBIC, antialias=True)
