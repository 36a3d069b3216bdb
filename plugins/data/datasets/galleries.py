"""Galleries that are drawn anew for each trial.

A group is what a data set has of one person under one camera, as rows of a list of tracklets.
"""

import os
import random

import numpy as np

from plugins.data.datasets.tracklet import Tracklet

TRIALS = 10


def group_rows(tracklets: list[Tracklet]) -> dict[tuple[int, int], list[int]]:
    """(person, camera) -> rows, in the order of the file names; people and cameras ascending."""
    groups: dict[tuple[int, int], list[int]] = {}

    def place(row: int) -> tuple[int, int, str]:
        tracklet = tracklets[row]
        return tracklet.pid, tracklet.camid, os.path.basename(tracklet.img_paths[0])

    for row in sorted(range(len(tracklets)), key=place):
        groups.setdefault((tracklets[row].pid, tracklets[row].camid), []).append(row)
    return groups


def seeded_galleries(tracklets: list[Tracklet]) -> list[np.ndarray]:
    """Ten galleries of one row of each group, as AGW's code draws them (Ye et al., TPAMI 2021).

    Trial t, from 0, calls ``random.seed(t)`` and then ``random.choice`` on the sorted file names of
    each group, groups ascending. Here the generator is an own one, so nothing else is seeded.

    Returns:
        Int64 rows of ``tracklets`` for each trial.
    """
    groups = group_rows(tracklets)
    galleries = []
    for trial in range(TRIALS):
        generator = random.Random(trial)
        rows = [generator.choice(rows) for rows in groups.values()]
        galleries.append(np.array(rows, dtype=np.int64))
    return galleries
