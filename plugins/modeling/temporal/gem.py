"""Generalized mean over time, after Radenovic et al., TPAMI 2018, arXiv 1711.02512 (over space)."""

import torch
from fastreid.config import CfgNode, configurable
from torch import Tensor, nn

from plugins.config import check_value
from plugins.modeling.precision import no_autocast
from plugins.registry import TEMPORAL

# At 100 the result is at least 0.98 of the maximum for clips of up to 7 frames.
P_MIN, P_MAX = 1.0, 100.0
# The trunk ends in a ReLU; for a silent channel the root of 0 would have no gradient.
SILENT = 1e-6


def generalized_mean(frames: Tensor, p: Tensor) -> Tensor:
    """Compute (mean over T of x_t^p)^(1/p), with x clamped to at least 1e-6.

    Args:
        frames: x, (B, T, C).
        p: scalar, at least 1: 1 is the mean, infinity the maximum.

    Returns:
        (B, C).
    """
    frames = frames.clamp_min(SILENT)
    # Powers of at most 1 neither overflow nor all vanish. The scale cancels and needs no gradient.
    largest = frames.detach().amax(dim=1, keepdim=True)
    powers = (frames / largest).pow(p).mean(dim=1)
    return largest.squeeze(1) * powers.pow(1 / p)


@TEMPORAL.register()
class TemporalGeM(nn.Module):
    """Averages over space, then takes the generalized mean over time with one learned p.

    Args:
        p: initial value; in use p is clamped to [1, 100].

    Raises:
        InputError: the initial p is outside, where it would get no gradient.
    """

    @configurable
    def __init__(self, *, p: float):
        super().__init__()
        check_value("MODEL.TEMPORAL.GEM.P", p)
        self.p = nn.Parameter(torch.tensor(float(p)))

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict:
        """Read ``MODEL.TEMPORAL.GEM``."""
        return {"p": cfg.MODEL.TEMPORAL.GEM.P}

    def forward(self, maps: Tensor) -> Tensor:
        """Turn maps (B, T, C, h, w), not negative, into features (B, C), float32."""
        # Half precision would round x^p to 0 or to 1.
        with no_autocast(maps.device):
            frames = maps.float().mean(dim=(-2, -1))  # (B, T, C)
            return generalized_mean(frames, self.p.clamp(P_MIN, P_MAX))
