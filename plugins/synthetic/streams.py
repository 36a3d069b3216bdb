"""Random streams keyed by what is drawn, so that adding a person or a camera changes no other."""

from enum import IntEnum

import numpy as np


class Stream(IntEnum):
    """What a stream draws; the numbers are part of every data set's seed."""

    CAMERA = 1
    IDENTITY = 2
    PLAN = 3
    WALK = 4
    SHARE = 5


def stream(seed: int, purpose: Stream, *key: int) -> np.random.Generator:
    """The generator of one thing: the same numbers, whatever else is drawn in whichever process.

    Only its uniform and integer draws are used: they are exact, while normal draws go through the
    platform's logarithm.
    """
    return np.random.default_rng([seed, purpose, *key])


def between(rng: np.random.Generator, low: float, high: float, keep: float = 1.0) -> float:
    """Uniform draw from [low, high], shrunk around the middle to the fraction ``keep``."""
    return (low + high) / 2 + keep * (high - low) * (rng.random() - 0.5)
