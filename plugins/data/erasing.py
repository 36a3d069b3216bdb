"""Erase a random box of a training clip, the same in all its frames.

A loader's worker draws the box, and the box is filled where the clip has become float32: its gray
levels may be fractions (by default the mean color of ImageNet), which the uint8 of a worker cannot
hold.

Legend: B clips of T frames of 3 x H x W. A box is (7,) float32: top, left, height and width in
pixels, red, green and blue in gray levels. A box of height 0 erases nothing.
"""

from collections.abc import Sequence

import torch
from torch import Tensor


class BoxErasing:
    """Draws boxes by INPUT.REA, as torchvision's RandomErasing does; it can be pickled."""

    def __init__(self, probability: float, values: Sequence[list[float]]) -> None:
        """Take what a box depends on.

        Args:
            probability: probability of a clip to be erased.
            values: gray levels of a box, one for all channels or three, by the clip's modality.

        Raises:
            ValueError: the probability is not within 0 and 1.
        """
        # Not above: it imports torch._dynamo, 1.2 s.
        from torchvision.transforms import v2

        self.erasings = [v2.RandomErasing(probability, value=value) for value in values]

    def draw(self, clip: Tensor, modality: int) -> Tensor:
        """Draw a box for a clip (..., 3, H, W), from torch's global generator; (7,) float32."""
        box = torch.zeros(7)
        erasing = self.erasings[modality]
        if torch.rand(1) < erasing.p:
            drawn = erasing.make_params([clip])
            if drawn["v"] is not None:  # None: ten draws gave no box that fits
                box[:4] = torch.tensor([drawn[side] for side in "ijhw"])
                box[4:] = drawn["v"].flatten()
        return box


def erase(images: Tensor, boxes: Tensor) -> None:
    """Fill a box of each clip, in place.

    Args:
        images: (B, T, 3, H, W) or (B, 3, H, W) float32, on any device.
        boxes: (B, 7), on the CPU.
    """
    colors = boxes.to(images.device, non_blocking=True)[:, 4:, None, None]
    for image, box, color in zip(images, boxes.tolist(), colors, strict=True):
        top, left, height, width = map(int, box[:4])
        if height:
            image[..., top : top + height, left : left + width] = color
