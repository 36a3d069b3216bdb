"""Attack by the channel statistics of another, drawn clip of the batch.

The nearest published mechanism is SAADG (MM 2023), which replaces a frame's statistics by those of
another frame; here statistics of clips are mixed.
"""

import torch
from torch import Tensor

from plugins.modeling.self_attack.base import CleanPass, Losses, Passes
from plugins.modeling.self_attack.channel_statistics import clip_statistics, restyle
from plugins.modeling.self_attack.partners import draw_partners
from plugins.modeling.self_attack.stage_attack import StageAttack


class StyleAttack(StageAttack):
    """Mix the channel statistics of a partner into those of each clip.

    Budget: the partner's share lambda ~ U(0, eps), where 0 keeps the clip's statistics and 1 takes
    the partner's; one partner and one lambda per clip. The attack needs no gradient: it costs only
    the attacked pass of the upper layers.
    """

    passes = Passes(lower_forward=1, lower_backward=1, upper_forward=2, upper_backward=2)
    largest_eps = 1.0

    def forward(
        self, clean: CleanPass, losses: Losses, generator: torch.Generator | None = None
    ) -> Tensor:
        """See StageAttack."""
        maps, frames = clean.maps, clean.labels.frames
        partners = draw_partners(self.candidates(clean), generator)
        statistics = clip_statistics(maps, frames)
        draws = torch.rand(len(partners), generator=generator, device=maps.device)
        wanted = statistics.mixed(statistics.of(partners), self.eps * draws)
        return restyle(maps, frames, statistics, wanted)
