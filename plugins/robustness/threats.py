"""Attacks that only a report makes: noise, a patch, another light, fewer others, HopSkipJump.

Each aims at the rank margin, as the report's measure does.

Legend: B clips of T frames of 3 x H x W, R rows they belong to, G gallery items.
"""

import math
from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor

from plugins.attacks import (
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
# A channel of the light grows or shrinks by at most this factor.
LIGHT = 4 / 3
# Numbers of the draws of noise: far from those of restarts, which are drawn alike.
FIRST_DRAW = 1000


def equal_volume_radius(eps: float, dimensions: int) -> float:
    """Radius of the L2 ball whose volume is that of the L-inf ball, the cube of half side eps.

    About 0.48 eps sqrt(dimensions). Neither ball contains the other.

    >>> round(equal_volume_radius(1.0, 1), 6)
    1.0
    """
    log_unit_ball = dimensions / 2 * math.log(math.pi) - math.lgamma(dimensions / 2 + 1)
    return 2 * eps * math.exp(-log_unit_ball / dimensions)


class PatchSet(PerturbationSet):
    """Any pixels, but only inside a square at the middle of each frame."""

    def average_tied(self, clips: Tensor) -> Tensor:
        """As ``PerturbationSet.average_tied``, and 0 outside the square."""
        return super().average_tied(clips) * square_mask(*clips.shape[-2:]).to(clips)


def square_mask(height: int, width: int) -> Tensor:
    """(H, W) of 0 and 1: a square of PATCH_SHARE of the image, at its middle."""
    side = min(max(round(math.sqrt(PATCH_SHARE * height * width)), 1), height, width)
    mask = torch.zeros(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    mask[top : top + side, left : left + side] = 1
    return mask


class Patch(RankMargin):
    """A printed square: Brown et al., "Adversarial Patch", 2017; here each image has its own."""

    def __init__(self, recipe: Recipe, seed: int = 0, infrared: str = "free") -> None:
        """Climb by ``recipe``."""
        super().__init__(ThreatModel("linf", 255.0, infrared=infrared), recipe, seed)

    def perturbation_set(self, batch: dict) -> PatchSet:
        """Return the images that differ inside the square only."""
        return PatchSet(self.threat, batch)


class Blind(RankMargin):
    """The worst of images that are drawn, not sought."""

    def draws(self, allowed: PerturbationSet) -> Iterator[Tensor]:
        """Images (B, T, 3, H, W), one draw after the other."""
        raise NotImplementedError

    def search(self, tracker: BestTracker) -> None:
        """Evaluate all draws."""
        for images in self.draws(tracker.allowed):
            tracker.evaluate(images)


class Noise(Blind):
    """Noise within the threat model."""

    def __init__(self, threat: ThreatModel, draws: int, seed: int = 0, eot: int = 1) -> None:
        """Draw so often for each row."""
        super().__init__(threat, Recipe("noise", steps=draws, eot=eot), seed)

    def draws(self, allowed: PerturbationSet) -> Iterator[Tensor]:
        """Each in frames of its own, where only some may be changed."""
        for draw in range(self.recipe.steps):
            noise = allowed.random_point(self.seed, FIRST_DRAW + draw)
            if allowed.frames_selected:
                yield allowed.project(noise)
            else:
                yield allowed.select_frames(noise - allowed.clean).project(noise)


class Light(Blind):
    """Another light: each channel times its own factor (von Kries).

    Infrared images, whose channels are one, have one factor. Nothing is drawn first, the images as
    they are.
    """

    def __init__(self, draws: int, seed: int = 0, eot: int = 1) -> None:
        """Draw so many lights for each row."""
        super().__init__(ThreatModel("linf", 255.0), Recipe("light", steps=draws, eot=eot), seed)

    def draws(self, allowed: PerturbationSet) -> Iterator[Tensor]:
        """The images as they are, then in each light."""
        clean = allowed.clean
        yield clean
        infrared = allowed.batch.get("modalities", torch.zeros(len(clean))) == 1
        for draw in range(self.recipe.steps):
            lights = torch.stack(
                [
                    torch.rand(3, generator=item_generator(self.seed, row, draw))
                    for row in allowed.rows.tolist()
                ]
            )
            factors = LIGHT ** (2 * lights.to(clean) - 1)[allowed.groups]  # (B, 3)
            factors = torch.where(infrared[:, None].to(factors.device), factors[:, :1], factors)
            yield (clean * factors[:, None, :, None, None]).clamp(0, 255)


class HopSkipJump(RankMargin):
    """``hop_skip_jump``, called as an attack."""

    def __init__(self, threat: ThreatModel, steps: int, seed: int = 0) -> None:
        """Search so many steps."""
        super().__init__(threat, Recipe("hops", steps=steps), seed)

    def run(self, features_of: FeaturesOf, batch: dict, guides: Guides) -> AttackResult:
        """See ``hop_skip_jump``; several persons should be in the batch."""
        steps, seed = self.recipe.steps, self.seed
        return hop_skip_jump(features_of, batch, guides, self.threat, steps=steps, seed=seed)


class SmallGallery(RankMargin):
    """The measure in a smaller gallery: of each row's positives all, of the others a share.

    Its margin is that of the smaller gallery.
    """

    def __init__(self, attack: RankMargin, share: float) -> None:
        """As ``attack``, with a share of the others; of two shares the larger has all of both."""
        super().__init__(attack.threat, attack.recipe, attack.seed)
        self.share = share

    def set_target(self, guides: Guides, rows: Tensor) -> Guides:
        """The guides without those who are left out."""
        generator = torch.Generator().manual_seed(self.seed)
        kept = torch.rand(len(guides.gallery), generator=generator) < self.share
        return replace(
            guides, valid=guides.positives | (guides.valid & kept.to(guides.valid.device))
        )
