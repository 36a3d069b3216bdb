"""A retrieval toy that is quick to attack: 5 people, clips of two modalities, wavy features."""

import math

import torch

from plugins.attacks import BestTracker, Guides
from plugins.attacks.optimizers import maximize

torch.set_num_threads(1)

FRAMES, HEIGHT, WIDTH, LENGTH = 3, 4, 2, 6
PIXELS = FRAMES * 3 * HEIGHT * WIDTH


def clips(people=5, each=2, seed=0):
    """A batch of whole-numbered clips of gray people, the infrared ones of three equal channels."""
    generator = torch.Generator().manual_seed(seed)
    number = people * each
    modalities = torch.arange(number) % 2
    shape = (FRAMES, 3, HEIGHT, WIDTH)
    looks = torch.randint(40, 216, (people, *shape), generator=generator)[:, :, :1]
    noise = torch.randint(-30, 31, (number, *shape), generator=generator)
    noise[modalities == 1] = noise[modalities == 1][:, :, :1]
    images = (looks.repeat_interleave(each, dim=0) + noise).float()
    return {
        "images": images,
        "targets": torch.arange(people).repeat_interleave(each),
        "camids": torch.arange(number) % 3,
        "modalities": modalities,
        "rows": torch.arange(number) + 10,
        "img_paths": [[f"{clip}_{frame}.png" for frame in range(FRAMES)] for clip in range(number)],
    }


def weights(seed=1):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(LENGTH, PIXELS, generator=generator)


def features_of(batch):
    """(B, LENGTH) sums of waves, in float64, where other rows in the batch are not seen."""
    pixels = batch["images"].double().flatten(1)[:, None, :] / 255
    return (weights() * (3 * pixels + weights(2)).sin()).sum(dim=-1)


def guides_of(batch, metric="cosine"):
    """Every clip is searched in all other people's and the other modality's clips."""
    clean = features_of(batch)
    pids, modalities = batch["targets"], batch["modalities"]
    seen = modalities[:, None] != modalities
    return Guides(pids, clean, clean, pids, seen, metric, items=clean)


def part(batch, guides, chosen):
    """Some rows of a batch and their guides."""
    rows = {
        key: value[chosen] if torch.is_tensor(value) else [value[i] for i in chosen]
        for key, value in batch.items()
    }
    return rows, guides.select(torch.as_tensor(chosen))


def maximize_once(score, allowed, recipe, seed=0, restart=0, success_first=True):
    """The result of one restart, of a score that is called with images."""
    tracker = BestTracker(score, allowed, recipe, seed, success_first)
    tracker.begin(restart)
    maximize(tracker)
    return tracker.result()


ROWS, SIDE = 4, 24


GRAY = torch.full((ROWS, 1, 3, 2, 2), 100.0)


def waves(seed, images=GRAY, sharpness=6.0):
    """A score with many summits: (R,), and a margin that is never reached."""
    generator = torch.Generator().manual_seed(seed)
    pixels = images[0].numel()
    mix = torch.randn(SIDE, pixels, generator=generator).to(images) / math.sqrt(pixels)
    phase = 6 * torch.rand(SIDE, generator=generator).to(images)
    weight = torch.randn(SIDE, generator=generator).to(images)

    def score(points):
        flat = (points.flatten(1) - 100) / 8
        values = ((sharpness * flat @ mix.T + phase).sin() * weight).sum(dim=1)
        return values, values.detach() - torch.inf

    return score


def recorded(score):
    """The score, and the list of all images that it was asked for."""
    seen = []

    def recording(points):
        seen.append(points.detach().clone())
        return score(points)

    return recording, seen
