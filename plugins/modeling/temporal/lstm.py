"""Recurrent aggregation: the contribution of a frame depends on the frames before it."""

from fastreid.config import CfgNode, configurable
from torch import Tensor, nn

from plugins.modeling.precision import no_autocast
from plugins.modeling.temporal.base import CenteredPart
from plugins.modeling.temporal.modality_norm import ModalityNorm
from plugins.modeling.temporal.recurrence import run_lstm
from plugins.modeling.temporal.watch import Watch
from plugins.registry import TEMPORAL


@TEMPORAL.register()
class TemporalLSTM(CenteredPart):
    """Mean over t of x_t + W h_t + b, h = LSTM(n) from the first frame on, x_t averaged over space.

    n_t is x_t normalized by the statistics of its modality. Mean over the outputs of a recurrent
    layer: McLaughlin et al., CVPR 2016; the residual is this package's. W and b start at 0: at
    initialization the feature is exactly the temporal mean.

    Args:
        channels: C, channels of the maps and length of the feature.
        dim: length of h.
        norm: normalizes frames of C channels.
    """

    @configurable
    def __init__(self, *, channels: int, dim: int, norm: ModalityNorm):
        super().__init__()
        self.norm = norm
        self.watch = Watch(type(self).__name__, "residual")
        self.lstm = nn.LSTM(channels, dim, batch_first=True)
        self.residual = nn.Linear(dim, channels)
        nn.init.zeros_(self.residual.weight)
        nn.init.zeros_(self.residual.bias)

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict:
        """Read ``MODEL.TEMPORAL.LSTM`` and the trunk's channels."""
        return {**cls.frame_settings(cfg), "dim": cfg.MODEL.TEMPORAL.LSTM.DIM}

    def frame_features(
        self, maps: Tensor, modalities: Tensor, source_maps: Tensor | None = None
    ) -> Tensor:
        """Turn maps (B, T, C, h, w) of clips of modalities (B,) into (B, T, C), float32."""
        with no_autocast(maps.device):
            frames, centered = self.centered_frames(maps, modalities)
            residual = self.residual(run_lstm(self.lstm, centered))
            if self.is_watched:
                self.watch.see(residual, modalities)
            return frames + residual
