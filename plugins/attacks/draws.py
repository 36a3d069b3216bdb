"""Random draws of a row that do not depend on which other rows share its batch."""

import numpy as np
import torch


def row_generator(*entropy: int) -> torch.Generator:
    """A generator on the CPU, seeded by whole numbers such as (seed, row, restart)."""
    state = np.random.SeedSequence(entropy).generate_state(1)
    return torch.Generator().manual_seed(int(state[0]))
