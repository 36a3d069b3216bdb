"""A retrieval toy that is quick to attack: 5 people, clips of two modalities, wavy features."""

import torch

from plugins.attacks import Guides

torch.set_num_threads(1)

FRAMES, HEIGHT, WIDTH, LENGTH = 3, 4, 2, 6
PIXELS = FRAMES * 3 * HEIGHT * WIDTH


def clips(people=5, each=2, seed=0):
    """A batch of whole-numbered clips of grey people, the infrared ones of three equal channels."""
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
