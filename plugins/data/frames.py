"""Reading one frame."""

from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor
from torchvision.transforms import InterpolationMode, v2

from plugins.errors import InputError


def read_frame(path: str) -> Tensor:
    """Decode an image file; grey becomes three equal channels, EXIF orientation is applied.

    Returns:
        (3, H, W) uint8, RGB.

    Raises:
        InputError: names the file if it is missing, empty, cut off, not an image, or has more than
            8 bits a channel. It is raised at once: a frame that cannot be read now cannot be read
            on a second try either.
    """
    try:
        with Image.open(path) as image:
            mode = image.mode
            pixels = np.array(ImageOps.exif_transpose(image).convert("RGB"))
    except FileNotFoundError:
        raise InputError(f"{path}: no such frame") from None
    # Pillow's decoders report damage by many kinds of exception, struct.error among them.
    except Exception as error:
        raise InputError(f"{path}: not a whole image: {error}") from error
    if mode.startswith(("I", "F")):  # convert would cut these off at 255
        raise InputError(f"{path}: 16 or 32 bits a channel ({mode}); expected 8")
    return torch.from_numpy(pixels).permute(2, 0, 1)


def resize_frame(frame: Tensor, size: Sequence[int]) -> Tensor:
    """Bicubic, antialiased; a frame of that size already comes back as it is.

    Args:
        frame: (3, h, w) uint8.
        size: H, W.

    Returns:
        (3, H, W) uint8.
    """
    return v2.functional.resize(frame, list(size), InterpolationMode.BICUBIC, antialias=True)
