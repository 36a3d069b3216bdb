"""Gray versions of images, differentiable: the two modalities do not share color.

Legend: B rows of the batch, (..., 3, H, W) an image or the frames of a clip, in [0, 255].
"""

import torch
from torch import Tensor

# Share of the image and height / width of a patch: Gong et al., "Person Re-identification Method
# Based on Color Attack and Joint Defence", CVPRW 2022.
PATCH_AREA = (0.02, 0.4)
PATCH_ASPECT = (0.3, 1 / 0.3)


def gray_some(images: Tensor, probability: float, generator: torch.Generator) -> Tensor:
    """Convert each row of images (B, ..., 3, H, W) to gray as a whole with ``probability``."""
    chosen = torch.rand(len(images), generator=generator) < probability
    return _gray_where(_per_row(chosen, images), images)


def gray_patches(images: Tensor, generator: torch.Generator) -> Tensor:
    """Convert a random rectangle of each row to gray, the same in all its frames: T(x) of LTA.

    Args:
        images: (B, ..., 3, H, W).
        generator: on the CPU; it draws four numbers for each row.

    Returns:
        Images of the same shape. A rectangle larger than the image is cut to its size.
    """
    height, width = images.shape[-2:]
    draws = torch.rand(4, len(images), generator=generator)
    (small, large), (flat, tall) = PATCH_AREA, PATCH_ASPECT
    area = height * width * (small + (large - small) * draws[0])
    aspect = flat + (tall - flat) * draws[1]
    h = (area * aspect).sqrt().round().clamp(1, height)
    w = (area / aspect).sqrt().round().clamp(1, width)
    rows = _interval((draws[2] * (height - h + 1)).floor(), h, height)
    columns = _interval((draws[3] * (width - w + 1)).floor(), w, width)
    patch = rows[:, :, None] & columns[:, None, :]  # (B, H, W)
    return _gray_where(_per_row(patch, images), images)


def _interval(start: Tensor, length: Tensor, size: int) -> Tensor:
    """Return (B, size) bool, True at ``length`` positions from ``start``."""
    positions = torch.arange(size)
    return (positions >= start[:, None]) & (positions < (start + length)[:, None])


def _per_row(mask: Tensor, images: Tensor) -> Tensor:
    """Reshape a mask (B,) or (B, H, W) to broadcast against ``images``, on their device."""
    sides = mask.shape[1:] or (1, 1)
    return mask.view(len(mask), *[1] * (images.dim() - 3), *sides).to(images.device)


def _gray_where(mask: Tensor, images: Tensor) -> Tensor:
    # Not above: it imports torch._dynamo, 1.2 s.
    from torchvision.transforms.v2.functional import rgb_to_grayscale

    return torch.where(mask, rgb_to_grayscale(images, num_output_channels=3), images)
