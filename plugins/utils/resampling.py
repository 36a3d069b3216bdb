"""Draw people with replacement, for intervals that predict other people.

Legend: C clusters (people), R = RESAMPLES draws.
"""

import numpy as np
import torch
from torch import Tensor

RESAMPLES = 2000
CONFIDENCE = 0.95


def resampled_counts(number: int, seed: int) -> Tensor:
    """Draw ``number`` of ``number`` clusters with replacement; count how often each is drawn.

    Returns:
        (RESAMPLES, number) float64.
    """
    generator = np.random.default_rng(seed)
    counts = generator.multinomial(number, np.full(number, 1 / number), size=RESAMPLES)
    return torch.from_numpy(counts).double()


def percentiles(values: Tensor) -> tuple[float, float]:
    """Return the bounds of the middle CONFIDENCE of float64 values."""
    tail = (1 - CONFIDENCE) / 2
    low, high = values.quantile(torch.tensor([tail, 1 - tail], dtype=torch.float64)).tolist()
    return low, high
