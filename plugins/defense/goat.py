"""GOAT, an attack that papers train against; registered, so that it can test a model as well.

Legend: R attacked rows, G gallery items, D feature length.
"""

from dataclasses import replace

import torch
from fastreid.config import CfgNode
from torch import Tensor

from plugins.attacks import Attack, Guides, Recipe, ThreatModel
from plugins.attacks.objectives import self_metric
from plugins.attacks.objectives.distance import squared_distances
from plugins.attacks.per_query import draw_items
from plugins.errors import InputError
from plugins.registry import ATTACK


@ATTACK.register()
class GOAT(Attack):
    """Push from random guides of the same person, pull to the farthest guides of others.

    The paper's GOAT(4, 1) uses four positives and one negative; GOAT(0, 0) is SMA. Bouniot,
    Audigier and Loesch, "Vulnerability of Person Re-Identification Models to Metric Adversarial
    Attacks", CVPRW 2020.

    Attributes:
        positives: number of guides of the same person; all are used if there are fewer.
        negatives: number of guides of others, likewise.
    """

    def __init__(
        self,
        threat: ThreatModel | None = None,
        recipe: Recipe | None = None,
        seed: int = 0,
        *,
        eps: float | None = None,
        positives: int = 4,
        negatives: int = 1,
    ) -> None:
        """Attack with so many guides; see :class:`Attack` and the attributes.

        Raises:
            InputError: also if a number of guides is negative.
        """
        super().__init__(threat, recipe, seed, eps=eps)
        for key, number in (("POSITIVES", positives), ("NEGATIVES", negatives)):
            if number < 0:
                raise InputError(f"DEFENSE.GOAT.{key}: {number}; expected 0 or more")
        self.positives, self.negatives = positives, negatives

    @classmethod
    def from_config(cls, cfg: CfgNode, strong: bool = False) -> "GOAT":
        """Read ATTACK and DEFENSE.GOAT."""
        shared, guides = super().from_config(cfg, strong), cfg.DEFENSE.GOAT
        return cls(
            shared.threat,
            shared.recipe,
            shared.seed,
            positives=guides.POSITIVES,
            negatives=guides.NEGATIVES,
        )

    @staticmethod
    def published(eps: float) -> Recipe:
        """Take 15 steps of 1 from a random start, as SMA, a special case of GOAT."""
        return Recipe(steps=15, step_size=1.0, random_start=True)

    def set_target(self, guides: Guides, rows: Tensor) -> Guides:
        """Return the guides with only the chosen items visible."""
        same = draw_items(guides.positives, rows, self.seed, self.positives)
        return replace(guides, valid=same | farthest_items(guides, self.negatives))

    @staticmethod
    def objective(features: Tensor, guides: Guides) -> Tensor:
        """Sum |f - g+|^2 over g+ minus |f - g-|^2 over g-; |f - f0|^2 for a row without guides."""
        squares = squared_distances(features, guides)
        gap = (squares * guides.positives).sum(dim=1) - (squares * guides.negatives).sum(dim=1)
        return torch.where(guides.valid.any(dim=1), gap, self_metric(features, guides))


def farthest_items(guides: Guides, number: int) -> Tensor:
    """Return (R, G) bool, the ``number`` visible items of others farthest from the clean feature.

    All are chosen if there are fewer.
    """
    reach = squared_distances(guides.clean, guides).masked_fill(~guides.negatives, -torch.inf)
    farthest = reach.topk(min(number, reach.shape[1]), dim=1).indices
    chosen = torch.zeros_like(guides.negatives).scatter_(1, farthest, True)
    return chosen & guides.negatives
