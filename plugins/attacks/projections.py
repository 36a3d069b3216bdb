"""Where a perturbation may lie: pure functions, tensors in, tensors out.

Legend: B clips of T frames of 3 x H x W, R rows (items of query + gallery) they belong to. Pixels
and perturbations are in 0-255 units.
"""

import torch
from torch import Tensor

# Rounds of Dykstra's algorithm: with 6 frames within 2 % of the nearest point's distance.
ROUNDS = 20


def spread(values: Tensor, groups: Tensor) -> Tensor:
    """Values of rows (R,) as (B, 1, 1, 1, 1), for the clips in rows ``groups`` (B,)."""
    return values[groups].view(-1, 1, 1, 1, 1)


def row_norms(clips: Tensor, groups: Tensor, order: int) -> Tensor:
    """The L1 or L2 norm (R,) over all pixels of all clips (B, T, 3, H, W) of a row."""
    # In float64, where the order of summation, and so the size of the batch, is not seen.
    powers = clips.double().abs().pow(order).flatten(1).sum(dim=1)
    sums = powers.new_zeros(int(groups.max()) + 1).index_add_(0, groups, powers)
    return sums.pow(1 / order).to(clips.dtype)


def mean_size(clips: Tensor, groups: Tensor) -> Tensor:
    """Average the absolute values of all pixels of all clips (B, T, 3, H, W) of a row: (R,)."""
    return row_norms(clips, groups, order=1) / (groups.bincount() * clips[0].numel())


def unit(clips: Tensor, groups: Tensor, order: int) -> Tensor:
    """Clips whose rows have norm 1; a row of zeros stays zero."""
    norms = row_norms(clips, groups, order)
    return clips * spread(torch.where(norms > 0, 1 / norms, 0.0), groups)


def shrink(clips: Tensor, groups: Tensor, radius: float) -> Tensor:
    """The nearest clips whose rows have an L2 norm of at most ``radius``."""
    norms = row_norms(clips, groups, order=2)
    return clips * spread(torch.where(norms > radius, radius / norms, 1.0), groups)


def tighten(low: Tensor, high: Tensor, tau: float) -> tuple[Tensor, Tensor]:
    """Bounds (B, T, ...) that leave out what no sequence with steps of at most ``tau`` reaches.

    Inside them, every value of one frame can go on to both neighbours.
    """
    low, high = low.clone(), high.clone()
    last = low.shape[1] - 1
    neighbours = [(t, t - 1) for t in range(1, last + 1)] + [(t, t + 1) for t in range(last)[::-1]]
    for here, there in neighbours:
        low[:, here] = torch.maximum(low[:, here], low[:, there] - tau)
        high[:, here] = torch.minimum(high[:, here], high[:, there] + tau)
    return low, high


def smooth(clips: Tensor, low: Tensor, high: Tensor, tau: float) -> Tensor:
    """Clips within the bounds whose frames differ by at most ``tau``, close to the nearest ones.

    Dykstra's algorithm converges to the nearest point of an intersection, but need not reach it;
    so its last point is swept into the set. A sweep goes through the frames, each clamped to what
    the one before allows; the mean of both directions is in the set, which is convex.

    Args:
        clips: (B, T, ...).
        low: (B, T, ...), as ``tighten`` gives them.
        high: likewise.
        tau: largest step between two frames, 0 or more.

    Returns:
        (B, T, ...); a point of the set stays where it is, but for rounding.
    """
    sets = (
        lambda point: point.clamp(low, high),
        lambda point: _close_pairs(point, 0, tau),
        lambda point: _close_pairs(point, 1, tau),
    )
    corrections = [torch.zeros_like(clips) for _ in sets]
    for _ in range(ROUNDS):
        for index, nearest in enumerate(sets):
            shifted = clips + corrections[index]
            clips = nearest(shifted)
            corrections[index] = shifted - clips
    forward = _sweep(clips, low, high, tau)
    backward = _sweep(clips.flip(1), low.flip(1), high.flip(1), tau).flip(1)
    return (forward + backward) / 2


def _close_pairs(clips: Tensor, first: int, tau: float) -> Tensor:
    """Move the frames of the pairs (first, first + 1), (first + 2, ...) to ``tau`` of each other.

    Each of the two goes half of the way.
    """
    end = first + (clips.shape[1] - first) // 2 * 2
    left, right = slice(first, end, 2), slice(first + 1, end, 2)
    gap = clips[:, right] - clips[:, left]
    half = (gap - gap.clamp(-tau, tau)) / 2
    moved = clips.clone()
    moved[:, left] += half
    moved[:, right] -= half
    return moved


def _sweep(clips: Tensor, low: Tensor, high: Tensor, tau: float) -> Tensor:
    swept = [clips[:, 0].clamp(low[:, 0], high[:, 0])]
    for frame in range(1, clips.shape[1]):
        lowest = torch.maximum(low[:, frame], swept[-1] - tau)
        highest = torch.minimum(high[:, frame], swept[-1] + tau)
        swept.append(clips[:, frame].clamp(lowest, highest))
    return torch.stack(swept, dim=1)


def to_uint8(images: Tensor, clean: Tensor) -> Tensor:
    """Attacked images as whole numbers, rounded towards the clean ones.

    Rounding to the nearest would leave a budget that is no whole number, and an L2 ball.

    Args:
        images: attacked, [0, 255].
        clean: the same shape, whole numbers.

    Returns:
        uint8; no pixel is further from the clean one than before.
    """
    return (clean + (images - clean).trunc()).to(torch.uint8)
