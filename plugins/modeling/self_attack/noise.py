"""Attack by noise: the control of the other attacks."""

import torch
from fastreid.config import CfgNode, configurable
from torch import Tensor

from plugins.modeling.self_attack.base import FeatureAttack, Losses, Passes
from plugins.modeling.self_attack.budget import budget_share


class RandomAttack(FeatureAttack):
    """Gaussian Delta of exactly ``eps`` times the norm of each map: does an attack beat noise?

    It is a control of equal strength only if it gets the norm of the learned attack, which is less
    than the ``eps`` of that attack (about half of it at the start): set ``MODEL.SELF_ATTACK.EPS``
    of the control to the "self_attack/relative_norm" that the learned run logs, averaged over its
    epochs with attack. Both kinds log it.

    Args:
        eps: |Delta| as a share of |F0|, per frame.
    """

    passes = Passes(lower_forward=1, lower_backward=1, upper_forward=2, upper_backward=2)

    @configurable
    def __init__(self, *, eps: float):
        super().__init__()
        self.eps = eps

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict:
        """Read ``MODEL.SELF_ATTACK.EPS``."""
        return {"eps": cfg.MODEL.SELF_ATTACK.EPS}

    def forward(
        self,
        maps: Tensor,
        modalities: Tensor,
        losses: Losses | None = None,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Draw Delta of the stem maps (N, 64, h, w), same shape.

        Args:
            maps: F0.
            modalities: (N,), not used: both get the same noise.
            losses: L_A, not used.
            generator: source of the draws; None for torch's global one, seeded by ``SEED``.
        """
        noise = torch.randn(maps.shape, generator=generator, device=maps.device)
        return (noise * budget_share(noise, maps, self.eps)).to(maps.dtype)
