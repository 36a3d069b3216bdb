"""Attack by the gradient of the attacker's losses."""

from typing import Any

from fastreid.config import configurable
from torch import Tensor

from plugins.modeling.self_attack.attacker import Attacker
from plugins.modeling.self_attack.base import Losses, Passes, map_gradient
from plugins.modeling.self_attack.budget import budget_share


class GradientAttack(Attacker):
    """Delta down the gradient of L_A, of exactly ``eps`` times the norm of each map.

    A module's Delta is one function of all frames, and the network drops all features that this
    function attacks (see ``projects/sadstrm``); a gradient differs from frame to frame. Only the
    classifiers of L_mod and L_cam learn, on clean maps.
    """

    # The attack turn computes the maps for the classifiers.
    passes = Passes(lower_forward=2, lower_backward=1, upper_forward=3, upper_backward=3)

    @configurable
    def __init__(self, **attacker: Any):
        super().__init__(**attacker)

    def forward(self, maps: Tensor, modalities: Tensor, losses: Losses) -> Tensor:
        """Compute Delta of the stem maps, without a gradient.

        Args:
            maps: F0, (N, 64, h, w).
            modalities: (N,), not used.
            losses: L_A.

        Returns:
            Same shape as ``maps``; 0 for a map whose gradient is 0.
        """
        gradient = map_gradient(maps, losses)
        return (-gradient * budget_share(gradient, maps, self.eps)).to(maps.dtype)
