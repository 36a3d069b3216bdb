"""Recurrent aggregation: what a frame adds depends on the frames before it."""

import torch
from fastreid.config import CfgNode, configurable
from torch import Tensor, nn

from plugins.modeling.temporal.stig import run_lstm
from plugins.registry import TEMPORAL


@TEMPORAL.register()
class TemporalLSTM(nn.Module):
    """Mean over t of x_t + W h_t + b, h = LSTM(x) from the first frame on, x_t averaged over space.

    Mean over the outputs of a recurrent layer: McLaughlin et al., CVPR 2016; the residual is this
    package's. W and b start at 0: at initialisation the feature is exactly the temporal mean.

    Args:
        channels: C, channels of the maps and length of the feature.
        dim: length of h.
    """

    @configurable
    def __init__(self, *, channels: int, dim: int):
        super().__init__()
        self.lstm = nn.LSTM(channels, dim, batch_first=True)
        self.residual = nn.Linear(dim, channels)
        nn.init.zeros_(self.residual.weight)
        nn.init.zeros_(self.residual.bias)

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict:
        """Read ``MODEL.TEMPORAL.LSTM`` and the trunk's channels."""
        return {"channels": cfg.MODEL.BACKBONE.FEAT_DIM, "dim": cfg.MODEL.TEMPORAL.LSTM.DIM}

    def forward(self, maps: Tensor) -> Tensor:
        """Maps (B, T, C, h, w) to features (B, C), float32."""
        with torch.autocast(maps.device.type, enabled=False):
            frames = maps.float().mean(dim=(-2, -1))  # (B, T, C)
            return (frames + self.residual(run_lstm(self.lstm, frames))).mean(dim=1)
