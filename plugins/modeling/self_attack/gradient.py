"""Delta by the gradient of the attacker's losses."""

import torch
from fastreid.config import configurable
from torch import Tensor

from plugins.modeling.self_attack.attacker import Attacker
from plugins.modeling.self_attack.base import Losses, Passes
from plugins.modeling.self_attack.budget import budget_share


class GradientAttack(Attacker):
    """Delta down the gradient of L_A, of exactly ``eps`` times the norm of each map.

    A module's Delta is one function of all frames, and what that finds the network gives up
    altogether (see ``projects/sadstrm``); this one is each frame's own. What learns are the
    classifiers of L_mod and L_cam, on clean maps.
    """

    # Attack turn: the maps for the classifiers.
    passes = Passes(lower_forward=2, lower_backward=1, upper_forward=3, upper_backward=3)

    @configurable
    def __init__(self, **attacker):
        super().__init__(**attacker)

    def forward(self, maps: Tensor, modalities: Tensor, losses: Losses) -> Tensor:
        """Delta of the stem maps, without a gradient.

        Args:
            maps: F0, (N, 64, h, w).
            modalities: (N,), not used.
            losses: L_A.

        Returns:
            Same shape as ``maps``; 0 for a map whose gradient is.
        """
        point = maps.detach().float().requires_grad_(True)
        # In float32: half precision rounds gradients this small to 0.
        with torch.enable_grad(), torch.autocast(maps.device.type, enabled=False):
            (gradient,) = torch.autograd.grad(sum(losses(point).values()), point)
        return (-gradient * budget_share(gradient, maps, self.eps)).to(maps.dtype)
