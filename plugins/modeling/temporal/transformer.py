"""Self-attention over the frames of a clip.

Pre-norm encoder: Xiong et al., ICML 2020, arXiv 2002.04745. Position code: Vaswani et al., NeurIPS
2017, arXiv 1706.03762. The residual on the frames is this package's.
"""

import math

import torch
from fastreid.config import CfgNode, configurable
from torch import Tensor, nn

from plugins.errors import InputError
from plugins.registry import TEMPORAL


def sinusoids(frames: int, dim: int, device: torch.device) -> Tensor:
    """Position code (T, D): sin and cos of t / 10000^(2i / D) in columns 2i and 2i + 1.

    It is computed, not learned, and so defined for clips longer than those trained on.
    """
    rates = torch.exp(torch.arange(0, dim, 2, device=device) * (-math.log(10000.0) / dim))
    angles = torch.arange(frames, device=device)[:, None] * rates
    return torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(1)


@TEMPORAL.register()
class TemporalTransformer(nn.Module):
    """Mean over t of x_t + W y_t + b, y = encoder(tokens of x + position code).

    x_t is frame t averaged over space. W and b start at 0: at initialisation the feature is exactly
    the temporal mean.

    Args:
        channels: C, channels of the maps and length of the feature.
        dim: D, length of a frame's token.
        heads: of the self-attention.
        layers: of the encoder.

    Raises:
        InputError: ``dim`` is not even or no multiple of ``heads``, or there is no layer.
    """

    @configurable
    def __init__(self, *, channels: int, dim: int, heads: int, layers: int):
        super().__init__()
        if heads < 1 or dim % 2 or dim % heads:
            raise InputError(
                "MODEL.TEMPORAL.TRANSFORMER.DIM: expected an even multiple of HEADS, "
                f"found {dim} with {heads} heads"
            )
        if layers < 1:
            raise InputError(
                f"MODEL.TEMPORAL.TRANSFORMER.LAYERS: expected at least 1, found {layers}"
            )
        self.token = nn.Sequential(nn.Linear(channels, dim), nn.LayerNorm(dim))
        encoder = [
            nn.TransformerEncoderLayer(
                dim, heads, 4 * dim, dropout=0.0, batch_first=True, norm_first=True
            )
            for _ in range(layers)
        ]
        self.encoder = nn.Sequential(*encoder, nn.LayerNorm(dim))
        self.residual = nn.Linear(dim, channels)
        nn.init.zeros_(self.residual.weight)
        nn.init.zeros_(self.residual.bias)

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict:
        """Read ``MODEL.TEMPORAL.TRANSFORMER`` and the trunk's channels."""
        settings = cfg.MODEL.TEMPORAL.TRANSFORMER
        return {
            "channels": cfg.MODEL.BACKBONE.FEAT_DIM,
            "dim": settings.DIM,
            "heads": settings.HEADS,
            "layers": settings.LAYERS,
        }

    def forward(self, maps: Tensor) -> Tensor:
        """Maps (B, T, C, h, w) to features (B, C), float32."""
        with torch.autocast(maps.device.type, enabled=False):
            frames = maps.float().mean(dim=(-2, -1))  # (B, T, C)
            tokens = self.token(frames)  # (B, T, D)
            tokens = tokens + sinusoids(*tokens.shape[1:], tokens.device)
            return (frames + self.residual(self.encoder(tokens))).mean(dim=1)
