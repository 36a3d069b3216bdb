"""Aggregate a clip by its strongest response, channel by channel."""

from fastreid.config import CfgNode
from torch import Tensor, nn

from plugins.registry import TEMPORAL


@TEMPORAL.register()
class TemporalMax(nn.Module):
    """Averages over space, then takes the maximum over time; it reads nothing of the config."""

    def __init__(self, cfg: CfgNode | None = None):
        super().__init__()

    def forward(self, maps: Tensor) -> Tensor:
        """Turn maps (B, T, C, h, w) into features (B, C), float32."""
        return maps.float().mean(dim=(-2, -1)).amax(dim=1)
