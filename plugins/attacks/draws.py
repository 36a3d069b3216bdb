"""Seeds of random draws: of a row whoever shares its batch, of a batch whenever it is resumed."""

import numpy as np
import torch


def joint_seed(*entropy: int) -> int:
    """One seed below 2^32 from several whole numbers, such as (SEED, rank, iteration)."""
    return int(np.random.SeedSequence(entropy).generate_state(1)[0])


def row_generator(*entropy: int) -> torch.Generator:
    """A generator on the CPU, seeded by whole numbers such as (seed, row, restart)."""
    return torch.Generator().manual_seed(joint_seed(*entropy))
