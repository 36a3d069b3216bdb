"""Draw another gallery for each trial.

A group holds the rows, in a list of tracklets, of one person under one camera.
"""

import os
import random
from collections.abc import Iterable
from typing import Any

import numpy as np

from plugins.data.datasets.tracklet import as_tracklet

TRIALS = 10


def group_rows(items: Iterable[tuple]) -> dict[tuple[Any, Any], list[int]]:
    """Group rows by (person, camera), in the order of the file names; groups ascend."""
    tracklets = [as_tracklet(item) for item in items]
    groups: dict[tuple[Any, Any], list[int]] = {}

    def order(row: int) -> tuple:
        tracklet = tracklets[row]
        return tracklet.pid, tracklet.camid, os.path.basename(tracklet.img_paths[0])

    for row in sorted(range(len(tracklets)), key=order):
        groups.setdefault((tracklets[row].pid, tracklets[row].camid), []).append(row)
    return groups


def seeded_galleries(items: Iterable[tuple]) -> list[np.ndarray]:
    """Draw ten galleries of one row of each group, as AGW's code does (Ye et al., TPAMI 2021).

    Trial t, from 0, calls ``random.seed(t)`` and then ``random.choice`` on the sorted file names of
    each group, groups ascending. Here each trial has its generator, so nothing else is seeded.

    Returns:
        Int64 rows of ``items`` for each trial.
    """
    groups = group_rows(items)
    galleries = []
    for trial in range(TRIALS):
        generator = random.Random(trial)
        rows = [generator.choice(rows) for rows in groups.values()]
        galleries.append(np.array(rows, dtype=np.int64))
    return galleries
