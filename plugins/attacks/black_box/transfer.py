"""Images made on one model and tried on another.

Where they fool it more than those made on itself, its gradients are masked.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace

import torch
from torch import Tensor

from plugins.attacks.attack import Attack, Outcome
from plugins.attacks.features import float_images, row_groups
from plugins.attacks.guides import Guides
from plugins.attacks.universal import GuidedBatch


class Reguided:
    """Batches with other guides, as often as somebody asks.

    Args:
        batches: which can be iterated over more than once.
        guides_of: rows (R,), as named in the data, to their guides.
    """

    def __init__(
        self, batches: Iterable[GuidedBatch], guides_of: Callable[[Tensor], Guides]
    ) -> None:
        self._batches, self._guides_of = batches, guides_of

    def __iter__(self) -> Iterator[GuidedBatch]:
        """(batch, guides) of each."""
        for batch, _ in self._batches:
            yield batch, self._guides_of(row_groups(batch)[1])


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
        self.passes = attack.passes

    def prepare(
        self, features_of: Callable[[dict], Tensor], batches: Iterable[GuidedBatch]
    ) -> "Transferred":
        """The attack prepared on the surrogate, with its guides."""
        attack = self.attack.prepare(self.surrogate, Reguided(batches, self.guides_of))
        return Transferred(attack, self.surrogate, self.guides_of)

    def __call__(self, features_of: Callable[[dict], Tensor], batch: dict, guides: Guides) -> dict:
        """The attacked batch of ``run``."""
        return self.run(features_of, batch, guides).batch

    def run(self, features_of: Callable[[dict], Tensor], batch: dict, guides: Guides) -> Outcome:
        """Make the images on the surrogate; score them, by ``guides``, on the attacked model.

        ``features_of`` gives no gradient, and each row is one forward pass of it.
        """
        batch = float_images(batch)
        made = self.attack.run(self.surrogate, batch, self.guides_of(row_groups(batch)[1]))
        with torch.no_grad():
            score = self.attack.score(features_of, batch, guides)
            objective, margin = score(made.batch["images"])
        forwards = made.climb.forwards + len(margin)
        climb = replace(made.climb, objective=objective, margin=margin, forwards=forwards)
        return Outcome(made.batch, climb)
