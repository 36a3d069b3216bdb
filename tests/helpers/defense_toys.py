"""A network that trains in milliseconds, in the shape of a meta-architecture, and its batches."""

import torch
import torch.nn.functional as F
from fastreid.utils.events import EventStorage
from torch import nn

from plugins.config import setup_cfg
from plugins.defense.adversarial_step import AdversarialStep
from plugins.defense.dddefense_step import DDDefenseStep
from plugins.defense.fnes import (
    Softening,
)
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


def step_of(*opts, kind=AdversarialStep, model=None, cfg=None, batches=None):
    """A step with plain SGD on the tiny network, or on another one."""
    model = model or tiny()
    cfg = cfg or tiny_cfg(*opts)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    loader = Loader(batches or [tiny_batch(number) for number in range(3)])
    return kind(cfg, model, loader, optimizer)


def run(step, iterations=1):
    """Run a step and return what it logged last."""
    with EventStorage() as storage:
        for _ in range(iterations):
            step.run_step()
            step.iter += 1
    return {name: value for name, (value, _) in storage.latest().items()}


def pair_of(clean, attacked):
    """A pair of batches as a step has it."""
    return {"clean": clean, "attacked": attacked}


def slow_image(x: float, attacked: float, w: float, gamma: float) -> float:
    x_temp = x + gamma * (attacked - x)
    return min(max(w * x + (1 - w) * x_temp, 0.0), 255.0)


def slow_label(settings: Softening, y: int, negative: int, w: float, classes: int) -> list[float]:
    def phi(kept: float) -> list[float]:
        return [kept if c == y else (1 - kept) / (classes - 1) for c in range(classes)]

    tau = phi(settings.attacked_mass)
    tau[y] -= settings.moved_mass
    tau[negative] += settings.moved_mass
    return [w * a + (1 - w) * b for a, b in zip(phi(settings.clean_mass), tau, strict=True)]


SHAPE = ("MODEL.BACKBONE.FEAT_DIM", 8, "MODEL.HEADS.NUM_CLASSES", PEOPLE)


GAME = ("DEFENSE.DISCRIMINATOR.ENABLED", True, "DEFENSE.DISCRIMINATOR.HIDDEN", 6)


META = ("DEFENSE.META.ENABLED", True)


def dd_step(*opts, **more):
    return step_of(*SHAPE, *opts, kind=DDDefenseStep, **more)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def unit(features):
    return torch.nn.functional.normalize(features, dim=1)


def features_in_training(model, batch, metric):
    maps = model.norm(model.stem((batch["images"] - 120) / 60))
    pooled = model.trunk(torch.nn.functional.silu(maps)).mean(dim=(-2, -1))
    features = model.heads.bottleneck(pooled)
    return unit(features) if metric == "cosine" else features
