"""Choose windows of a tracklet: T frames, each s after the one before, so that motion looks alike.

Training starts anywhere, testing in the middle. In a tracklet that is too short the window turns
round at the last frame and walks back by the same steps; it does not repeat that frame, which would
look as if the walker stood still. In a tracklet of s frames or fewer it can show only one.

Legend: L frames of a tracklet, T frames of a window, s stride.
"""

import torch


def window(length: int, frames: int, stride: int, start: int) -> list[int]:
    """List T frames, s apart, back and forth between ``start`` and the last frame within reach.

    >>> window(24, 4, 2, start=5)
    [5, 7, 9, 11]
    >>> window(6, 7, 2, start=1)
    [1, 3, 5, 3, 1, 3, 5]
    """
    steps = (length - 1 - start) // stride  # to the last frame within reach
    turn = max(2 * steps, 1)
    return [start + stride * (steps - abs(frame % turn - steps)) for frame in range(frames)]


def window_starts(length: int, frames: int, stride: int) -> int:
    """Count the starts, from 0 on, that windows of a tracklet can have.

    A whole window must fit. In a tracklet that is too short for one, a window starts at one of the
    first s frames, since each of them reaches frames that the others do not, and takes a step.

    >>> window_starts(24, 8, 2), window_starts(15, 8, 2), window_starts(14, 8, 2)
    (10, 1, 2)
    """
    whole = length - (frames - 1) * stride
    return whole if whole > 0 else max(1, min(stride, length - stride))


def train_window(length: int, frames: int, stride: int, generator: torch.Generator) -> list[int]:
    """Draw a window; each start is as likely as the next."""
    starts = window_starts(length, frames, stride)
    start = int(torch.randint(starts, (), generator=generator))
    return window(length, frames, stride, start)


def test_windows(length: int, frames: int, stride: int, clips: int) -> list[list[int]]:
    """Choose windows of a tracklet, one for each clip.

    Args:
        length: L.
        frames: T.
        stride: s.
        clips: k > 0 for at most k windows at equal distances: the N possible starts are cut into
            K = min(k, N) parts, and a window starts in the middle of each part. So a single window
            lies in the middle, and no two are the same. 0 for the fewest windows that show every
            frame that a window can show: on each grid of every s-th frame, windows follow one
            another, and the last is moved back to end with the grid.

    >>> test_windows(24, 8, 2, clips=1)
    [[4, 6, 8, 10, 12, 14, 16, 18]]
    >>> test_windows(10, 3, 2, clips=2)
    [[1, 3, 5], [4, 6, 8]]
    >>> test_windows(9, 3, 2, clips=0)
    [[0, 2, 4], [4, 6, 8], [1, 3, 5], [3, 5, 7]]
    """
    number = window_starts(length, frames, stride)
    if clips == 0:
        starts = []
        for first in range(min(stride, number)):
            last = first + (number - 1 - first) // stride * stride
            starts += [*range(first, last, frames * stride), last]
    else:
        parts = min(clips, number)
        starts = [((2 * part + 1) * number - 1) // (2 * parts) for part in range(parts)]
    return [window(length, frames, stride, start) for start in starts]
