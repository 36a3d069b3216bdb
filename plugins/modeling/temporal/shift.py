"""Temporal shift, after TSM, Lin et al., ICCV 2019, arXiv 1811.08383."""

import torch
from fastreid.config import CfgNode, configurable
from torch import Tensor, nn

from plugins.config import check_value
from plugins.registry import TEMPORAL


def shift_frames(frames: Tensor, count: int) -> Tensor:
    """Move channels by one frame, (B, T, C) to (B, T, C).

    The first ``count`` channels come from the frame before, the next ``count`` from the frame
    after. The end frames are repeated; TSM's zeros would empty a clip of one frame.
    """
    padded = torch.cat([frames[:, :1], frames, frames[:, -1:]], dim=1)
    before, after = padded[:, :-2], padded[:, 2:]
    return torch.cat(
        [before[..., :count], after[..., count : 2 * count], frames[..., 2 * count :]], dim=-1
    )


@TEMPORAL.register()
class TemporalShift(nn.Module):
    """Averages over space, shifts a share of the channels by a frame each way, averages over time.

    It has no parameters. TSM shifts between the layers of a network, which then mix the moved
    channels; after the trunk only the mean follows. So only the weight of the end frames changes:
    shifted channels count one end twice and the other not at all. It is a control for the
    aggregations that learn from order, and close to the temporal mean.

    Args:
        channels: C, channels of the maps and length of the feature.
        share: share of the channels that moves each way.

    Raises:
        InputError: the share is not within 0 and 0.5.
    """

    @configurable
    def __init__(self, *, channels: int, share: float):
        super().__init__()
        check_value("MODEL.TEMPORAL.SHIFT.SHARE", share)
        self.count = int(channels * share)

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict:
        """Read ``MODEL.TEMPORAL.SHIFT`` and the trunk's channels."""
        return {"channels": cfg.MODEL.BACKBONE.FEAT_DIM, "share": cfg.MODEL.TEMPORAL.SHIFT.SHARE}

    def frame_features(self, maps: Tensor) -> Tensor:
        """Turn maps (B, T, C, h, w) into the vectors (B, T, C), float32, whose mean is taken."""
        return shift_frames(maps.float().mean(dim=(-2, -1)), self.count)

    def forward(self, maps: Tensor) -> Tensor:
        """Turn maps (B, T, C, h, w) into features (B, C), float32."""
        return self.frame_features(maps).mean(dim=1)
