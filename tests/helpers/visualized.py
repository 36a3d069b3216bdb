"""Small evaluated sets for the tests of pictures: whole-numbered features, so that many tie."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image

from plugins.data.datasets.tracklet import MODALITIES, Tracklet
from plugins.inference import Features
from plugins.protocol import Direction, Trial
from plugins.visualization import EvaluatedSet

FRAMES = 4


def toy_set(
    folder: Path | None = None,
    seed: int = 0,
    items: int = 24,
    people: int = 4,
    cameras: int = 3,
    metric: str = "cosine",
    junk: str = "camera",
) -> EvaluatedSet:
    """Items of both modalities; with a folder each has frames there, else their files are absent.

    All items search each other in the direction Q2G; I2V and V2I are as ever.
    """
    draw = np.random.default_rng(seed)
    features = draw.integers(-1, 3, (items, 3)).astype(np.float32)
    features[np.abs(features).sum(axis=1) == 0] = 1
    persons, views = draw.integers(0, people, items), draw.integers(1, cameras + 1, items)
    modalities = np.arange(items) % 2
    tracklets = []
    for row in range(items):
        paths = tuple(f"{folder}/{row:02d}/{frame}.png" for frame in range(FRAMES))
        person, camera = f"p{persons[row]}$", f"c{views[row]}"
        tracklets.append(Tracklet(paths, person, camera, int(modalities[row])))
        for number, path in enumerate(paths if folder else ()):
            Path(path).parent.mkdir(exist_ok=True)
            Image.new("RGB", (16, 32), (10 * row, 60 * number, 90)).save(path)
    everything = np.arange(items)
    infrared, visible = (np.flatnonzero(modalities == code) for code in (1, 0))
    names = np.array([f"{row:02d}/0.png" for row in range(items)])
    return EvaluatedSet(
        "Toys",
        tracklets,
        Features(
            features,
            names,
            np.array([each.img_paths[0] for each in tracklets]),
            np.array([str(each.pid) for each in tracklets]),
            np.array([str(each.camid) for each in tracklets]),
            np.array([MODALITIES[code] for code in modalities]),
            {"network": {"metric": metric}},
        ),
        torch.from_numpy(persons.astype(np.int64)),
        torch.from_numpy(views.astype(np.int64)),
        {
            "I2V": Direction((Trial(infrared, visible),), junk=junk),
            "V2I": Direction((Trial(visible, infrared),), junk=junk),
            "Q2G": Direction((Trial(everything, everything),), junk=junk),
        },
    )
