"""Attacks that only a report makes: noise, illumination, a patch, a smaller gallery, HopSkipJump.

Each maximizes the rank margin, as the report's reference attack does.

Legend: B clips of T frames of 3 x H x W, R rows they belong to, G gallery items.
"""

import math
from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor

from plugins.attacks import (
    Attack,
    AttackResult,
    BestTracker,
    Guides,
    PerturbationSet,
    Recipe,
    ThreatModel,
    hop_skip_jump,
)
from plugins.attacks.features import FeaturesOf
from plugins.attacks.per_query import RankMargin
from plugins.utils.random import item_generator

# Share of the image that the patch covers.
PATCH_SHARE = 0.05
# Largest factor by which a channel is multiplied or divided.
MAX_FACTOR = 4 / 3
# Number of the first random sample: far from the numbers of restarts, which are drawn alike.
FIRST_DRAW = 1000


def equal_volume_radius(eps: float, dimensions: int) -> float:
    """Compute the radius of the L2 ball with the volume of the L-inf ball of radius eps.

    About 0.48 eps sqrt(dimensions). Neither ball contains the other.

    >>> round(equal_volume_radius(1.0, 1), 6)
    1.0
    """
    log_unit_ball = dimensions / 2 * math.log(math.pi) - math.lgamma(dimensions / 2 + 1)
    return 2 * eps * math.exp(-log_unit_ball / dimensions)


class PatchSet(PerturbationSet):
    """Images that differ from the clean ones only inside a square at the middle of each frame."""

    def average_tied(self, clips: Tensor) -> Tensor:
        """Average as ``PerturbationSet.average_tied`` does; return 0 outside the square."""
        return super().average_tied(clips) * square_mask(*clips.shape[-2:]).to(clips)


def square_mask(height: int, width: int) -> Tensor:
    """Return an (H, W) mask, 1 in a square at the middle that covers PATCH_SHARE of the image."""
    side = min(max(round(math.sqrt(PATCH_SHARE * height * width)), 1), height, width)
    mask = torch.zeros(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    mask[top : top + side, left : left + side] = 1
    return mask


class Patch(RankMargin):
    """A printed square: Brown et al., "Adversarial Patch", 2017; each image has its own here."""

    def __init__(self, recipe: Recipe, seed: int = 0, infrared: str = "free") -> None:
        """Attack by ``recipe``, with any pixels inside the square."""
        super().__init__(ThreatModel("linf", 255.0, infrared=infrared), recipe, seed)

    def perturbation_set(self, batch: dict) -> PatchSet:
        """Return the images that differ inside the square only."""
        return PatchSet(self.threat, batch)


class Probe(RankMargin):
    """Evaluates images that do not depend on the gradient, and keeps the worst of them."""

    def candidates(self, allowed: PerturbationSet) -> Iterator[Tensor]:
        """Yield images (B, T, 3, H, W) to evaluate; a subclass overrides this."""
        raise NotImplementedError

    def search(self, tracker: BestTracker) -> None:
        """Evaluate all candidates."""
        for images in self.candidates(tracker.allowed):
            tracker.evaluate(images)


class RandomPerturbation(Probe):
    """Draws noise within the threat model."""

    def __init__(self, threat: ThreatModel, samples: int, seed: int = 0, eot: int = 1) -> None:
        """Draw ``samples`` times for each row."""
        super().__init__(threat, Recipe("noise", steps=samples, eot=eot), seed)

    def candidates(self, allowed: PerturbationSet) -> Iterator[Tensor]:
        """Yield noisy images; each sample chooses its own frames where only some may change."""
        for sample in range(self.recipe.steps):
            noise = allowed.random_point(self.seed, FIRST_DRAW + sample)
            if allowed.frames_selected:
                yield allowed.project(noise)
            else:
                yield allowed.select_frames(noise - allowed.clean).project(noise)


class IlluminationShift(Probe):
    """Multiplies each channel by its own random factor (von Kries).

    The three channels of an infrared image are equal and share one factor. The first candidate is
    the clean image.
    """

    def __init__(self, samples: int, seed: int = 0, eot: int = 1) -> None:
        """Draw ``samples`` illuminations for each row."""
        super().__init__(ThreatModel("linf", 255.0), Recipe("light", steps=samples, eot=eot), seed)

    def candidates(self, allowed: PerturbationSet) -> Iterator[Tensor]:
        """Yield the clean images, then the images under each illumination."""
        clean = allowed.clean
        yield clean
        infrared = allowed.batch.get("modalities", torch.zeros(len(clean))) == 1
        for sample in range(self.recipe.steps):
            exponents = torch.stack(
                [
                    torch.rand(3, generator=item_generator(self.seed, row, sample))
                    for row in allowed.rows.tolist()
                ]
            )
            factors = MAX_FACTOR ** (2 * exponents.to(clean) - 1)[allowed.groups]  # (B, 3)
            factors = torch.where(infrared[:, None].to(factors.device), factors[:, :1], factors)
            yield (clean * factors[:, None, :, None, None]).clamp(0, 255)


class HopSkipJump(RankMargin):
    """Calls ``hop_skip_jump`` as an attack."""

    def __init__(self, threat: ThreatModel, steps: int, seed: int = 0) -> None:
        """Search for ``steps`` steps."""
        super().__init__(threat, Recipe("hops", steps=steps), seed)

    def run(self, features_of: FeaturesOf, batch: dict, guides: Guides) -> AttackResult:
        """Attack as ``hop_skip_jump`` does; the batch should hold several persons."""
        steps, seed = self.recipe.steps, self.seed
        return hop_skip_jump(features_of, batch, guides, self.threat, steps=steps, seed=seed)


class SmallGallery(RankMargin):
    """Attacks in a smaller gallery, which keeps all positives of a row and a share of the others.

    The rank margin is that of the smaller gallery.
    """

    def __init__(self, attack: Attack, share: float) -> None:
        """Attack as ``attack``; of two shares the larger one keeps all items of the smaller."""
        super().__init__(attack.threat, attack.recipe, attack.seed)
        self.share = share

    def set_target(self, guides: Guides, rows: Tensor) -> Guides:
        """Return the guides without the items that are left out."""
        generator = torch.Generator().manual_seed(self.seed)
        kept = torch.rand(len(guides.gallery), generator=generator) < self.share
        return replace(
            guides, valid=guides.positives | (guides.valid & kept.to(guides.valid.device))
        )
