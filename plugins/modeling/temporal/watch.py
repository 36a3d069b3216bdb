"""Whether what a temporal part computes depends on the clip and on the frame, and a warning.

Legend: B clips, T frames, D length of what is watched.
"""

import logging

import torch
from torch import Tensor

from plugins.modeling.diagnostics import log_scalar

logger = logging.getLogger(__name__)

# A deviation below this share of the values' size is that of a constant: a gate that had died had
# 0.0001, one that lived 0.018 after 61 updates.
CONSTANT = 1e-3
PATIENCE = 200


def by_modality(values: Tensor, modalities: Tensor) -> list[Tensor]:
    """Rows of ``values`` of each modality (B,) that has two or more; one has no deviation."""
    groups = [values[modalities == modality] for modality in modalities.unique()]
    return [group for group in groups if len(group) > 1]


def deviation_over_clips(values: Tensor, modalities: Tensor) -> Tensor | None:
    """Deviation, over the clips of one modality, of their means over the frames.

    Args:
        values: (B, T, D).
        modalities: (B,). What differs between the modalities alone tells no clip from another.

    Returns:
        Scalar, mean over D and over the modalities that have two clips or more; None with none.
    """
    groups = by_modality(values.mean(dim=1), modalities)
    deviations = [group.std(dim=0).mean() for group in groups]
    return torch.stack(deviations).mean() if deviations else None


def deviation_over_frames(values: Tensor, modalities: Tensor) -> Tensor | None:
    """Deviation over the frames of a clip of what its frames do not share with other clips'.

    Args:
        values: (B, T, D). What all clips of a modality have at the t-th frame is taken off: it
            tells the frame's index, whatever the frame shows.
        modalities: (B,).

    Returns:
        Scalar, mean over D and over the clips of modalities that have two or more; None with none,
        or at T = 1.
    """
    if values.shape[1] < 2:
        return None
    groups = by_modality(values, modalities)
    deviations = [(group - group.mean(dim=0)).std(dim=1, correction=0).mean() for group in groups]
    return torch.stack(deviations).mean() if deviations else None


class Watch:
    """Logs the deviations of one quantity in training, and warns once when it is constant.

    Scalars: ``temporal/NAME_over_clips`` and ``temporal/NAME_over_frames``.

    Args:
        part: class name of the part that computes the quantity.
        name: of the quantity.
        over: what it has to depend on, "clips" or "frames".
    """

    def __init__(self, part: str, name: str, over: str = "clips"):
        self.part = part
        self.name = name
        self.over = over
        self.constant = 0  # iterations in a row
        self.warned = False

    @torch.no_grad()
    def see(self, values: Tensor, modalities: Tensor) -> None:
        """Look at the quantity (B, T, D) of an iteration's clips of modalities (B,)."""
        deviations = {
            "clips": deviation_over_clips(values, modalities),
            "frames": deviation_over_frames(values, modalities),
        }
        deviations = {over: value for over, value in deviations.items() if value is not None}
        for over, deviation in deviations.items():
            log_scalar(f"temporal/{self.name}_over_{over}", deviation)
        if self.over in deviations and not self.warned:
            self.count(deviations[self.over], size=values.square().mean().sqrt())

    def count(self, deviation: Tensor, size: Tensor) -> None:
        """Count the iterations in a row in which the quantity is constant, and warn."""
        self.constant = self.constant + 1 if deviation <= CONSTANT * size else 0
        if self.constant == PATIENCE:
            self.warned = True
            logger.warning(
                "%s: its %s has been constant for %d iterations: over the %s it deviates by %.1e, "
                "its size is %.1e; the part tells no %s from another",
                self.part,
                self.name,
                PATIENCE,
                self.over,
                deviation,
                size,
                self.over.removesuffix("s"),
            )
