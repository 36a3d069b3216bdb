"""The default of every setting renders what the renderer has always rendered.

Recorded results and rendered folders hold only as long as this does. The digests are of pixels,
file names and JPEG qualities, as the bytes of a JPEG file depend on the library that writes it.
"""

import dataclasses
import hashlib

import numpy as np
import pytest

from plugins.experiments.plan import Dataset
from plugins.synthetic import LAYOUTS, PRESETS
from plugins.synthetic.frame import render_walk
from plugins.synthetic.scene import draw_camera

TINY = {"train_ids": 2, "test_ids": 2, "height": 32, "width": 16, "max_frames": 13}
HARD = {"difficulty": 0.9, "nuisance": 1.0, "imbalance": 0.8, "max_frames": 30, "seed": 7}
# Where a change of the drawing is meant: raise RENDERER in writers.py and renew the digests.
# Folders of sets that recorded ablations rendered.
UNEVEN = {"train_ids": 60, "test_ids": 40, "train_cameras": 4, "difficulty": 0.1, "nuisance": 0.3}
FOLDERS = [
    ("bench", "bench", {"test_ids": 45, "test_cameras": 6}, "bench-d12d8337"),
    ("market-uneven", "quick", UNEVEN | {"imbalance": 0.7}, "market-uneven-f4d5a1d4"),
]
CASES = [
    ("hitsz-vcm", "quick", {}, "573c5ec7a988f666"),
    ("hitsz-vcm", "demo", {}, "535d35592bb84e63"),
    ("hitsz-vcm", "bench", {}, "b5051f9cbde2b163"),
    ("hitsz-vcm", "quick", HARD, "3528d12561eeda98"),
    ("bupt-campus", "demo", {}, "7869b4a4b35a9326"),
    ("bupt-campus", "quick", HARD, "a13006b06421898a"),
    ("market1501", "quick", {}, "b404f8b6592f4c97"),
    ("market1501", "quick", HARD, "7bd172c76a1f3d40"),
]


def digest_of(layout, settings):
    digest = hashlib.sha256()
    for split, recordings in layout.plan(settings).items():
        for row in recordings:
            camera = draw_camera(settings.site, row.walk.camid, settings.difficulty)
            names = (split, row.camera, row.files, row.tracklets, row.gray, camera.quality)
            digest.update(repr(names).encode())
            frames = render_walk(settings, row.walk)[list(row.frames)]
            digest.update(np.ascontiguousarray(frames).tobytes())
    return digest.hexdigest()[:16]


@pytest.mark.slow
@pytest.mark.parametrize(("layout", "preset", "changes", "digest"), CASES)
def test_a_small_set_is_as_recorded(layout, preset, changes, digest):
    settings = dataclasses.replace(PRESETS[preset], **(TINY | changes))
    assert digest_of(LAYOUTS[layout], settings) == digest


@pytest.mark.parametrize(("name", "preset", "changes", "folder"), FOLDERS)
def test_an_ablation_finds_the_set_that_it_rendered(name, preset, changes, folder):
    settings = dataclasses.replace(PRESETS[preset], **changes)
    assert Dataset(name, settings).root().name == folder
    assert Dataset(name, dataclasses.replace(settings, site_seed=1)).root().name != folder
