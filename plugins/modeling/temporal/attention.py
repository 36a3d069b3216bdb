"""Temporal attention, after Gao and Nevatia, arXiv 1805.02104: some frames count more."""

import torch
from fastreid.config import CfgNode, configurable
from torch import Tensor, nn

from plugins.registry import TEMPORAL


@TEMPORAL.register()
class TemporalAttention(nn.Module):
    """Sum over t of a_t x_t, a = softmax over T of v . tanh(W x_t + b), x_t averaged over space.

    v starts at 0: at initialisation the feature is exactly the temporal mean.

    Args:
        channels: C, channels of the maps and length of the feature.
        dim: hidden length of the score.
    """

    @configurable
    def __init__(self, *, channels: int, dim: int):
        super().__init__()
        # No bias at the end: the softmax would cancel it.
        self.score = nn.Sequential(
            nn.Linear(channels, dim), nn.Tanh(), nn.Linear(dim, 1, bias=False)
        )
        nn.init.zeros_(self.score[-1].weight)

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict:
        """Read ``MODEL.TEMPORAL.ATTENTION`` and the trunk's channels."""
        return {"channels": cfg.MODEL.BACKBONE.FEAT_DIM, "dim": cfg.MODEL.TEMPORAL.ATTENTION.DIM}

    def forward(self, maps: Tensor) -> Tensor:
        """Maps (B, T, C, h, w) to features (B, C), float32."""
        with torch.autocast(maps.device.type, enabled=False):
            frames = maps.float().mean(dim=(-2, -1))  # (B, T, C)
            weights = self.score(frames).softmax(dim=1)  # (B, T, 1)
            return (weights * frames).sum(dim=1)
