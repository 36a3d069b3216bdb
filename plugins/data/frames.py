"""Read one frame of a clip."""

from collections.abc import Callable, Sequence
from functools import partial

import cv2
import numpy as np
import torch
from fastreid.config import CfgNode
from torch import Tensor
from torchvision.transforms import InterpolationMode

from plugins.utils.images import MAX_PIXELS, read_pixels


def read_frame(path: str, max_pixels: int = MAX_PIXELS) -> Tensor:
    """Decode an image file; gray becomes three equal channels, EXIF orientation is applied.

    Args:
        path: the file.
        max_pixels: largest number of pixels, width times height.

    Returns:
        (3, H, W) uint8, RGB.

    Raises:
        InputError: from :func:`plugins.utils.images.read_pixels`. It is raised at once: a frame
            that cannot be read now cannot be read on a second try either.
    """
    return channels_first(read_pixels(path, max_pixels))


def channels_first(pixels: np.ndarray) -> Tensor:
    """Copy (H, W, 3) uint8 into a contiguous (3, H, W), five times faster than torch."""
    planes = np.empty((3, *pixels.shape[:2]), np.uint8)
    cv2.split(pixels, list(planes))
    return torch.from_numpy(planes)


def resize_frame(frame: Tensor, size: Sequence[int]) -> Tensor:
    """Resize a frame, bicubic and antialiased; a frame of that size comes back as it is.

    Args:
        frame: (3, h, w) uint8.
        size: H, W.

    Returns:
        (3, H, W) uint8.
    """
    # Not above: it imports torch._dynamo, 1.2 s.
    from torchvision.transforms.v2.functional import resize

    return resize(frame, list(size), InterpolationMode.BICUBIC, antialias=True)


def frame_decoder(cfg: CfgNode) -> Callable[[str], Tensor]:
    """Return :func:`read_frame` with the limit INPUT.MAX_PIXELS."""
    return partial(read_frame, max_pixels=cfg.INPUT.MAX_PIXELS)
