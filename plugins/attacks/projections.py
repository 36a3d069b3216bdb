"""Norms of perturbations and projections onto constraints: pure functions of tensors.

Legend: B clips of T frames of 3 x H x W, R rows (items of query + gallery) they belong to. Pixels
and perturbations are in gray levels, 0 to 255.
"""

import torch
from torch import Tensor

# Rounds of Dykstra's algorithm; with 6 frames the result is within 2 % of the nearest distance.
ROUNDS = 20


def expand_rows(values: Tensor, groups: Tensor) -> Tensor:
    """Expand values of rows (R,) to (B, 1, 1, 1, 1), for the clips in rows ``groups`` (B,)."""
    return values[groups].view(-1, 1, 1, 1, 1)


def row_norms(clips: Tensor, groups: Tensor, rows: int, order: int) -> Tensor:
    """Compute the L1 or L2 norm (R,) over all pixels of all clips (B, T, 3, H, W) of a row.

    Args:
        clips: (B, T, 3, H, W).
        groups: (B,) the row of each clip.
        rows: R; given, because counting the groups would wait for the device.
        order: 1 or 2.
    """
    # In float64 the order of summation, and so the size of the batch, does not show.
    powers = clips.double().abs().pow(order).flatten(1).sum(dim=1)
    sums = powers.new_zeros(rows).index_add_(0, groups, powers)
    return sums.pow(1 / order).to(clips.dtype)


def mean_absolute(clips: Tensor, groups: Tensor, rows: int) -> Tensor:
    """Average the absolute values (R,) of all pixels of all clips (B, T, 3, H, W) of a row."""
    number = groups.bincount(minlength=rows) * clips[0].numel()
    return row_norms(clips, groups, rows, order=1) / number


def unit(clips: Tensor, groups: Tensor, rows: int, order: int) -> Tensor:
    """Scale the clips of each row to norm 1; a row of zeros stays zero."""
    norms = row_norms(clips, groups, rows, order)
    return clips * expand_rows(torch.where(norms > 0, 1 / norms, 0.0), groups)


def shrink(clips: Tensor, groups: Tensor, rows: int, radius: float) -> Tensor:
    """Project the clips of each row onto the L2 ball of ``radius``."""
    norms = row_norms(clips, groups, rows, order=2)
    return clips * expand_rows(torch.where(norms > radius, radius / norms, 1.0), groups)


def tighten(low: Tensor, high: Tensor, tau: float) -> tuple[Tensor, Tensor]:
    """Tighten bounds (B, T, ...) to the values that sequences with steps of at most ``tau`` reach.

    Within the returned bounds, every value of a frame can continue to both neighboring frames.
    """
    low, high = low.clone(), high.clone()
    last = low.shape[1] - 1
    neighbors = [(t, t - 1) for t in range(1, last + 1)] + [(t, t + 1) for t in range(last)[::-1]]
    for here, there in neighbors:
        low[:, here] = torch.maximum(low[:, here], low[:, there] - tau)
        high[:, here] = torch.minimum(high[:, here], high[:, there] + tau)
    return low, high


def smooth(clips: Tensor, low: Tensor, high: Tensor, tau: float) -> Tensor:
    """Move clips into the bounds so that consecutive frames differ by at most ``tau``.

    The result is close to the nearest such clips. Dykstra's algorithm converges to the nearest
    point of an intersection but need not reach it, so a final sweep moves its last point into the
    set. A sweep goes through the frames and clamps each to what the frame before it allows; the
    mean of the forward and the backward sweep is in the set, because the set is convex.

    Args:
        clips: (B, T, ...).
        low: (B, T, ...), as ``tighten`` gives them.
        high: likewise.
        tau: largest step between two frames, 0 or more.

    Returns:
        (B, T, ...); a point of the set stays where it is, except for rounding.
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

    Each frame of a pair moves half of the way.
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
    """Round attacked images to whole gray levels, towards the clean images.

    Rounding to the nearest level could leave a fractional budget or an L2 ball.

    Args:
        images: attacked images in [0, 255].
        clean: clean images of the same shape, whole numbers.

    Returns:
        uint8 images; no pixel is farther from its clean value than before.
    """
    return (clean + (images - clean).trunc()).to(torch.uint8)
