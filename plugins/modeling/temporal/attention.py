"""Temporal attention, after Gao and Nevatia, arXiv 1805.02104: some frames weigh more."""

from fastreid.config import CfgNode, configurable
from torch import Tensor, nn

from plugins.modeling.precision import no_autocast
from plugins.modeling.temporal.base import CenteredPart
from plugins.modeling.temporal.modality_norm import ModalityNorm
from plugins.modeling.temporal.watch import Watch
from plugins.registry import TEMPORAL


@TEMPORAL.register()
class TemporalAttention(CenteredPart):
    """Sum over t of a_t x_t, a = softmax over T of v . tanh(W n_t + b), x_t averaged over space.

    n_t is x_t normalized by the statistics of its modality. v starts at 0: at initialization the
    feature is exactly the temporal mean. It is a function of the set of frames.

    Args:
        channels: C, channels of the maps and length of the feature.
        dim: hidden length of the score.
        norm: normalizes frames of C channels.
    """

    @configurable
    def __init__(self, *, channels: int, dim: int, norm: ModalityNorm):
        super().__init__()
        self.norm = norm
        self.watch = Watch(type(self).__name__, "attention", over="frames")
        hidden = nn.Linear(channels, dim)
        last = nn.Linear(dim, 1, bias=False)  # the softmax would cancel a bias
        nn.init.zeros_(last.weight)
        self.score = nn.Sequential(hidden, nn.Tanh(), last)

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict:
        """Read ``MODEL.TEMPORAL.ATTENTION`` and the trunk's channels."""
        return {**cls.frame_settings(cfg), "dim": cfg.MODEL.TEMPORAL.ATTENTION.DIM}

    def frame_features(
        self, maps: Tensor, modalities: Tensor, source_maps: Tensor | None = None
    ) -> Tensor:
        """Turn maps (B, T, C, h, w) of clips of modalities (B,) into (B, T, C), float32."""
        with no_autocast(maps.device):
            frames, centered = self.centered_frames(maps, modalities)
            weights = self.weights_of(centered)
            if self.is_watched:
                self.watch.see(weights, modalities)
            return weights * frames

    def weights(self, maps: Tensor, modalities: Tensor) -> Tensor:
        """Compute T a_t (B, T, 1), whose mean over the frames is 1, of maps (B, T, C, h, w)."""
        with no_autocast(maps.device):
            _, centered = self.centered_frames(maps, modalities)
            return self.weights_of(centered)

    def weights_of(self, centered: Tensor) -> Tensor:
        """Compute T a_t (B, T, 1) of centered frames (B, T, C)."""
        weights: Tensor = self.score(centered).softmax(dim=1) * centered.shape[1]
        return weights
