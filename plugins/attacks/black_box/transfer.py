"""Images that are crafted on one model and evaluated on another.

If they fool a model more than images crafted on the model itself, its gradients are masked.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace

import torch
from torch import Tensor

from plugins.attacks.attack import Attack
from plugins.attacks.features import FeaturesOf, float_images, row_groups
from plugins.attacks.guides import Guides
from plugins.attacks.tracker import AttackResult
from plugins.attacks.universal import GuidedBatch

GuidesOf = Callable[[Tensor], Guides]


class ReguidedBatches:
    """Yields batches with other guides, in each iteration anew.

    Args:
        batches: batches with guides, which can be iterated over more than once.
        guides_of: rows (R,), as named in the data, to their guides.
    """

    def __init__(self, batches: Iterable[GuidedBatch], guides_of: GuidesOf) -> None:
        self._batches, self._guides_of = batches, guides_of

    def __iter__(self) -> Iterator[GuidedBatch]:
        """Yield (batch, guides) of each batch."""
        for batch, _ in self._batches:
            yield batch, self._guides_of(row_groups(batch)[1])


class Transferred:
    """An attack that runs on a surrogate model, with the interface of the attack itself.

    Args:
        attack: the attack, with its threat model, recipe and seed.
        surrogate: batch to features, such as the ``Adapter`` of another checkpoint.
        guides_of: rows (R,), as named in the data, to their guides from the surrogate's features.
    """

    def __init__(self, attack: Attack, surrogate: FeaturesOf, guides_of: GuidesOf) -> None:
        self.attack, self.surrogate, self.guides_of = attack, surrogate, guides_of
        self.threat, self.recipe, self.seed = attack.threat, attack.recipe, attack.seed
        self.passes = attack.passes

    def prepare(self, features_of: FeaturesOf, batches: Iterable[GuidedBatch]) -> "Transferred":
        """Return the attack prepared on the surrogate, with the surrogate's guides."""
        attack = self.attack.prepare(self.surrogate, ReguidedBatches(batches, self.guides_of))
        return Transferred(attack, self.surrogate, self.guides_of)

    def run(self, features_of: FeaturesOf, batch: dict, guides: Guides) -> AttackResult:
        """Craft the images on the surrogate; score them, by ``guides``, on the attacked model.

        The attacked model gives no gradient, and each row costs one forward pass of it.
        """
        batch = float_images(batch)
        crafted = self.attack.run(self.surrogate, batch, self.guides_of(row_groups(batch)[1]))
        with torch.no_grad():
            score = self.attack.score_function(features_of, batch, guides)
            objective, margin = score(crafted.images)
        forwards = crafted.forwards + len(margin)
        return replace(crafted, objective=objective, margin=margin, forwards=forwards)
