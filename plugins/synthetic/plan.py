"""Plan who walks past which camera, when and how: pure lists of walks, without pictures."""

from dataclasses import dataclass

import numpy as np

from plugins.synthetic.settings import (
    FIRST_AUXILIARY_ID,
    FIRST_TEST_ID,
    SHORTEST_TRACKLET,
    SyntheticSettings,
)
from plugins.synthetic.streams import Stream, stream

VISIBLE, INFRARED = 0, 1
MODALITIES = ("visible", "infrared")


@dataclass(frozen=True)
class Walk:
    """One person walks past one camera once.

    Attributes:
        pid: person.
        modality: 0 visible, 1 infrared.
        camid: camera, from 1.
        number: index of this walk among the person's walks in this modality.
        frames: length.
        reverse: whether the person walks the path backwards, and so shows the other side.
        light: time of day in [0, 1), which decides gain, color cast and the side of the light.
        twin: whether this is the visible walk of this number, recorded in infrared at that moment.
    """

    pid: int
    modality: int
    camid: int
    number: int
    frames: int
    reverse: bool
    light: float
    twin: bool = False


def cameras_of(modality: int, cameras: int) -> range:
    """Number the cameras of a modality: all but the last see light, all but the first infrared."""
    return range(1, cameras) if modality == VISIBLE else range(2, cameras + 1)


def plan_split(settings: SyntheticSettings, split: str) -> list[Walk]:
    """List all walks of one split, ordered by person, modality, camera and time.

    Each of camera, direction and light is a habit of the person with probability
    ``settings.nuisance`` (in the test split ``settings.test_nuisance``), and an independent draw
    otherwise.

    Args:
        settings: settings of the data set.
        split: "train" or "test".

    Returns:
        Walks; those of the first people stay the same if more people are asked for.
    """
    assert split in ("train", "test"), split
    if split == "train":
        pids = range(1, 1 + settings.train_ids)
        count, nuisance = settings.train_cameras, settings.nuisance
    else:
        pids = range(FIRST_TEST_ID, FIRST_TEST_ID + settings.test_ids)
        count, nuisance = settings.test_cameras, settings.test_nuisance
    walks = []
    for pid in pids:
        for modality in (VISIBLE, INFRARED):
            walks += _walks_of(settings, pid, modality, count, nuisance)
    return sorted(walks, key=lambda walk: (walk.pid, walk.modality, walk.camid, walk.number))


def plan_auxiliary(settings: SyntheticSettings, people: int) -> list[Walk]:
    """List walks of ``people`` others, each past one camera, in both modalities, without habits."""
    pids = range(FIRST_AUXILIARY_ID, FIRST_AUXILIARY_ID + people)
    return [
        walk
        for pid in pids
        for modality in (VISIBLE, INFRARED)
        for walk in _walks_of(settings, pid, modality, 1, 0.0)
        if walk.number == 0  # without the glimpse
    ]


def _walks_of(
    settings: SyntheticSettings, pid: int, modality: int, count: int, nuisance: float
) -> list[Walk]:
    habits = stream(settings.seed, Stream.PLAN, pid)
    home = habits.permutation(np.arange(2, settings.cameras))[:count]
    home_reverse, home_light = bool(habits.random() < 0.5), float(habits.random())

    rng = stream(settings.seed, Stream.PLAN, pid, modality + 1)
    kept = [camid for camid in home if rng.random() < nuisance]
    others = rng.permutation(np.array(cameras_of(modality, settings.cameras)))
    visited = (kept + [camid for camid in others if camid not in kept])[:count]
    lengths = rng.integers(settings.min_frames, settings.max_frames + 1, size=count).tolist()
    if pid % 5 == 1:  # some people are only glimpsed: too short a tracklet for readers
        visited.append(visited[0])
        lengths.append(int(rng.integers(4, SHORTEST_TRACKLET)))

    walks = []
    for number, (camid, frames) in enumerate(zip(visited, lengths, strict=True)):
        reverse, light = bool(rng.random() < 0.5), float(rng.random())
        reverse = home_reverse if rng.random() < nuisance else reverse
        light = home_light if rng.random() < nuisance else light
        walks.append(Walk(pid, modality, int(camid), number, frames, reverse, light))
    return walks
