"""Attacks that learn from all rows before they change one: candidate and universal attacks.

``prepare`` comes before ``run``. Budgets and steps are in gray levels, 0 to 255.
"""

import copy
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from itertools import chain, islice
from typing import ClassVar

from torch import Tensor

from plugins.attacks import objectives
from plugins.attacks.attack import Attack
from plugins.attacks.features import FeaturesOf, row_groups, select_clips
from plugins.attacks.guides import Guides
from plugins.attacks.per_query import QAPlus, draw_items
from plugins.attacks.recipe import Recipe
from plugins.attacks.tracker import AttackResult, BestTracker
from plugins.attacks.universal import (
    GuidedBatch,
    UniversalRecipe,
    alternate,
    cmps,
    muap,
    uap,
    universal_delta,
)
from plugins.errors import InputError
from plugins.evaluation.distance import distances
from plugins.registry import ATTACK


class CandidateAttack(Attack):
    """Move an attacked gallery item in the list of one query, which is drawn for it.

    The rows are gallery items, and the guides' ``gallery`` holds the queries. The other items of
    the list are the guides' ``items``; the clean version of the item among them is harmless.

    Attributes:
        promote: whether the item moves to the front, for a query of another person, or else to the
            end, for a query of its person.
        others: (G, X) clean distances of each query to each item, once prepared.
    """

    success_first = False
    promote: ClassVar[bool]
    others: Tensor | None = None

    def prepare(self, features_of: FeaturesOf, batches: Iterable[GuidedBatch]) -> "CandidateAttack":
        """Measure the distances of all queries to all items."""
        _, guides = next(iter(batches))
        assert guides.items is not None, "a candidate attack needs all items of its side"
        prepared = copy.copy(self)
        prepared.others = distances(guides.gallery, guides.items, guides.metric).to(guides.items)
        return prepared

    def objective(self, features: Tensor, guides: Guides) -> Tensor:
        """Return minus the hinges of ``candidate_attack``.

        Raises:
            InputError: the attack is not prepared.
        """
        if self.others is None:
            raise unprepared(self)
        return objectives.candidate_attack(
            features, guides, others=self.others, promote=self.promote
        )

    def set_target(self, guides: Guides, rows: Tensor) -> Guides:
        """Draw a query for each row."""
        among = guides.negatives if self.promote else guides.positives
        return replace(guides, chosen=draw_items(among, rows, self.seed, number=1))

    @staticmethod
    def published(eps: float) -> Recipe:
        """Use the recipe of the query attacks."""
        return QAPlus.published(eps)


@ATTACK.register()
class CAPlus(CandidateAttack):
    """CA+: rank the item first for a query of another person. Zhou et al., ECCV 2020."""

    promote = True


@ATTACK.register()
class CAMinus(CandidateAttack):
    """CA-: rank the item last for a query of its person. Zhou et al., ECCV 2020."""

    promote = False


class UniversalAttack(Attack):
    """Add one delta to all images, learned from the rows that the attack is prepared with.

    These may be the attacked rows themselves, as in a worst case, or other rows, as published. The
    delta is for L-inf and the same for all frames: ATTACK.FRAMES is dense or shared, and the
    channels of infrared images are free.

    Attributes:
        universal: budget in gray levels to the recipe of the delta.
        needs: the rows that ``prepare`` expects, for its message.
        delta: (3, H, W), once prepared.
    """

    universal: Callable[[float], UniversalRecipe]  # see the note at ``Attack.objective``
    needs: ClassVar[str] = "expected one or more"
    delta: Tensor | None = None

    @classmethod
    def published(cls, eps: float) -> Recipe:
        """Take 100 steps, one for each batch, over and over."""
        recipe = cls.universal(eps)
        return Recipe(steps=100, step_size=recipe.step_size, momentum=recipe.momentum)

    @classmethod
    def strong(cls, eps: float) -> Recipe:
        """Take 500 steps."""
        return replace(cls.published(eps), steps=500)

    def prepare(self, features_of: FeaturesOf, batches: Iterable[GuidedBatch]) -> "UniversalAttack":
        """Learn the delta.

        Raises:
            InputError: the threat model asks for what one delta cannot have, or rows are missing.
        """
        self._check_threat()
        recipe = replace(
            self.universal(self.threat.eps),
            step_size=self.recipe.step_size,
            momentum=self.recipe.momentum,
        )
        steps = islice(repeat_passes(lambda: self.order(batches)), self.recipe.steps)
        first = next(steps, None)
        if first is None:
            raise InputError(f"{type(self).__name__}: no rows to learn from; {self.needs}")
        prepared = copy.copy(self)

        def counted() -> Iterator[GuidedBatch]:
            for batch, guides in chain([first], steps):
                prepared.passes += len(guides.pids)
                yield batch, guides

        prepared.delta = universal_delta(features_of, counted(), self.objective, recipe, self.seed)
        return prepared

    def order(self, batches: Iterable[GuidedBatch]) -> Iterable[GuidedBatch]:
        """Return the batches of one pass, one for each step."""
        return batches

    def search(self, tracker: BestTracker) -> None:
        """Evaluate the images with the delta, once, because it is the same in all restarts.

        Raises:
            InputError: the attack is not prepared.
        """
        if self.delta is None:
            raise unprepared(self)
        if not tracker.restart:
            allowed = tracker.allowed
            tracker.evaluate(allowed.project(allowed.clean + self.delta))

    def run(self, features_of: FeaturesOf, batch: dict, guides: Guides) -> AttackResult:
        """Add the delta; ``start`` of the result is the objective of the clean images."""
        result = super().run(features_of, batch, guides)
        return replace(result, start=self.objective(guides.clean, guides).to(result.objective))

    def _check_threat(self) -> None:
        for key, value, known in (
            ("NORM", self.threat.norm, ("linf",)),
            ("FRAMES", self.threat.frames, ("dense", "shared")),
            ("INFRARED", self.threat.infrared, ("free",)),
        ):
            if value not in known:
                name = type(self).__name__
                raise InputError(f"ATTACK.{key}: '{value}'; {name} supports {', '.join(known)}")


def unprepared(attack: Attack) -> InputError:
    """Return the error of an attack that runs before ``prepare``."""
    return InputError(
        f"{type(attack).__name__} learns from a whole data set before it attacks; call its prepare "
        "with all batches and their guides first"
    )


@ATTACK.register()
class UAP(UniversalAttack):
    """Universal perturbation for retrieval, learned by signed steps. Li et al., ICCV 2019.

    It maximizes FNA's objective, so that the two can be compared.
    """

    objective = staticmethod(objectives.farthest_negative)
    universal = staticmethod(uap)


@ATTACK.register()
class MUAP(UAP):
    """UAP with momentum. Ding et al., IEEE TIFS 2021."""

    universal = staticmethod(muap)


@ATTACK.register()
class CMPS(UniversalAttack):
    """Universal perturbation across modalities, by visible and infrared batches in turn.

    It pushes a row from the centroid of its person in the other modality and pulls it to the
    nearest other centroid. Gong et al., NeurIPS 2024.
    """

    both_sides = True

    objective = staticmethod(objectives.nearest_push_pull)
    universal = staticmethod(cmps)
    needs = "expected visible and infrared rows, as I2V and V2I have"

    def order(self, batches: Iterable[GuidedBatch]) -> Iterable[GuidedBatch]:
        """Alternate visible and infrared batches; return none if a modality is missing."""
        visible, infrared = (select_modality(batches, modality) for modality in (0, 1))
        return alternate(visible, infrared)


def select_modality(batches: Iterable[GuidedBatch], modality: int) -> Iterator[GuidedBatch]:
    """Yield the rows of a modality, 0 visible or 1 infrared, guided by centroids."""
    for batch, guides in batches:
        clips = batch["modalities"] == modality
        if clips.any():
            groups, _ = row_groups(batch)
            rows = groups[clips.cpu()].unique().to(guides.pids.device)
            yield select_clips(batch, clips), guides.select(rows).centroids


def repeat_passes(order: Callable[[], Iterable[GuidedBatch]]) -> Iterator[GuidedBatch]:
    """Yield one pass after the other without end; nothing if a pass is empty."""
    if next(iter(order()), None) is not None:
        while True:
            yield from order()
