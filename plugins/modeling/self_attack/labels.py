"""Labels of the clips of a batch."""

from typing import NamedTuple

from torch import Tensor


class Labels(NamedTuple):
    """Labels of the B clips of a batch, on the model's device.

    Attributes:
        targets: (B,) persons.
        modalities: (B,).
        cameras: (B,), from 0.
        frames: T, of each clip.
    """

    targets: Tensor
    modalities: Tensor
    cameras: Tensor
    frames: int

    def of_frames(self, labels: Tensor) -> Tensor:
        """Repeat labels (B,) of clips for each of their frames, (B * T,)."""
        return labels.repeat_interleave(self.frames)
