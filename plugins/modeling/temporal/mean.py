"""The plainest aggregation of a clip."""

from fastreid.config import CfgNode, configurable
from torch import Tensor, nn

from plugins.registry import TEMPORAL


@TEMPORAL.register()
class TemporalMean(nn.Module):
    """Average over space, then over time."""

    @configurable
    def __init__(self):
        super().__init__()

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict:
        """It has no settings."""
        return {}

    def frame_features(self, maps: Tensor) -> Tensor:
        """Turn maps (B, T, C, h, w) into the vectors (B, T, C), float32, whose mean is taken."""
        return maps.float().mean(dim=(-2, -1))

    def forward(self, maps: Tensor) -> Tensor:
        """Maps (B, T, C, h, w) to features (B, C), float32."""
        return maps.float().mean(dim=(1, 3, 4))
