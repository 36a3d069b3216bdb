"""Self-attention over the frames of a clip.

Pre-norm encoder: Xiong et al., ICML 2020, arXiv 2002.04745. Position code: Vaswani et al., NeurIPS
2017, arXiv 1706.03762. The residual on the frames is this package's.
"""

import math

import torch
from fastreid.config import CfgNode, configurable
from torch import Tensor, nn

from plugins.config import check_value
from plugins.errors import InputError
from plugins.modeling.precision import no_autocast
from plugins.modeling.temporal.base import CenteredPart
from plugins.modeling.temporal.modality_norm import ModalityNorm
from plugins.modeling.temporal.watch import Watch
from plugins.registry import TEMPORAL


def sinusoids(frames: int, dim: int, device: torch.device) -> Tensor:
    """Compute the position code (T, D): sin and cos of t / 10000^(2i / D) in columns 2i, 2i + 1.

    It is not learned, and so defined for clips that are longer than in training.
    """
    rates = torch.exp(torch.arange(0, dim, 2, device=device) * (-math.log(10000.0) / dim))
    angles = torch.arange(frames, device=device)[:, None] * rates
    return torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(1)


@TEMPORAL.register()
class TemporalTransformer(CenteredPart):
    """Mean over t of x_t + W y_t + b, y = encoder(tokens of n + position code).

    x_t is frame t averaged over space, n_t is x_t normalized by the statistics of its modality; a
    token is linear in n_t. W and b start at 0: at initialization the feature is exactly the
    temporal mean.

    Args:
        channels: C, channels of the maps and length of the feature.
        dim: D, length of a frame's token.
        heads: number of heads of the self-attention.
        layers: number of layers of the encoder.
        norm: normalizes frames of C channels.

    Raises:
        InputError: ``dim`` is not even or no multiple of ``heads``, or there is no layer.
    """

    @configurable
    def __init__(self, *, channels: int, dim: int, heads: int, layers: int, norm: ModalityNorm):
        super().__init__()
        if heads < 1 or dim % 2 or dim % heads:
            raise InputError(
                "MODEL.TEMPORAL.TRANSFORMER.DIM: expected an even multiple of HEADS, "
                f"found {dim} with {heads} heads"
            )
        check_value("MODEL.TEMPORAL.TRANSFORMER.LAYERS", layers)
        self.norm = norm
        self.watch = Watch(type(self).__name__, "residual")
        self.token = nn.Linear(channels, dim)
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
            **cls.frame_settings(cfg),
            "dim": settings.DIM,
            "heads": settings.HEADS,
            "layers": settings.LAYERS,
        }

    def frame_features(
        self, maps: Tensor, modalities: Tensor, source_maps: Tensor | None = None
    ) -> Tensor:
        """Turn maps (B, T, C, h, w) of clips of modalities (B,) into (B, T, C), float32."""
        with no_autocast(maps.device):
            frames, centered = self.centered_frames(maps, modalities)
            tokens = self.token(centered)  # (B, T, D)
            tokens = tokens + sinusoids(tokens.shape[1], tokens.shape[2], tokens.device)
            residual = self.residual(self.encoder(tokens))
            if self.is_watched:
                self.watch.see(residual, modalities)
            return frames + residual
