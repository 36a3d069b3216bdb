"""Ten steps of an attack, beside a bare loop with the same distances that keeps the best images.

Legend: R rows, G gallery items, D feature length.
"""

from functools import partial

import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor, nn

from plugins.attacks import Guides
from plugins.attacks.features import ImageFeatures
from plugins.attacks.per_query import FNA, RankMargin
from plugins.attacks.recipe import Recipe
from plugins.attacks.threat_model import ThreatModel
from plugins.benchmarks.comparison import Comparison, Work, one_thread_clock
from plugins.benchmarks.settings import Settings

ATTACKS = {"RankMargin": RankMargin, "FNA": FNA}
ROWS, EPS, STEP = 8, 8.0, 1.0  # gray levels
PEOPLE, CAMERAS = 750, 6
DIFFERENT = 0.05  # share of a gain by which the rounding of gradients may change it


def attack(settings: Settings) -> list[Comparison]:
    """List the comparisons of attacks."""
    gallery, steps = (50, 2) if settings.tiny else (15_913, 3 if settings.quick else 10)
    return [
        Comparison(
            f"{steps}-step PGD, {name}, {ROWS} images, gallery of {gallery}",
            partial(attack_work, name, gallery, steps, settings.tiny),
            target=0.95,
            note="loop with the same distances that keeps the best images",
            rounds=settings.rounds,
            clock=one_thread_clock(),
        )
        for name in ATTACKS
    ]


def attack_work(name: str, gallery: int, steps: int, tiny: bool, seed: int = 0) -> Work:
    """Prepare to attack drawn images of drawn people."""
    generator = torch.Generator().manual_seed(seed)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = network(tiny, seed).to(device).eval().requires_grad_(False)
    size = (32, 16) if tiny else (256, 128)
    images = 255 * torch.rand(ROWS, 3, *size, generator=generator).to(device)
    with torch.no_grad():
        clean = model(images)
    noise = torch.randn(gallery, clean.shape[1], generator=generator).to(device)
    others = F.normalize(clean, dim=1).mean(dim=0) + 0.05 * noise
    labels = [torch.randint(PEOPLE, (number,), generator=generator) for number in (ROWS, gallery)]
    labels[1][:ROWS] = labels[0]  # each row has a positive
    labels += [torch.zeros(ROWS, dtype=torch.int64), torch.ones(gallery, dtype=torch.int64)]
    guides = Guides.from_features(
        clean, others, *(each.to(device) for each in labels), metric="cosine"
    )
    recipe = Recipe(steps=steps, step_size=STEP)
    attacker = ATTACKS[name](ThreatModel(eps=EPS), recipe)
    batch = {"images": images, "rows": torch.arange(ROWS)}

    def ours() -> Tensor:
        return attacker.run(ImageFeatures(model), batch, guides).batch["images"]

    def gain(attacked: Tensor) -> float:
        value = objective(guides, F.normalize(guides.gallery, dim=1), name)
        with torch.no_grad():
            before, after = (value(F.normalize(model(x), dim=1)) for x in (images, attacked))
        return float((after - before).mean())

    def check(ours: Tensor, theirs: Tensor) -> None:
        check_gains(gain(ours), gain(theirs))

    return Work(ours, partial(loop, model, images, guides, name, steps), check)


def network(tiny: bool, seed: int) -> nn.Module:
    """Build a network from images to features: ResNet-50, or two layers for a test."""
    torch.manual_seed(seed)
    if tiny:
        return nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 16, 16))
    found = torchvision.models.resnet50()
    found.fc = nn.Identity()
    return nn.Sequential(Scale(), found)


class Scale(nn.Module):
    """Bring images from [0, 255] to the range of ImageNet's networks."""

    def forward(self, images: Tensor) -> Tensor:
        """Return (images - 128) / 64."""
        return (images - 128) / 64


def loop(model: nn.Module, images: Tensor, guides: Guides, name: str, steps: int) -> Tensor:
    """Attack by a bare loop; what does not change is computed once."""
    gallery = F.normalize(guides.gallery, dim=1)
    value = objective(guides, gallery, name)
    best, best_images = torch.full((len(images),), -torch.inf, device=images.device), images
    attacked = images.clone()
    for step in range(steps + 1):
        attacked.requires_grad_(step < steps)
        values = value(F.normalize(model(attacked), dim=1))
        better = values.detach() > best
        best = torch.where(better, values.detach(), best)
        best_images = torch.where(better[:, None, None, None], attacked.detach(), best_images)
        if step < steps:
            (gradient,) = torch.autograd.grad(values.sum(), attacked)
            moved = attacked.detach() + STEP * gradient.sign()
            moved = torch.minimum(torch.maximum(moved, images - EPS), images + EPS)
            attacked = moved.clamp_(0, 255)
    return best_images


def objective(guides: Guides, gallery: Tensor, name: str):  # type: ignore[no-untyped-def]
    """Return the objective of an attack as a function of features of length 1."""
    positives, negatives = guides.positives, guides.negatives
    people = guides.gallery_pids.unique()
    centroids = torch.stack(
        [guides.gallery[guides.gallery_pids == person].mean(dim=0) for person in people]
    )
    centroids = F.normalize(centroids, dim=1)
    near = 2 - 2 * F.normalize(guides.clean, dim=1) @ centroids.T
    farthest = centroids[near.masked_fill(guides.pids[:, None] == people, -torch.inf).argmax(dim=1)]

    def rank_margin(features: Tensor) -> Tensor:
        distances = 1 - features @ gallery.T
        nearest = distances.masked_fill(~positives, torch.inf).amin(dim=1)
        return nearest - distances.masked_fill(~negatives, torch.inf).amin(dim=1)

    def farthest_negative(features: Tensor) -> Tensor:
        squares = 2 - 2 * features @ gallery.T
        pull = (features - farthest).square().sum(dim=1)
        return (squares * positives).sum(dim=1) - pull

    return rank_margin if name == "RankMargin" else farthest_negative


def check_gains(ours: float, theirs: float) -> None:
    """Compare how far two attacks raised the objective; steps follow signs, which may round."""
    assert theirs > 0, f"the loop raised the objective by {theirs:.3g}"
    assert abs(ours - theirs) <= DIFFERENT * theirs, f"gains of {ours:.4g} and {theirs:.4g}"
