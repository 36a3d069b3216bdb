"""Mean and deviation of the channels of a clip's maps: what camera, light and modality change.

All is per clip: statistics of single frames, partners or shares that differ between the frames of a
clip would give it a motion that nobody made.

Legend: B clips of T frames, N = B * T; C channels of h x w maps; mu, sigma a channel's mean and
deviation over the T * h * w cells of a clip; g the gradient of a loss at the maps.
"""

from typing import NamedTuple

import torch
from torch import Tensor

# Added to a variance: the deviation of a channel that is 0 in a whole clip is 0.003.
TINY_VARIANCE = 1e-5


class ChannelStatistics(NamedTuple):
    """Mean and logarithm of the deviation of each channel, (B, C) both, float32."""

    mean: Tensor
    log_deviation: Tensor

    def of(self, clips: Tensor) -> "ChannelStatistics":
        """Those of the clips (B,) that the indices name."""
        return ChannelStatistics(self.mean[clips], self.log_deviation[clips])

    def moved(self, mean: Tensor, log_deviation: Tensor) -> "ChannelStatistics":
        """With changes of both, (B, C), added."""
        return ChannelStatistics(self.mean + mean, self.log_deviation + log_deviation)

    def mixed(self, other: "ChannelStatistics", shares: Tensor) -> "ChannelStatistics":
        """On the way to ``other``, the share (B,) of it: 0 is here, 1 is there.

        The mean moves linearly, the deviation by equal factors.
        """
        shares = shares[:, None]
        return self.moved(
            shares * (other.mean - self.mean),
            shares * (other.log_deviation - self.log_deviation),
        )


def clips_of(maps: Tensor, frames: int) -> Tensor:
    """Maps (N, C, h, w) as clips of cells: (B, T, C, h * w), float32, without a gradient."""
    return maps.detach().float().flatten(2).unflatten(0, (-1, frames))


def clip_statistics(maps: Tensor, frames: int) -> ChannelStatistics:
    """The statistics of each clip of maps (N, C, h, w), over all its frames and cells."""
    variance, mean = torch.var_mean(clips_of(maps, frames), dim=(1, 3), correction=0)
    return ChannelStatistics(mean, (variance + TINY_VARIANCE).log() / 2)


def floors(maps: Tensor) -> Tensor:
    """The least value that a channel may take, (C,), for maps (N, C, h, w); float32.

    0 after a ReLU. Where the layer gives negative values too, as a non-local block does, the least
    that it gives in the batch.
    """
    return maps.detach().float().amin(dim=(0, 2, 3)).clamp_max(0)


def restyle(maps: Tensor, frames: int, own: ChannelStatistics, wanted: ChannelStatistics) -> Tensor:
    """(x - mu) / sigma * sigma' + mu', not below the floor of the channel.

    Args:
        maps: x, (N, C, h, w).
        frames: T.
        own: mu and sigma of each clip.
        wanted: mu' and sigma'; the result has them up to what the floor cuts off.

    Returns:
        Same shape and type; exactly x for a channel that keeps its statistics. The gradient is that
        of a scale and a shift that are constants.
    """
    scale = (wanted.log_deviation - own.log_deviation).exp()  # (B, C)
    shift = wanted.mean - scale * own.mean
    scale, shift = (x.repeat_interleave(frames, dim=0)[..., None, None] for x in (scale, shift))
    restyled = maps.float() * scale + shift
    return restyled.clamp(min=floors(maps)[:, None, None]).to(maps.dtype)


class Slopes(NamedTuple):
    """How a loss changes with the statistics of each clip, to first order; (B, C) each, float32.

    A cell at the floor can go up only. So the change is not linear in that of the statistics, and
    the cells at the floor are counted apart.

    Attributes:
        mean: sum of g over the cells above the floor: of d mu.
        log_deviation: sum of g * (x - mu) over them: of d log sigma.
        opened: sum of g over the cells at the floor: of what lifts them.
        depth: mu minus the floor.
    """

    mean: Tensor
    log_deviation: Tensor
    opened: Tensor
    depth: Tensor

    def change(self, mean: Tensor, log_deviation: Tensor) -> Tensor:
        """What the loss changes by, (..., B, C), for changes (..., B, C) of the statistics."""
        lifted = (mean - self.depth * log_deviation).relu()
        return self.mean * mean + self.log_deviation * log_deviation + self.opened * lifted


def loss_slopes(gradient: Tensor, maps: Tensor, frames: int, own: ChannelStatistics) -> Slopes:
    """Slopes of a loss whose gradient at the maps, both (N, C, h, w), is known.

    Args:
        gradient: g.
        maps: x.
        frames: T.
        own: the statistics of the clips.
    """
    g, x = clips_of(gradient, frames), clips_of(maps, frames)
    floor = floors(maps)[:, None]  # (C, 1)
    above = g * (x > floor)
    deviations = x - own.mean[:, None, :, None]
    return Slopes(
        mean=above.sum(dim=(1, 3)),
        log_deviation=(above * deviations).sum(dim=(1, 3)),
        opened=(g - above).sum(dim=(1, 3)),
        depth=own.mean - floor.squeeze(1),
    )


def within_person_deviation(values: Tensor, targets: Tensor) -> Tensor:
    """Pooled deviation of values (B, C) around the mean of their person, (C,).

    sqrt of sum (v - mean of the person)^2 / (B - people). Between people is what identifies them;
    within a person are camera, light, modality and pose. 0 where nobody has two clips.

    Args:
        values: (B, C).
        targets: (B,) person labels.
    """
    people, person = targets.unique(return_inverse=True)
    members = torch.nn.functional.one_hot(person, len(people)).to(values.dtype)  # (B, people)
    means = members.T @ values / members.sum(dim=0)[:, None]
    squares = (values - means[person]).square().sum(dim=0)
    return (squares / max(len(targets) - len(people), 1)).sqrt()
