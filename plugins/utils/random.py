"""Seeds and generators derived from whole numbers, so that a draw depends on these alone.

An item's draws are then the same whatever else is in its batch, and a batch's draws are the same
when a run resumes.
"""

import numpy as np
import torch


def derive_seed(*entropy: int) -> int:
    """Derive one seed below 2^32 from several whole numbers, such as (SEED, rank, iteration)."""
    return int(np.random.SeedSequence(entropy).generate_state(1)[0])


def item_generator(*entropy: int) -> torch.Generator:
    """Make a CPU generator that is seeded by whole numbers, such as (seed, row, restart)."""
    return torch.Generator().manual_seed(derive_seed(*entropy))
