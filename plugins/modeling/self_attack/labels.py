"""Who and what the clips of a batch show."""

from typing import NamedTuple

from torch import Tensor


class Labels(NamedTuple):
    """Of a batch of B clips, on the model's device.

    Attributes:
        targets: (B,) persons.
        modalities: (B,).
        cameras: (B,), from 0.
        frames: of a clip, T.
    """

    targets: Tensor
    modalities: Tensor
    cameras: Tensor
    frames: int

    def of_frames(self, labels: Tensor) -> Tensor:
        """Labels (B,) of clips as those of their frames, (B * T,)."""
        return labels.repeat_interleave(self.frames)
