"""A network that trains in milliseconds, in the shape of a meta-architecture, and its batches."""

import torch
import torch.nn.functional as F
from torch import nn

from plugins.config import setup_cfg
from plugins.modeling.losses.functional import batch_hard, pairwise_distances

torch.set_num_threads(1)

PEOPLE, EACH, HEIGHT, WIDTH = 4, 2, 16, 8


class Heads(nn.Module):
    """BNNeck and classifier: as EmbeddingHead, triplets before the neck and the search after it."""

    def __init__(self, channels):
        super().__init__()
        self.bottleneck = nn.BatchNorm1d(channels)
        self.classifier = nn.Linear(channels, PEOPLE, bias=False)

    def forward(self, features):
        neck = self.bottleneck(features)
        if not self.training:
            return neck
        return {"features": features, "cls_outputs": self.classifier(neck)}


class Tiny(nn.Module):
    def __init__(self, channels=8):
        super().__init__()
        self.stem = nn.Conv2d(3, channels, 3, stride=2, bias=False)
        self.norm = nn.BatchNorm2d(channels)
        self.trunk = nn.Conv2d(channels, channels, 3, bias=False)
        self.heads = Heads(channels)

    def forward(self, batch):
        maps = F.silu(self.norm(self.stem((batch["images"] - 120) / 60)))
        outputs = self.heads(self.trunk(maps).mean(dim=(-2, -1)))
        if not self.training:
            return outputs
        same = batch["targets"][:, None] == batch["targets"]
        itself = torch.eye(len(same), dtype=torch.bool)
        distances = pairwise_distances(outputs["features"], outputs["features"])
        return {
            "loss_cls": F.cross_entropy(outputs["cls_outputs"], batch["targets"]),
            "loss_triplet": batch_hard(distances, same & ~itself, ~same, margin=0.3),
        }


class Loader:
    """Batches for ever, and what a step expects beside them."""

    def __init__(self, batches):
        self.batches, self.batch_sampler = batches, self
        self.batches_per_epoch = len(batches)
        self.position = 0

    def __iter__(self):
        while True:
            yield from self.batches


def tiny_batch(seed=0):
    generator = torch.Generator().manual_seed(seed)
    shape = (PEOPLE * EACH, 3, HEIGHT, WIDTH)
    images = torch.randint(0, 256, shape, generator=generator).float()
    return {
        "images": images,
        "targets": torch.arange(PEOPLE).repeat_interleave(EACH),
        "camids": torch.arange(PEOPLE * EACH) % EACH,
        "modalities": torch.zeros(PEOPLE * EACH, dtype=torch.long),
        "rows": torch.arange(PEOPLE * EACH) + 5,
        "img_paths": [f"{row}.jpg" for row in range(PEOPLE * EACH)],
    }


def tiny(seed=0):
    """A network in training mode that has seen some batches."""
    torch.manual_seed(seed)
    model = Tiny().train()
    with torch.no_grad():
        for number in range(20):
            model(tiny_batch(number))
    return model


def tiny_cfg(*opts):
    """Three large steps of the inner attack; ``opts`` override it."""
    short = ["MODEL.DEVICE", "cpu", "DEFENSE.STEPS", 3, "DEFENSE.STEP_SIZE", 4.0, "SEED", 7, *opts]
    return setup_cfg("", [str(opt) for opt in short])
