"""Attacks that treat each query by itself: an objective and the recipe of its paper.

The "-strong" recipes are in ``Attack``. Budgets and steps are in gray levels, 0 to 255.
"""

from dataclasses import replace
from functools import partial
from typing import ClassVar

import torch
from torch import Tensor

from plugins.attacks import objectives
from plugins.attacks.attack import Attack
from plugins.attacks.gray import gray_patches
from plugins.attacks.guides import Guides
from plugins.attacks.recipe import Recipe
from plugins.registry import ATTACK
from plugins.utils.random import item_generator


def iterations(eps: float) -> int:
    """Return the number of steps of length 1: min(eps + 4, 1.25 eps), rounded down.

    Kurakin et al., arXiv 1607.02533.

    >>> [iterations(eps) for eps in (1, 5, 8, 16)]
    [1, 6, 10, 20]
    """
    return max(1, int(min(eps + 4, 1.25 * eps)))


@ATTACK.register()
class SMA(Attack):
    """Self metric attack, which needs no labels. Bouniot, Audigier and Loesch, CVPRW 2020."""

    objective = staticmethod(objectives.self_metric)

    @staticmethod
    def published(eps: float) -> Recipe:
        """Take 15 steps of 1 from a random start, because the gradient at clean images is 0."""
        return Recipe(steps=15, step_size=1.0, random_start=True)


@ATTACK.register()
class FNA(Attack):
    """Furthest negative attack. Bouniot, Audigier and Loesch, CVPRW 2020."""

    objective = staticmethod(objectives.farthest_negative)

    @staticmethod
    def published(eps: float) -> Recipe:
        """Take 15 steps of 1."""
        return Recipe(steps=15, step_size=1.0)


@ATTACK.register()
class MetricFGSM(Attack):
    """Metric attack: one step away from the same person's guides. Bai et al., TPAMI 2020."""

    objective = staticmethod(objectives.metric_guides)

    @staticmethod
    def published(eps: float) -> Recipe:
        """Take one step of eps."""
        return Recipe(steps=1, step_size=eps)


@ATTACK.register()
class MetricIFGSM(Attack):
    """Metric attack: steps away from the same person's guides. Bai et al., TPAMI 2020."""

    objective = staticmethod(objectives.metric_guides)

    @staticmethod
    def published(eps: float) -> Recipe:
        """Take steps of 1."""
        return Recipe(steps=iterations(eps), step_size=1.0)


@ATTACK.register()
class MetricMIFGSM(Attack):
    """Metric attack with momentum. Bai et al., TPAMI 2020."""

    objective = staticmethod(objectives.metric_guides)

    @staticmethod
    def published(eps: float) -> Recipe:
        """Take steps of 1 with momentum 1."""
        return Recipe(steps=iterations(eps), step_size=1.0, momentum=1.0)


@ATTACK.register()
class ODFA(Attack):
    """Opposite direction feature attack, "U-turn". Zheng et al., arXiv 1809.02681."""

    objective = staticmethod(objectives.odfa)

    @staticmethod
    def published(eps: float) -> Recipe:
        """Take steps of 1 from a random start, because the gradient at clean images is 0."""
        steps = max(1, round(min(eps + 4, 1.25 * eps)))
        return Recipe(steps=steps, step_size=1.0, random_start=True)


@ATTACK.register()
class NearestPushPull(Attack):
    """Push from the same person's guides, pull to the nearest of another; this package's own."""

    objective = staticmethod(objectives.nearest_push_pull)

    @staticmethod
    def published(eps: float) -> Recipe:
        """Use FNA's recipe, for comparison; none is published."""
        return FNA.published(eps)


@ATTACK.register()
class RankMargin(Attack):
    """Maximize the margin by which Rank-1 fails; this package's own, and the test of Rank-1."""

    objective = staticmethod(objectives.rank_margin)

    @staticmethod
    def published(eps: float) -> Recipe:
        """Use APGD from one start; none is published."""
        return Recipe("apgd", steps=50, random_start=True)

    @staticmethod
    def strong(eps: float) -> Recipe:
        """Use the common recipe, but skip a row once its Rank-1 fails, which is the only goal."""
        return replace(Attack.strong(eps), skip_successful=True)


@ATTACK.register()
class SoftAP(Attack):
    """Minimize a smooth average precision; this package's own, and the test of mAP."""

    objective = staticmethod(objectives.soft_ap)

    @staticmethod
    def published(eps: float) -> Recipe:
        """Use RankMargin's recipe; none is published."""
        return RankMargin.published(eps)


@ATTACK.register()
class LTA(Attack):
    """Local transformation attack: push from the image with a gray patch, drawn for each pass.

    Gong, Huang and Chen, CVPRW 2022.
    """

    objective = staticmethod(objectives.local_transform)
    transform = staticmethod(gray_patches)

    @staticmethod
    def published(eps: float) -> Recipe:
        """Take 15 steps of 1 with momentum 1; a random start, for images that are gray already."""
        return Recipe(steps=15, step_size=1.0, momentum=1.0, random_start=True)


@ATTACK.register()
class TMA(Attack):
    """Targeted mismatch: pull to a random item of another person. Tolias et al., ICCV 2019."""

    success_first = False
    promote: ClassVar[bool] = True
    objective = staticmethod(objectives.targeted)

    @staticmethod
    def published(eps: float) -> Recipe:
        """Use SMA's recipe without its random start; the paper has a penalty and no budget."""
        return Recipe(steps=15, step_size=1.0)

    def set_target(self, guides: Guides, rows: Tensor) -> Guides:
        """Draw one of the row's negatives; a row without any keeps its own clean feature."""
        chosen = draw_items(guides.negatives, rows, self.seed, number=1)
        exists, target = chosen.any(dim=1), guides.gallery[chosen.int().argmax(dim=1)]
        reference = torch.where(exists[:, None], target, guides.clean)
        return replace(guides, reference=reference, chosen=chosen)


@ATTACK.register()
class QAPlus(Attack):
    """QA+: rank a random gallery item of another person first. Zhou et al., ECCV 2020.

    ``success_at_k`` of the items that ``set_target`` chose measures it, instead of mAP.

    Attributes:
        promote: whether the item moves to the front, or else to the end.
    """

    success_first = False
    promote: ClassVar[bool] = True
    objective = staticmethod(partial(objectives.query_attack, promote=True))

    @staticmethod
    def published(eps: float) -> Recipe:
        """Take 32 steps of 3."""
        return Recipe(steps=32, step_size=3.0)

    def set_target(self, guides: Guides, rows: Tensor) -> Guides:
        """Choose one of the row's negatives."""
        return replace(guides, chosen=draw_items(guides.negatives, rows, self.seed, number=1))


@ATTACK.register()
class QAMinus(QAPlus):
    """QA-: rank a random gallery item of the same person last. Zhou et al., ECCV 2020."""

    promote = False
    objective = staticmethod(partial(objectives.query_attack, promote=False))

    def set_target(self, guides: Guides, rows: Tensor) -> Guides:
        """Choose one of the row's positives."""
        return replace(guides, chosen=draw_items(guides.positives, rows, self.seed, number=1))


@ATTACK.register()
class Square(Attack):
    """Square attack on Rank-1, which needs no gradients. Andriushchenko et al., ECCV 2020.

    Its margin loss on ``identity_logits`` is the rank margin: the logit of the nearest other person
    minus that of the query's own person.
    """

    objective = staticmethod(objectives.rank_margin)

    @staticmethod
    def published(eps: float) -> Recipe:
        """Make 5000 queries, as AutoAttack."""
        return Recipe("square", steps=5000, early_stop=True, skip_successful=True)

    @staticmethod
    def strong(eps: float) -> Recipe:
        """Use the published recipe, because the attack checks those that use gradients."""
        return Square.published(eps)


def draw_items(among: Tensor, rows: Tensor, seed: int, number: int) -> Tensor:
    """Draw ``number`` items for each row, or all if it has fewer, whatever the other rows are.

    Args:
        among: (R, G) bool, the items to draw from.
        rows: (R,) names of the rows in the data set.
        seed: seed of the draws.
        number: number of items.

    Returns:
        (R, G) bool.
    """
    chosen = torch.zeros_like(among)
    for index, row in enumerate(rows.tolist()):
        items = among[index].nonzero().flatten()
        order = torch.randperm(len(items), generator=item_generator(seed, row))
        chosen[index, items[order[:number].to(items.device)]] = True
    return chosen
