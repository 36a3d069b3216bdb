"""The attacks by name: an objective and the recipe of its paper; ``-strong`` is in the base.

Budgets and steps in 0-255 units.
"""

from plugins.attacks import objectives
from plugins.attacks.base import Attack
from plugins.attacks.optimizers import Recipe
from plugins.registry import ATTACK


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


@ATTACK.register()
class SoftAP(Attack):
    """Minus a smooth average precision: this package's, and the test of mAP."""

    objective = staticmethod(objectives.soft_ap)

    @staticmethod
    def published(eps: float) -> Recipe:
        """Nothing is published; as RankMargin."""
        return RankMargin.published(eps)
