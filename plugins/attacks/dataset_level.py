"""Attacks that know all rows before they change one: candidate attacks and universal ones.

Call ``prepare`` before ``run``. Budgets and steps in 0-255 units.
"""

import copy
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from itertools import chain, islice
from typing import ClassVar

from torch import Tensor

from plugins.attacks import objectives
from plugins.attacks.attack import Attack, select_clips
from plugins.attacks.features import row_groups
from plugins.attacks.guides import Guides
from plugins.attacks.optimizers import Climb, Explorer, Recipe
from plugins.attacks.per_query import QAPlus, drawn_items
from plugins.attacks.threat_model import Region
from plugins.attacks.universal import (
    GuidedBatch,
    UniversalRecipe,
    by_turns,
    cmps,
    muap,
    uap,
    universal_delta,
)
from plugins.errors import InputError
from plugins.evaluation.distance import distances
from plugins.registry import ATTACK


class CandidateAttack(Attack):
    """An attacked gallery item moves in the list of one query that is drawn for it.

    The rows are gallery items, and the guides' ``gallery`` holds the queries. The others in the
    list are the guides' ``items``; the clean item among them is harmless.

    Attributes:
        raised: to the front, for a query of someone else; or to the end, for one of its person.
        others: (G, X) clean distances of each query to each item, once prepared.
    """

    solved_first: ClassVar[bool] = False
    raised: ClassVar[bool]
    others: Tensor | None = None

    def prepare(
        self, features_of: Callable[[dict], Tensor], batches: Iterable[GuidedBatch]
    ) -> "CandidateAttack":
        """Measure the distances of all queries to all items."""
        _, guides = next(iter(batches))
        assert guides.items is not None, "a candidate attack needs all items of its side"
        prepared = copy.copy(self)
        prepared.others = distances(guides.gallery, guides.items, guides.metric).to(guides.items)
        return prepared

    def objective(self, features: Tensor, guides: Guides) -> Tensor:
        """Minus the hinges of ``candidate_attack``."""
        assert self.others is not None, "a candidate attack is prepared before it runs"
        return objectives.candidate_attack(features, guides, others=self.others, raised=self.raised)

    def aim(self, guides: Guides, rows: Tensor) -> Guides:
        """A query of each row is drawn."""
        among = guides.negatives if self.raised else guides.positives
        return replace(guides, chosen=drawn_items(among, rows, self.seed, number=1))

    @staticmethod
    def published(eps: float) -> Recipe:
        """As the query attacks."""
        return QAPlus.published(eps)


@ATTACK.register()
class CAPlus(CandidateAttack):
    """CA+: the item comes first in the list of someone else's query. Zhou et al., ECCV 2020."""

    raised = True


@ATTACK.register()
class CAMinus(CandidateAttack):
    """CA-: the item comes last in the list of its person's query. Zhou et al., ECCV 2020."""

    raised = False


class UniversalAttack(Attack):
    """One delta for all images, learned from the rows it is prepared with.

    Those may be the attacked rows themselves, as in a worst case, or others, as published. For
    L-inf, and a delta without frames: ATTACK.FRAMES is dense or shared; with free channels.

    Attributes:
        delta: (3, H, W), once prepared.
    """

    universal: ClassVar[Callable[[float], UniversalRecipe]]
    needs: ClassVar[str] = "expected one or more"
    delta: Tensor | None = None

    @classmethod
    def published(cls, eps: float) -> Recipe:
        """100 steps, which are batches, over and over."""
        found = cls.universal(eps)
        return Recipe(steps=100, step_size=found.step_size, momentum=found.momentum)

    @classmethod
    def strong(cls, eps: float) -> Recipe:
        """500 steps."""
        return replace(cls.published(eps), steps=500)

    def prepare(
        self, features_of: Callable[[dict], Tensor], batches: Iterable[GuidedBatch]
    ) -> "UniversalAttack":
        """Learn the delta.

        Raises:
            InputError: the threat model asks for what one delta cannot have, or rows are missing.
        """
        for key, value, known in (
            ("NORM", self.threat.norm, ("linf",)),
            ("FRAMES", self.threat.frames, ("dense", "shared")),
            ("INFRARED", self.threat.infrared, ("free",)),
        ):
            if value not in known:
                name = type(self).__name__
                raise InputError(f"ATTACK.{key}: '{value}'; {name} knows {', '.join(known)}")
        recipe = replace(
            self.universal(self.threat.eps),
            step_size=self.recipe.step_size,
            momentum=self.recipe.momentum,
        )
        steps = islice(over_and_over(lambda: self.order(batches)), self.recipe.steps)
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
        """The batches of one pass, one for each step."""
        return batches

    def _climb(
        self, features_of: Callable[[dict], Tensor], batch: dict, guides: Guides, restart: int
    ) -> Climb:
        assert self.delta is not None, "a universal attack is prepared before it runs"
        region = Region(self.threat, batch)
        explorer = Explorer(self.score(features_of, batch, guides), region, self.recipe.eot)
        explorer.look(region.project(region.clean + self.delta))
        start = self.objective(guides.clean, guides).to(explorer.objective)
        return replace(explorer.climb(), start=start)

    def _restarts(
        self, features_of: Callable[[dict], Tensor], batch: dict, guides: Guides
    ) -> Climb:
        """One climb, as the delta is the same in all."""
        return self._climb(features_of, batch, guides, restart=0)


@ATTACK.register()
class UAP(UniversalAttack):
    """Universal perturbation of retrieval, by signed steps. Li et al., ICCV 2019.

    Its objective is FNA's, so that it compares.
    """

    objective = staticmethod(objectives.farthest_negative)
    universal = staticmethod(uap)


@ATTACK.register()
class MUAP(UAP):
    """UAP with momentum. Ding et al., IEEE TIFS 2021."""

    universal = staticmethod(muap)


@ATTACK.register()
class CMPS(UniversalAttack):
    """Across modalities: visible rows, then infrared ones. Gong et al., NeurIPS 2024.

    Away from the centroid of their person in the other modality, towards the nearest other one.
    """

    both_sides = True

    objective = staticmethod(objectives.nearest_push_pull)
    universal = staticmethod(cmps)
    needs = "expected visible and infrared ones, as I2V and V2I have"

    def order(self, batches: Iterable[GuidedBatch]) -> Iterable[GuidedBatch]:
        """By turns; nothing where a modality is missing."""
        return by_turns(*(of_modality(batches, modality) for modality in (0, 1)))


def of_modality(batches: Iterable[GuidedBatch], modality: int) -> Iterator[GuidedBatch]:
    """The rows of a modality, 0 visible or 1 infrared, guided by centroids."""
    for batch, guides in batches:
        clips = batch["modalities"] == modality
        if clips.any():
            groups, _ = row_groups(batch)
            rows = groups[clips.cpu()].unique().to(guides.pids.device)
            yield select_clips(batch, clips), guides.select(rows).centroids


def over_and_over(order: Callable[[], Iterable[GuidedBatch]]) -> Iterator[GuidedBatch]:
    """One pass after the other, for ever; nothing where a pass has nothing."""
    if next(iter(order()), None) is not None:
        while True:
            yield from order()
