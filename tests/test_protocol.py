"""Protocols as data."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from plugins.evaluation import Side
from plugins.evaluation.ranks import match_blocks
from plugins.protocol import JUNK, Direction, Trial, without_answer

# Person and camera.
ITEMS = st.lists(st.tuples(st.integers(0, 2), st.integers(1, 3)), min_size=1, max_size=5)


@given(ITEMS, ITEMS, st.sampled_from(list(JUNK)))
def test_an_answer_is_what_the_evaluation_counts_as_a_positive(query, gallery, junk):
    items = [("a.jpg", pid, camid) for pid, camid in (*query, *gallery)]
    rows = np.arange(len(items))
    whole = Trial(rows[: len(query)], rows[len(query) :])
    pids, camids = (torch.tensor(column) for column in zip(*query, *gallery, strict=True))
    everything = Side(torch.empty(len(items), 0), pids, camids)
    blocks = match_blocks(
        *(everything.select(part) for part in whole),
        junk,
        chunk=2,
    )
    answered = any(positive.any() for positive, _ in blocks)
    assert without_answer({"Q2G": Direction((whole,), junk)}, items) == ["Q2G"] * (not answered)


@pytest.mark.slow
def test_every_trial_needs_an_answer():
    items = [("a.jpg", 1, 1), ("b.jpg", 1, 2), ("c.jpg", 2, 2)]
    good, bad = (Trial(np.array([0]), np.array([row])) for row in (1, 2))
    directions = {"good": Direction((good, good)), "one bad": Direction((good, bad))}
    assert without_answer(directions, items) == ["one bad"]
