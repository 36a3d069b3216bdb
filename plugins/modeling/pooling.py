"""Turn the map of a frame into its feature.

Legend: B clips, T frames, C channels, h x w a map.
"""

import torch
from fastreid.config import CfgNode
from torch import Tensor, nn

from plugins.config import check_value
from plugins.modeling.precision import no_autocast
from plugins.modeling.temporal.gem import P_MAX, P_MIN, generalized_mean


class MeanPooling(nn.Module):
    """Takes the mean over space."""

    def forward(self, maps: Tensor) -> Tensor:
        """Turn maps (B, T, C, h, w) into features (B, T, C), float32."""
        return maps.float().mean(dim=(-2, -1))


class MaxPooling(nn.Module):
    """Takes the maximum over space."""

    def forward(self, maps: Tensor) -> Tensor:
        """Turn maps (B, T, C, h, w) into features (B, T, C), float32."""
        return maps.float().amax(dim=(-2, -1))


class GeMPooling(nn.Module):
    """Takes (mean over space of x^p)^(1/p) with one learned p (GeM, Radenovic et al., TPAMI 2018).

    Args:
        p: initial value; in use p is clamped to [1, 100].

    Raises:
        InputError: the initial p is outside, where it would get no gradient.
    """

    def __init__(self, p: float):
        super().__init__()
        check_value("MODEL.SPATIAL_POOLING.P", p)
        self.p = nn.Parameter(torch.tensor(float(p)))

    def forward(self, maps: Tensor) -> Tensor:
        """Turn maps (B, T, C, h, w), not negative, into features (B, T, C), float32."""
        # Half precision would round x^p to 0 or to 1.
        with no_autocast(maps.device):
            cells = maps.float().flatten(0, 1).flatten(2).transpose(1, 2)  # (B T, h w, C)
            pooled = generalized_mean(cells, self.p.clamp(P_MIN, P_MAX))
        return pooled.unflatten(0, maps.shape[:2])


def build_pooling(cfg: CfgNode) -> nn.Module:
    """Build the pooling of ``MODEL.SPATIAL_POOLING``: maps (B, T, C, h, w) to features (B, T, C).

    Raises:
        InputError: GeM's p is out of its range.
    """
    settings = cfg.MODEL.SPATIAL_POOLING
    if settings.KIND == "gem":
        return GeMPooling(settings.P)
    return {"mean": MeanPooling, "max": MaxPooling}[settings.KIND]()
