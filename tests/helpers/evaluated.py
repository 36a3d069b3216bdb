"""A small set of features, as an evaluator collects it."""

from types import SimpleNamespace

import numpy as np
import torch

from plugins.protocol import Direction, Trial

NUM_QUERIES, NUM_ITEMS = 30, 95
QUERY, GALLERY = np.arange(NUM_QUERIES), np.arange(NUM_QUERIES, NUM_ITEMS)
TRIALS = {"I2V": Trial(QUERY, GALLERY), "V2I": Trial(GALLERY, QUERY)}
DIRECTIONS = {name: Direction((trial,)) for name, trial in TRIALS.items()}


def items(seed=0):
    """Features, persons and cameras of ``query + gallery``."""
    generator = torch.Generator().manual_seed(seed)
    features = torch.randn(NUM_ITEMS, 16, generator=generator)
    pids = torch.randint(5, (NUM_ITEMS,), generator=generator)
    camids = torch.randint(4, (NUM_ITEMS,), generator=generator)
    return features, pids, camids


def data_set(directions=DIRECTIONS):
    """What an evaluator reads of a data set."""
    return SimpleNamespace(
        query=range(NUM_QUERIES),
        gallery=range(NUM_QUERIES, NUM_ITEMS),
        directions=lambda: directions,
    )


def feed(evaluator, rows, features, pids, camids, batch_size=7):
    rows = torch.tensor(list(rows), dtype=torch.int64)
    for batch in rows.split(batch_size) if len(rows) else ():
        inputs = {"targets": pids[batch], "camids": camids[batch], "rows": batch}
        evaluator.process(inputs, features[batch])
