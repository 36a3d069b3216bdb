"""A step of the channel statistics within what one person's clips differ by anyway."""

from itertools import product

import torch
from torch import Tensor

from plugins.modeling.self_attack.base import CleanPass, Losses, Passes
from plugins.modeling.self_attack.channel_statistics import (
    Slopes,
    clip_statistics,
    loss_slopes,
    restyle,
    within_person_deviation,
)
from plugins.modeling.self_attack.stage_attack import StageAttack, map_gradient


class StatisticsAttack(StageAttack):
    """A sign step on (mu, log sigma) of each channel of a clip, down L_rev.

    Budget: eps times the deviation of mu, and of log sigma, within a person, measured in the batch
    per channel: what camera, light, modality and pose do to one person; what lies between people is
    identity. Where nobody has two clips it is 0. It costs one forward and one backward pass of the
    upper layers more than ``style``, and has no partners.
    """

    passes = Passes(lower_forward=1, lower_backward=1, upper_forward=3, upper_backward=3)

    def forward(
        self, clean: CleanPass, losses: Losses, generator: torch.Generator | None = None
    ) -> Tensor:
        """See StageAttack; nothing is drawn."""
        maps, frames, targets = clean.maps, clean.labels.frames, clean.labels.targets
        own = clip_statistics(maps, frames)
        room = [self.eps * within_person_deviation(values, targets) for values in own]
        slopes = loss_slopes(map_gradient(maps, losses), maps, frames, own)
        return restyle(maps, frames, own, own.moved(*steepest_corner(slopes, *room)))


def steepest_corner(
    slopes: Slopes, mean_room: Tensor, log_deviation_room: Tensor
) -> tuple[Tensor, Tensor]:
    """Of the four steps (+-, +-) of each channel the one by which the loss falls most.

    Away from the floor it is the sign step. The cells at the floor, which go up only, make the loss
    bend there, so that signs of a gradient would not do.

    Args:
        slopes: of the loss, (B, C).
        mean_room: length of the step of mu, (C,).
        log_deviation_room: of that of log sigma, (C,).

    Returns:
        Changes of both, (B, C); 0 where no step lowers the loss.
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
