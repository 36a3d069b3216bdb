"""Random streams by purpose, so that adding a person or a camera changes no other."""

from enum import IntEnum

import numpy as np


class Stream(IntEnum):
    """Purposes of streams; the numbers are part of every data set's seed."""

    CAMERA = 1
    IDENTITY = 2
    PLAN = 3
    WALK = 4
    SHARE = 5


def stream(seed: int, purpose: Stream, *key: int) -> np.random.Generator:
    """Make the generator of one purpose, which no other draw and no other process changes.

    Only its uniform and integer draws are used: they are exact, while normal draws go through the
    platform's logarithm.
    """
    return np.random.default_rng([seed, purpose, *key])


def between(rng: np.random.Generator, low: float, high: float, keep: float = 1.0) -> float:
    """Draw uniformly from [low, high], shrunk around the middle to the fraction ``keep``."""
    return (low + high) / 2 + keep * (high - low) * (rng.random() - 0.5)
