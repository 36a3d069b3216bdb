"""Spatial-temporal-information-guided aggregation (STIG) of SADSTRM, arXiv 2307.03903.

The paper's abstract states the idea: the relation of local parts over space and time guides what is
taken from each frame. The layers are this package's design.

Legend: B clips, T frames, C channels of the trunk, h x w its maps, S stripes, D = ``dim``.
"""

import torch
from fastreid.config import CfgNode, configurable
from torch import Tensor, nn

from plugins.errors import InputError
from plugins.registry import TEMPORAL


def stripe_means(maps: Tensor, stripes: int) -> Tensor:
    """Average each of ``stripes`` horizontal bands, head to feet.

    Args:
        maps: (B, T, C, h, w).
        stripes: number of bands S; each row of a map belongs to exactly one, and their heights
            differ by at most one row.

    Returns:
        (B, T, S, C).

    Raises:
        InputError: the maps have fewer rows than stripes.
    """
    rows = maps.shape[-2]
    if rows < stripes:
        raise InputError(
            f"MODEL.TEMPORAL.STIG.STRIPES: {stripes} stripes do not fit in maps of {rows} rows; "
            f"expected at most {rows}, or taller images"
        )
    bands = maps.tensor_split(stripes, dim=-2)
    return torch.stack([band.mean(dim=(-2, -1)) for band in bands], dim=2)


def frame_differences(sequence: Tensor) -> Tensor:
    """Change since the frame before, (B, T, ...) to (B, T, ...); 0 for the first frame."""
    return sequence.diff(dim=1, prepend=sequence[:, :1])


def guided_mean(frames: Tensor, guidance: Tensor) -> Tensor:
    """Mean over T of x_t * w_t + x_t, for frames x and guidance w of (B, T, C); returns (B, C)."""
    return (frames * guidance + frames).mean(dim=1)


def run_lstm(lstm: nn.LSTM, sequences: Tensor) -> Tensor:
    """Hidden states (N, L, D') of an LSTM over sequences (N, L, D)."""
    if lstm.training or not torch.is_grad_enabled():
        return lstm(sequences)[0]
    # cuDNN's LSTM has no backward pass in evaluation mode, which gradient attacks need.
    with torch.backends.cudnn.flags(enabled=False):
        return lstm(sequences)[0]


@TEMPORAL.register()
class STIG(nn.Module):
    """Weighs the channels of each frame by the relation of its stripes over space and time.

    p = ReLU(LayerNorm(Linear(stripe means))); s = BiLSTM(p) from head to feet;
    h = LSTM([s_t ; s_t - s_{t-1}]) over the frames, per stripe; w_t = sigmoid(FC(ReLU(FC(h_t))));
    the feature is the mean over t of x_t * w_t + x_t, where x_t is frame t averaged over space.
    """

    @configurable
    def __init__(
        self,
        *,
        channels: int,
        stripes: int,
        dim: int,
        guide_dim: int,
        spatial: bool,
        temporal: bool,
    ):
        """Build the layers.

        Args:
            channels: C, channels of the maps and length of the feature.
            stripes: S.
            dim: D, length of a stripe's descriptor.
            guide_dim: hidden length of the guidance layer.
            spatial: relate the stripes of a frame; without it s = p.
            temporal: relate the frames of a stripe; without it h = s.

        Raises:
            InputError: an odd ``dim`` cannot be shared by the two directions of the BiLSTM.
        """
        super().__init__()
        if spatial and dim % 2:
            raise InputError(f"MODEL.TEMPORAL.STIG.DIM: expected an even number, found {dim}")
        self.stripes = stripes
        self.describe = nn.Sequential(nn.Linear(channels, dim), nn.LayerNorm(dim), nn.ReLU())
        self.spatial = (
            nn.LSTM(dim, dim // 2, batch_first=True, bidirectional=True) if spatial else None
        )
        self.temporal = nn.LSTM(2 * dim, dim, batch_first=True) if temporal else None
        self.guide = nn.Sequential(
            nn.Linear(stripes * dim, guide_dim),
            nn.ReLU(),
            nn.Linear(guide_dim, channels),
            nn.Sigmoid(),
        )

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict:
        """Read ``MODEL.TEMPORAL.STIG`` and the trunk's channels."""
        stig = cfg.MODEL.TEMPORAL.STIG
        return {
            "channels": cfg.MODEL.BACKBONE.FEAT_DIM,
            "stripes": stig.STRIPES,
            "dim": stig.DIM,
            "guide_dim": stig.GUIDE_DIM,
            "spatial": stig.SPATIAL,
            "temporal": stig.TEMPORAL,
        }

    def forward(self, maps: Tensor) -> Tensor:
        """Maps (B, T, C, h, w) to features (B, C), float32."""
        # Differences of neighbouring frames are small: half precision would round them away.
        with torch.autocast(maps.device.type, enabled=False):
            maps = maps.float()
            relation = self.describe(stripe_means(maps, self.stripes))  # (B, T, S, D)
            if self.spatial is not None:
                relation = self.relate_stripes(relation)
            if self.temporal is not None:
                relation = self.relate_frames(relation)
            guidance = self.guide(relation.flatten(2))  # (B, T, C)
            return guided_mean(maps.mean(dim=(-2, -1)), guidance)

    def relate_stripes(self, described: Tensor) -> Tensor:
        """From p to s, both (B, T, S, D): each frame by itself, from head to feet and back."""
        frames = described.shape[:2]
        return run_lstm(self.spatial, described.flatten(0, 1)).unflatten(0, frames)

    def relate_frames(self, related: Tensor) -> Tensor:
        """From s to h, both (B, T, S, D): each stripe by itself, from the first frame on."""
        change = torch.cat([related, frame_differences(related)], dim=-1)  # (B, T, S, 2D)
        by_stripe = change.transpose(1, 2)  # (B, S, T, 2D)
        hidden = run_lstm(self.temporal, by_stripe.flatten(0, 1))
        return hidden.unflatten(0, by_stripe.shape[:2]).transpose(1, 2)
