"""What the generator is for: images of the person and camera asked for, told by their colors."""

import dataclasses

import pytest
import torch

from plugins.balancing.generator import EDMGenerator
from plugins.balancing.training import CHECKPOINT, GeneratorTraining
from tests.helpers.balancing_toys import CAMERAS, HEIGHT, PEOPLE, SETTINGS, write_photographs

UNSEEN = ("bob", "2")
STEPS = 200


def recognise(images):
    """(person, camera) of each image: the nearest colors of its two halves."""

    def nearest_name(half, colors):
        names, values = list(colors), torch.tensor(list(colors.values())).float()
        return [names[place] for place in torch.cdist(half, values).argmin(dim=1).tolist()]

    upper, lower = (part.float().mean(dim=(2, 3)) for part in images.split(HEIGHT // 2, dim=2))
    return list(zip(nearest_name(lower, PEOPLE), nearest_name(upper, CAMERAS), strict=True))


@pytest.fixture(scope="module")
def generator(tmp_path_factory):
    folder = tmp_path_factory.mktemp("learning")
    seen = [(p, c) for p in PEOPLE for c in CAMERAS if (p, c) != UNSEEN]
    photographs = write_photographs(folder / "photographs", seen, number=4)
    settings = dataclasses.replace(SETTINGS, batch=16, base_lr=0.004, ema=0.95)
    GeneratorTraining(photographs, settings, "cpu").run(folder, STEPS, period=STEPS)
    return EDMGenerator(folder / CHECKPOINT, "cpu", seed=0, scheduler="dpm")


@pytest.mark.slow
def test_nine_of_ten_images_of_pairs_seen_in_training_are_right(generator):
    right = []
    for pair in [(p, c) for p in PEOPLE for c in CAMERAS if (p, c) != UNSEEN]:
        right += [found == pair for found in recognise(generator.generate(*pair, 8))]
    assert sum(right) >= 0.9 * len(right)
