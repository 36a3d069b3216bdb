"""Attacks that papers train against; registered, so that they can test a model as well.

Legend: R attacked rows, G gallery items, D feature length.
"""

from dataclasses import replace

import torch
from fastreid.config import CfgNode
from torch import Tensor

from plugins.attacks import Attack, Guides, Recipe
from plugins.attacks.objectives import self_metric
from plugins.attacks.objectives.distance import squared_distances
from plugins.attacks.per_query import drawn_items
from plugins.errors import InputError
from plugins.registry import ATTACK


@ATTACK.register()
class GOAT(Attack):
    """Away from drawn guides of the same person, towards the farthest ones of others.

    GOAT(4, 1) takes four and one; GOAT(0, 0) is SMA. Bouniot, Audigier and Loesch, "Vulnerability
    of Person Re-Identification Models to Metric Adversarial Attacks", CVPRW 2020.

    Attributes:
        positives: guides of the same person, or all if there are fewer.
        negatives: guides of others, likewise.
    """

    positives: int
    negatives: int

    @classmethod
    def from_config(cls, cfg: CfgNode, strong: bool = False) -> "GOAT":
        """Read ATTACK and DEFENSE.GOAT."""
        attack = super().from_config(cfg, strong)
        for key in ("POSITIVES", "NEGATIVES"):
            if cfg.DEFENSE.GOAT[key] < 0:
                raise InputError(f"DEFENSE.GOAT.{key}: {cfg.DEFENSE.GOAT[key]}; expected 0 or more")
            setattr(attack, key.lower(), cfg.DEFENSE.GOAT[key])
        return attack

    @staticmethod
    def published(eps: float) -> Recipe:
        """15 steps of 1 from a random start, as SMA, which it may be."""
        return Recipe(steps=15, step_size=1.0, random_start=True)

    def aim(self, guides: Guides, rows: Tensor) -> Guides:
        """The guides with nothing visible but the chosen items."""
        same = drawn_items(guides.positives, rows, self.seed, self.positives)
        return replace(guides, valid=same | farthest_items(guides, self.negatives))

    @staticmethod
    def objective(features: Tensor, guides: Guides) -> Tensor:
        """Sum over g+ of |f - g+|^2 minus that over g-; |f - f0|^2 for a row without guides."""
        squares = squared_distances(features, guides)
        gap = (squares * guides.positives).sum(dim=1) - (squares * guides.negatives).sum(dim=1)
        return torch.where(guides.valid.any(dim=1), gap, self_metric(features, guides))


def farthest_items(guides: Guides, number: int) -> Tensor:
    """(R, G) bool, the ``number`` visible items of others farthest from each clean feature.

    All of them where there are fewer.
    """
    reach = squared_distances(guides.clean, guides).masked_fill(~guides.negatives, -torch.inf)
    farthest = reach.topk(min(number, reach.shape[1]), dim=1).indices
    chosen = torch.zeros_like(guides.negatives).scatter_(1, farthest, True)
    return chosen & guides.negatives
