"""Change mean and deviation of a clip's channels, as camera, light and modality do.

All functions work per clip: if statistics, partners or shares differed between the frames of a
clip, they would add an artificial motion.

Legend: B clips of T frames, N = B * T; C channels of h x w maps; mu, sigma a channel's mean and
deviation over the T * h * w cells of a clip; g the gradient of a loss at the maps.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from plugins.modeling.batch_statistics import mean_and_variance

# Added to a variance: the deviation of a channel that is 0 in a whole clip is 0.003.
TINY_VARIANCE = 1e-5


class ChannelStatistics(NamedTuple):
    """Mean and logarithm of the deviation of each channel, (B, C) both, float32."""

    mean: Tensor
    log_deviation: Tensor

    def of(self, clips: Tensor) -> "ChannelStatistics":
        """Select clips by their indices (B,)."""
        return ChannelStatistics(self.mean[clips], self.log_deviation[clips])

    def moved(self, mean: Tensor, log_deviation: Tensor) -> "ChannelStatistics":
        """Add changes (B, C) to both."""
        return ChannelStatistics(self.mean + mean, self.log_deviation + log_deviation)

    def mixed(self, other: "ChannelStatistics", shares: Tensor) -> "ChannelStatistics":
        """Move a share (B,) of the way to ``other``: 0 does not move, 1 arrives.

        The mean moves linearly, the deviation by equal factors.
        """
        shares = shares[:, None]
        return self.moved(
            shares * (other.mean - self.mean),
            shares * (other.log_deviation - self.log_deviation),
        )


def clips_of(maps: Tensor, frames: int) -> Tensor:
    """Reshape maps (N, C, h, w) to clips of cells (B, T, C, h * w); float32, without a gradient."""
    return maps.detach().float().flatten(2).unflatten(0, (-1, frames))


def clip_statistics(maps: Tensor, frames: int) -> ChannelStatistics:
    """Measure each clip of maps (N, C, h, w) over all its frames and cells."""
    mean, variance = mean_and_variance(clips_of(maps, frames), (1, 3))
    return ChannelStatistics(mean, (variance + TINY_VARIANCE).log() / 2)


def floors(maps: Tensor) -> Tensor:
    """Find the least value that each channel may take, (C,), for maps (N, C, h, w); float32.

    It is 0 after a ReLU. If the layer gives negative values too, as a non-local block does, it is
    the least value of the channel in the batch.
    """
    return maps.detach().float().amin(dim=(0, 2, 3)).clamp_max(0)


def restyle(
    maps: Tensor, frames: int, statistics: ChannelStatistics, wanted: ChannelStatistics
) -> Tensor:
    """Return (x - mu) / sigma * sigma' + mu', clamped to the floor of the channel.

    Args:
        maps: x, (N, C, h, w).
        frames: T.
        statistics: mu and sigma of each clip.
        wanted: mu' and sigma'; the result has them except for the effect of the floor.

    Returns:
        Same shape and type; exactly x for a channel that keeps its statistics. Scale and shift
        are constants for the gradient.
    """
    scale = (wanted.log_deviation - statistics.log_deviation).exp()  # (B, C)
    shift = wanted.mean - scale * statistics.mean
    scale, shift = (x.repeat_interleave(frames, dim=0)[..., None, None] for x in (scale, shift))
    restyled = maps.float() * scale + shift
    return restyled.clamp(min=floors(maps)[:, None, None]).to(maps.dtype)


class Slopes(NamedTuple):
    """First-order change of a loss with the statistics of each clip; (B, C) each, float32.

    A cell at the floor can only go up. So the change of the loss is not linear in the change of the
    statistics, and cells at the floor have a separate sum.

    Attributes:
        mean: sum of g over the cells above the floor; the factor of d mu.
        log_deviation: sum of g * (x - mu) over the same cells; the factor of d log sigma.
        opened: sum of g over the cells at the floor; the factor of their rise.
        depth: mu minus the floor.
    """

    mean: Tensor
    log_deviation: Tensor
    opened: Tensor
    depth: Tensor

    def change(self, mean: Tensor, log_deviation: Tensor) -> Tensor:
        """Predict the change of the loss, (..., B, C), from changes (..., B, C) of both."""
        lifted = (mean - self.depth * log_deviation).relu()
        return self.mean * mean + self.log_deviation * log_deviation + self.opened * lifted


def loss_slopes(
    gradient: Tensor, maps: Tensor, frames: int, statistics: ChannelStatistics
) -> Slopes:
    """Derive the slopes of a loss from its gradient at the maps, both (N, C, h, w).

    Args:
        gradient: g.
        maps: x.
        frames: T.
        statistics: the statistics of the clips.
    """
    g, x = clips_of(gradient, frames), clips_of(maps, frames)
    floor = floors(maps)[:, None]  # (C, 1)
    above = g * (x > floor)
    deviations = x - statistics.mean[:, None, :, None]
    return Slopes(
        mean=above.sum(dim=(1, 3)),
        log_deviation=(above * deviations).sum(dim=(1, 3)),
        opened=(g - above).sum(dim=(1, 3)),
        depth=statistics.mean - floor.squeeze(1),
    )


def within_person_deviation(values: Tensor, targets: Tensor) -> Tensor:
    """Pool the deviation of values (B, C) from the mean of their person, (C,).

    It is sqrt(sum (v - mean of the person)^2 / (B - people)). Differences between people identify
    them; differences within a person come from camera, light, modality and pose. It is 0 if nobody
    has two clips.

    Args:
        values: (B, C).
        targets: (B,) person labels.
    """
    people, person = targets.unique(return_inverse=True)
    members = torch.nn.functional.one_hot(person, len(people)).to(values.dtype)  # (B, people)
    means = members.T @ values / members.sum(dim=0)[:, None]
    squares = (values - means[person]).square().sum(dim=0)
    return (squares / max(len(targets) - len(people), 1)).sqrt()
