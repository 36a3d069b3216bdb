"""Aggregate a clip by its mean."""

from fastreid.config import CfgNode
from torch import Tensor, nn

from plugins.registry import TEMPORAL


@TEMPORAL.register()
class TemporalMean(nn.Module):
    """Averages over space, then over time; it reads nothing of the config."""

    def __init__(self, cfg: CfgNode | None = None):
        super().__init__()

    def frame_features(self, maps: Tensor) -> Tensor:
        """Turn maps (B, T, C, h, w) into the vectors (B, T, C), float32, whose mean is taken."""
        return maps.float().mean(dim=(-2, -1))

    def forward(self, maps: Tensor) -> Tensor:
        """Turn maps (B, T, C, h, w) into features (B, C), float32."""
        return maps.float().mean(dim=(1, 3, 4))
