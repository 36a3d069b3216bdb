"""Attack by the channel statistics of the clip of the batch that confuses the network most."""

import torch
from torch import Tensor

from plugins.modeling.self_attack.base import CleanPass, Losses, Passes, map_gradient
from plugins.modeling.self_attack.channel_statistics import (
    ChannelStatistics,
    clip_statistics,
    loss_slopes,
    restyle,
)
from plugins.modeling.self_attack.partners import best_partners
from plugins.modeling.self_attack.stage_attack import StageAttack


class StyleWorstAttack(StageAttack):
    """Mix the channel statistics of the worst partner into those of each clip.

    The worst partner is the candidate towards whose statistics L_rev falls most, to first order:
    one gradient with respect to (mu, log sigma) ranks all candidates. For small steps the ranking
    is that of the exhaustive choice; for larger shares it is less exact.

    Budget: the partner's share is eps, from 0 to 1. The attack costs one forward and one backward
    pass of the upper layers more than ``style``.
    """

    passes = Passes(lower_forward=1, lower_backward=1, upper_forward=3, upper_backward=3)
    largest_eps = 1.0

    def forward(
        self, clean: CleanPass, losses: Losses, generator: torch.Generator | None = None
    ) -> Tensor:
        """See StageAttack."""
        maps, frames = clean.maps, clean.labels.frames
        statistics = clip_statistics(maps, frames)
        candidates = self.candidates(clean)
        changes = partner_changes(map_gradient(maps, losses), maps, frames, statistics)
        # A clip without a gradient gets a drawn partner.
        partners = best_partners(changes, candidates, generator)
        shares = torch.full_like(statistics.mean[:, 0], self.eps)
        wanted = statistics.mixed(statistics.of(partners), shares)
        return restyle(maps, frames, statistics, wanted)


def partner_changes(
    gradient: Tensor, maps: Tensor, frames: int, statistics: ChannelStatistics
) -> Tensor:
    """Predict how a loss changes on the way to each partner's statistics, to first order.

    Args:
        gradient: gradient of the loss at the maps.
        maps: (N, C, h, w).
        frames: T.
        statistics: the statistics of the clips.

    Returns:
        (B, B), clip by partner: the change per share of the way; the diagonal is 0.
    """
    slopes = loss_slopes(gradient, maps, frames, statistics)
    ways = [values[:, None] - values for values in statistics]  # partner by clip, (B, B, C)
    return slopes.change(*ways).sum(dim=-1).T
