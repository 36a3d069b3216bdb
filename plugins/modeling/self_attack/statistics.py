"""Attack by a step of the channel statistics, as far as they differ between a person's clips."""

from itertools import product

import torch
from torch import Tensor

from plugins.modeling.self_attack.base import CleanPass, Losses, Passes, map_gradient
from plugins.modeling.self_attack.channel_statistics import (
    Slopes,
    clip_statistics,
    loss_slopes,
    restyle,
    within_person_deviation,
)
from plugins.modeling.self_attack.stage_attack import StageAttack


class StatisticsAttack(StageAttack):
    """Move (mu, log sigma) of each channel of a clip by a sign step down L_rev.

    Budget: the step is eps times the deviation of mu, and of log sigma, within a person, which the
    batch gives for each channel. Camera, light, modality and pose cause this deviation; a deviation
    over people would be identity. The step is 0 if nobody has two clips. The attack has no partners
    and costs one forward and one backward pass of the upper layers more than ``style``.
    """

    passes = Passes(lower_forward=1, lower_backward=1, upper_forward=3, upper_backward=3)

    def forward(
        self, clean: CleanPass, losses: Losses, generator: torch.Generator | None = None
    ) -> Tensor:
        """See StageAttack; this kind draws nothing."""
        maps, frames, targets = clean.maps, clean.labels.frames, clean.labels.targets
        clean_statistics = clip_statistics(maps, frames)
        room = [self.eps * within_person_deviation(v, targets) for v in clean_statistics]
        slopes = loss_slopes(map_gradient(maps, losses), maps, frames, clean_statistics)
        step = steepest_corner(slopes, *room)
        return restyle(maps, frames, clean_statistics, clean_statistics.moved(*step))


def steepest_corner(
    slopes: Slopes, mean_room: Tensor, log_deviation_room: Tensor
) -> tuple[Tensor, Tensor]:
    """Choose, for each channel, the one of the four steps (+-, +-) that lowers the loss most.

    Without cells at the floor this is the sign step. Cells at the floor can only go up, so that the
    loss has a kink, for which the signs of a gradient are not enough.

    Args:
        slopes: first-order changes of the loss, (B, C).
        mean_room: length of the step of mu, (C,).
        log_deviation_room: length of the step of log sigma, (C,).

    Returns:
        Changes of mu and of log sigma, (B, C) both; 0 if no step lowers the loss.
    """
    corners = []
    for mean_sign, deviation_sign in product((1, -1), repeat=2):
        mean = (mean_sign * mean_room).expand_as(slopes.mean)
        log_deviation = (deviation_sign * log_deviation_room).expand_as(slopes.mean)
        corners.append(torch.stack([slopes.change(mean, log_deviation), mean, log_deviation]))
    changes, means, log_deviations = torch.stack(corners, dim=1)  # (4, B, C) each
    best, corner = changes.min(dim=0, keepdim=True)
    step = [values.gather(0, corner)[0] * (best[0] < 0) for values in (means, log_deviations)]
    return step[0], step[1]
