"""The strongest response of a clip, channel by channel."""

from fastreid.config import CfgNode, configurable
from torch import Tensor, nn

from plugins.registry import TEMPORAL


@TEMPORAL.register()
class TemporalMax(nn.Module):
    """Average over space, then maximum over time."""

    @configurable
    def __init__(self):
        super().__init__()

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict:
        """It has no settings."""
        return {}

    def forward(self, maps: Tensor) -> Tensor:
        """Maps (B, T, C, h, w) to features (B, C), float32."""
        return maps.float().mean(dim=(-2, -1)).amax(dim=1)
