"""Images made on one model and tried on another.

Where they fool it more than those made on itself, its gradients are masked.
"""

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from plugins.attacks.adapter import row_groups
from plugins.attacks.base import Attack, Outcome
from plugins.attacks.guides import Guides


class Transferred:
    """An attack that runs on a surrogate; it is called as the attack itself.

    Args:
        attack: what runs, with its threat model, recipe and seed.
        surrogate: batch to features, such as the ``Adapter`` of another checkpoint.
        guides_of: rows (R,), as named in the data, to their guides from the surrogate's features.
    """

    def __init__(
        self,
        attack: Attack,
        surrogate: Callable[[dict], Tensor],
        guides_of: Callable[[Tensor], Guides],
    ) -> None:
        self.attack, self.surrogate, self.guides_of = attack, surrogate, guides_of
        self.threat, self.recipe, self.seed = attack.threat, attack.recipe, attack.seed

    def __call__(self, features_of: Callable[[dict], Tensor], batch: dict, guides: Guides) -> dict:
        """The attacked batch of ``run``."""
        return self.run(features_of, batch, guides).batch

    def run(self, features_of: Callable[[dict], Tensor], batch: dict, guides: Guides) -> Outcome:
        """Make the images on the surrogate; score them, by ``guides``, on the attacked model.

        ``features_of`` gives no gradient, and each row is one forward pass of it.
        """
        made = self.attack.run(self.surrogate, batch, self.guides_of(row_groups(batch)[1]))
        with torch.no_grad():
            score = self.attack.score(features_of, batch, guides)
            objective, margin = score(made.batch["images"])
        forwards = made.climb.forwards + len(margin)
        climb = replace(made.climb, objective=objective, margin=margin, forwards=forwards)
        return Outcome(made.batch, climb)
