"""Watch whether the output of a temporal part depends on the clip and on the frame, and warn.

Legend: B clips, T frames, D length of the watched quantity.
"""

import logging

import torch
from torch import Tensor

from plugins.modeling.diagnostics import log_scalar

logger = logging.getLogger(__name__)

# A deviation below this share of the values' size means a constant: a dead gate had 0.0001, a live
# one 0.018 after 61 updates.
CONSTANT = 1e-3
PATIENCE = 200


def modality_groups(values: Tensor, modalities: Tensor) -> list[Tensor]:
    """Group the rows of ``values`` by modality (B,), without groups of a single row."""
    groups = [values[modalities == modality] for modality in modalities.unique()]
    return [group for group in groups if len(group) > 1]


def deviation_over_clips(values: Tensor, modalities: Tensor) -> Tensor | None:
    """Compute the deviation, over the clips of one modality, of their means over the frames.

    Args:
        values: (B, T, D).
        modalities: (B,). A difference between the modalities alone distinguishes no clips.

    Returns:
        Scalar, mean over D and over the modalities that have two clips or more; None with none.
    """
    groups = modality_groups(values.mean(dim=1), modalities)
    deviations = [group.std(dim=0).mean() for group in groups]
    return torch.stack(deviations).mean() if deviations else None


def deviation_over_frames(values: Tensor, modalities: Tensor) -> Tensor | None:
    """Compute the deviation over the frames of a clip, without the part that all clips share.

    Args:
        values: (B, T, D). The mean of a modality's clips at the t-th frame is subtracted: it
            depends on the frame's index alone.
        modalities: (B,).

    Returns:
        Scalar, mean over D and over the clips of modalities that have two or more; None with none,
        or at T = 1.
    """
    if values.shape[1] < 2:
        return None
    groups = modality_groups(values, modalities)
    deviations = [(group - group.mean(dim=0)).std(dim=1, correction=0).mean() for group in groups]
    return torch.stack(deviations).mean() if deviations else None


class Watch:
    """Logs the deviations of one quantity in training, and warns once when it is constant.

    Scalars: ``temporal/NAME_over_clips`` and ``temporal/NAME_over_frames``.

    Args:
        part: class name of the part that computes the quantity.
        name: name of the quantity.
        over: the dependence to warn of, "clips" or "frames".
    """

    def __init__(self, part: str, name: str, over: str = "clips"):
        self.part = part
        self.name = name
        self.over = over
        self.constant = 0  # iterations in a row
        self.warned = False

    @torch.no_grad()
    def see(self, values: Tensor, modalities: Tensor) -> None:
        """Watch the quantity (B, T, D) of an iteration's clips of modalities (B,)."""
        computed = {
            "clips": deviation_over_clips(values, modalities),
            "frames": deviation_over_frames(values, modalities),
        }
        deviations = {over: value for over, value in computed.items() if value is not None}
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
