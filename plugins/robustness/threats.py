"""Attacks that only a report makes: noise, a patch, another light, fewer others, HopSkipJump.

Each aims at the rank margin, as the report's measure does.

Legend: B clips of T frames of 3 x H x W, R rows they belong to, G gallery items.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import replace

import torch
from torch import Tensor

from plugins.attacks import Guides, Recipe, Region, ThreatModel, hop_skip_jump, maximise
from plugins.attacks.attack import Outcome
from plugins.attacks.optimizers import Climb, Explorer
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


class PatchRegion(Region):
    """Any pixels, but only inside a square at the middle of each frame."""

    def tie(self, clips: Tensor) -> Tensor:
        """As ``Region.tie``, and 0 outside the square."""
        return super().tie(clips) * square_mask(*clips.shape[-2:]).to(clips)


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

    def _climb(
        self, features_of: Callable[[dict], Tensor], batch: dict, guides: Guides, restart: int
    ) -> Climb:
        score = self.score(features_of, batch, guides, restart)
        return maximise(score, PatchRegion(self.threat, batch), self.recipe, self.seed, restart)


class Blind(RankMargin):
    """The worst of images that are drawn, not sought."""

    def draws(self, region: Region, batch: dict) -> Iterator[Tensor]:
        """Images (B, T, 3, H, W), one draw after the other."""
        raise NotImplementedError

    def _climb(
        self, features_of: Callable[[dict], Tensor], batch: dict, guides: Guides, restart: int
    ) -> Climb:
        region = Region(self.threat, batch)
        score = self.score(features_of, batch, guides, restart)
        explorer = Explorer(score, region, self.recipe.eot)
        for images in self.draws(region, batch):
            explorer.look(images)
        return explorer.climb()


class Noise(Blind):
    """Noise within the threat model."""

    def __init__(self, threat: ThreatModel, draws: int, seed: int = 0, eot: int = 1) -> None:
        """Draw so often for each row."""
        super().__init__(threat, Recipe("noise", steps=draws, eot=eot), seed)

    def draws(self, region: Region, batch: dict) -> Iterator[Tensor]:
        """Each in frames of its own, where only some may be changed."""
        for draw in range(self.recipe.steps):
            noise = region.random(self.seed, FIRST_DRAW + draw)
            settled = region if region.settled else region.settle(noise - region.clean)
            yield settled.project(noise)


class Light(Blind):
    """Another light: each channel times its own factor (von Kries).

    Infrared images, whose channels are one, have one factor. Nothing is drawn first, the images as
    they are.
    """

    def __init__(self, draws: int, seed: int = 0, eot: int = 1) -> None:
        """Draw so many lights for each row."""
        super().__init__(ThreatModel("linf", 255.0), Recipe("light", steps=draws, eot=eot), seed)

    def draws(self, region: Region, batch: dict) -> Iterator[Tensor]:
        """The images as they are, then in each light."""
        yield region.clean
        infrared = batch.get("modalities", torch.zeros(len(region.clean))) == 1
        for draw in range(self.recipe.steps):
            lights = torch.stack(
                [
                    torch.rand(3, generator=item_generator(self.seed, row, draw))
                    for row in region.rows.tolist()
                ]
            )
            factors = LIGHT ** (2 * lights.to(region.clean) - 1)[region.groups]  # (B, 3)
            factors = torch.where(infrared[:, None].to(factors.device), factors[:, :1], factors)
            yield (region.clean * factors[:, None, :, None, None]).clamp(0, 255)


class HopSkipJump(RankMargin):
    """``hop_skip_jump``, called as an attack."""

    def __init__(self, threat: ThreatModel, steps: int, seed: int = 0) -> None:
        """Search so many steps."""
        super().__init__(threat, Recipe("hops", steps=steps), seed)

    def run(self, features_of: Callable[[dict], Tensor], batch: dict, guides: Guides) -> Outcome:
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

    def aim(self, guides: Guides, rows: Tensor) -> Guides:
        """The guides without those who are left out."""
        generator = torch.Generator().manual_seed(self.seed)
        kept = torch.rand(len(guides.gallery), generator=generator) < self.share
        return replace(
            guides, valid=guides.positives | (guides.valid & kept.to(guides.valid.device))
        )
