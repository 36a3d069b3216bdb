"""The attacks by name: an objective and the recipe of its paper; ``-strong`` is in the base.

Budgets and steps in 0-255 units.
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
from plugins.attacks.optimizers import Recipe
from plugins.registry import ATTACK
from plugins.utils.random import item_generator


def iterations(eps: float) -> int:
    """Steps of length 1 in Kurakin et al., arXiv 1607.02533: min(eps + 4, 1.25 eps), rounded down.

    >>> [iterations(eps) for eps in (1, 5, 8, 16)]
    [1, 6, 10, 20]
    """
    return max(1, int(min(eps + 4, 1.25 * eps)))


@ATTACK.register()
class SMA(Attack):
    """Self metric attack, without labels. Bouniot, Audigier and Loesch, CVPRW 2020."""

    objective = staticmethod(objectives.self_metric)

    @staticmethod
    def published(eps: float) -> Recipe:
        """15 steps of 1 from a random start, because the gradient at the clean images is 0."""
        return Recipe(steps=15, step_size=1.0, random_start=True)


@ATTACK.register()
class FNA(Attack):
    """Furthest negative attack. Bouniot, Audigier and Loesch, CVPRW 2020."""

    objective = staticmethod(objectives.farthest_negative)

    @staticmethod
    def published(eps: float) -> Recipe:
        """15 steps of 1."""
        return Recipe(steps=15, step_size=1.0)


@ATTACK.register()
class MetricFGSM(Attack):
    """Away from the same person's guides in one step. Bai et al., TPAMI 2020."""

    objective = staticmethod(objectives.metric_guides)

    @staticmethod
    def published(eps: float) -> Recipe:
        """One step of eps."""
        return Recipe(steps=1, step_size=eps)


@ATTACK.register()
class MetricIFGSM(Attack):
    """Away from the same person's guides. Bai et al., TPAMI 2020."""

    objective = staticmethod(objectives.metric_guides)

    @staticmethod
    def published(eps: float) -> Recipe:
        """Steps of 1."""
        return Recipe(steps=iterations(eps), step_size=1.0)


@ATTACK.register()
class MetricMIFGSM(Attack):
    """Away from the same person's guides, with momentum. Bai et al., TPAMI 2020."""

    objective = staticmethod(objectives.metric_guides)

    @staticmethod
    def published(eps: float) -> Recipe:
        """Steps of 1, momentum 1."""
        return Recipe(steps=iterations(eps), step_size=1.0, momentum=1.0)


@ATTACK.register()
class ODFA(Attack):
    """Opposite direction feature attack, "U-turn". Zheng et al., arXiv 1809.02681."""

    objective = staticmethod(objectives.odfa)

    @staticmethod
    def published(eps: float) -> Recipe:
        """Steps of 1; from a random start, because the gradient at the clean images is 0."""
        steps = max(1, round(min(eps + 4, 1.25 * eps)))
        return Recipe(steps=steps, step_size=1.0, random_start=True)


@ATTACK.register()
class NearestPushPull(Attack):
    """Away from the same person's guides, towards the nearest of another: this package's."""

    objective = staticmethod(objectives.nearest_push_pull)

    @staticmethod
    def published(eps: float) -> Recipe:
        """Nothing is published; as FNA, to which it compares."""
        return FNA.published(eps)


@ATTACK.register()
class RankMargin(Attack):
    """The margin by which Rank-1 fails: this package's, and the test of Rank-1."""

    objective = staticmethod(objectives.rank_margin)

    @staticmethod
    def published(eps: float) -> Recipe:
        """Nothing is published; APGD from one start."""
        return Recipe("apgd", steps=50, random_start=True)

    @staticmethod
    def strong(eps: float) -> Recipe:
        """As for all, but a row whose Rank-1 fails is left: nothing else is aimed at."""
        return replace(Attack.strong(eps), drop_solved=True)


@ATTACK.register()
class SoftAP(Attack):
    """Minus a smooth average precision: this package's, and the test of mAP."""

    objective = staticmethod(objectives.soft_ap)

    @staticmethod
    def published(eps: float) -> Recipe:
        """Nothing is published; as RankMargin."""
        return RankMargin.published(eps)


@ATTACK.register()
class LTA(Attack):
    """Local transformation attack: away from the image with a grey patch. Gong et al., CVPRW 2022.

    The patch is drawn anew for each pass.
    """

    objective = staticmethod(objectives.local_transform)
    transform = staticmethod(gray_patches)

    @staticmethod
    def published(eps: float) -> Recipe:
        """15 steps of 1, momentum 1; from a random start, because a grey image is its own patch."""
        return Recipe(steps=15, step_size=1.0, momentum=1.0, random_start=True)


@ATTACK.register()
class TMA(Attack):
    """Targeted mismatch: towards a drawn gallery item of another. Tolias et al., ICCV 2019."""

    solved_first: ClassVar[bool] = False
    raised: ClassVar[bool] = True
    objective = staticmethod(objectives.targeted)

    @staticmethod
    def published(eps: float) -> Recipe:
        """Theirs has no budget but a penalty; here as SMA, without its random start."""
        return Recipe(steps=15, step_size=1.0)

    def aim(self, guides: Guides, rows: Tensor) -> Guides:
        """One of the row's negatives is its target; a row without keeps its own clean feature."""
        chosen = drawn_items(guides.negatives, rows, self.seed, number=1)
        found, target = chosen.any(dim=1), guides.gallery[chosen.int().argmax(dim=1)]
        reference = torch.where(found[:, None], target, guides.clean)
        return replace(guides, reference=reference, chosen=chosen)


@ATTACK.register()
class QAPlus(Attack):
    """QA+: a drawn gallery item of someone else comes first. Zhou et al., ECCV 2020.

    Its figure is ``success_at_k`` of the items that ``aim`` chose, not mAP.

    Attributes:
        raised: the item moves to the front, or to the end.
    """

    solved_first: ClassVar[bool] = False
    raised: ClassVar[bool] = True
    objective = staticmethod(partial(objectives.query_attack, raised=True))

    @staticmethod
    def published(eps: float) -> Recipe:
        """32 steps of 3."""
        return Recipe(steps=32, step_size=3.0)

    def aim(self, guides: Guides, rows: Tensor) -> Guides:
        """One of the row's negatives is chosen."""
        return replace(guides, chosen=drawn_items(guides.negatives, rows, self.seed, number=1))


@ATTACK.register()
class QAMinus(QAPlus):
    """QA-: a drawn gallery item of the same person comes last. Zhou et al., ECCV 2020."""

    raised = False
    objective = staticmethod(partial(objectives.query_attack, raised=False))

    def aim(self, guides: Guides, rows: Tensor) -> Guides:
        """One of the row's positives is chosen."""
        return replace(guides, chosen=drawn_items(guides.positives, rows, self.seed, number=1))


@ATTACK.register()
class Square(Attack):
    """Square attack on Rank-1, without gradients. Andriushchenko et al., ECCV 2020.

    Its margin loss on ``identity_logits`` is the rank margin: the logit of the nearest other person
    minus that of the own.
    """

    objective = staticmethod(objectives.rank_margin)

    @staticmethod
    def published(eps: float) -> Recipe:
        """5000 queries, as in AutoAttack."""
        return Recipe("square", steps=5000, stop_when_solved=True, drop_solved=True)

    @staticmethod
    def strong(eps: float) -> Recipe:
        """As published: it is a check of attacks that have gradients."""
        return Square.published(eps)


def drawn_items(among: Tensor, rows: Tensor, seed: int, number: int) -> Tensor:
    """``number`` items of each row, or all if it has fewer; the other rows do not matter.

    Args:
        among: (R, G) bool, the items to draw from.
        rows: (R,) what the rows are called in the data set.
        seed: of the draws.
        number: of items.

    Returns:
        (R, G) bool.
    """
    chosen = torch.zeros_like(among)
    for place, row in enumerate(rows.tolist()):
        items = among[place].nonzero().flatten()
        order = torch.randperm(len(items), generator=item_generator(seed, row))
        chosen[place, items[order[:number].to(items.device)]] = True
    return chosen
