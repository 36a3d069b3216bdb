"""What every attack does: objective, recipe and threat model put together on one batch.

Legend: B clips in the batch, R rows (items of query + gallery) they belong to, D feature length.
"""

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from itertools import count
from typing import ClassVar

import torch
from fastreid.config import CfgNode
from fastreid.utils.env import seed_all_rng
from torch import Tensor

from plugins.attacks.budget import check_budget, check_reach, warn_once
from plugins.attacks.features import (
    Adapter,
    attacking,
    float_images,
    preserved_random_state,
    row_groups,
)
from plugins.attacks.guides import Guides
from plugins.attacks.objectives import rank_margin
from plugins.attacks.optimizers import Climb, Recipe, Score, is_better, maximise
from plugins.attacks.projections import spread
from plugins.attacks.threat_model import Region, ThreatModel
from plugins.errors import InputError
from plugins.registry import ATTACK, lookup
from plugins.utils.random import item_generator

logger = logging.getLogger(__name__)

STRONG = "-strong"
SEEDS = 2**32  # as many as numpy knows


@dataclass(frozen=True)
class Outcome:
    """What an attack did to one batch.

    Attributes:
        batch: the batch with attacked ``images``; the rest is the clean batch's.
        climb: their scores and what they cost; its margin is above 0 where Rank-1 fails.
    """

    batch: dict
    climb: Climb


class Attack:
    """An objective to maximise, and two recipes for it.

    A subclass sets ``objective`` and ``published``, and may set ``strong``, by which a name with
    "-strong" is attacked; ``aim`` and ``transform``, where the objective needs more than guides
    hold; and ``prepare``, where it learns from all rows before it changes one.

    Attributes:
        transform: of clean images (B, ..., 3, H, W), with a generator; the features of what it
            gives, anew for each pass, are the guides' ``reference``.
        both_sides: whether it learns from rows of query and gallery, not of one side alone.
        solved_first: whether its aim is that Rank-1 fails; else its objective alone counts.
        threat: what may be changed.
        recipe: how the objective is climbed.
        seed: of all random draws.
        passes: rows that passed the model forward and backward in ``prepare``.
    """

    transform: ClassVar[Callable[[Tensor, torch.Generator], Tensor] | None] = None
    both_sides: ClassVar[bool] = False
    solved_first: ClassVar[bool] = True
    passes: int = 0

    @staticmethod
    def objective(features: Tensor, guides: Guides) -> Tensor:
        """Of features (R, D) the values (R,) to maximise."""
        raise NotImplementedError

    @staticmethod
    def published(eps: float) -> Recipe:
        """The recipe of the paper, for a budget in 0-255 units."""
        raise NotImplementedError

    @staticmethod
    def strong(eps: float) -> Recipe:
        """A recipe that does not depend on a step size; the same for every objective."""
        return Recipe("apgd", steps=100, random_start=True, restarts=5, stop_when_solved=True)

    def __init__(self, threat: ThreatModel, recipe: Recipe, seed: int = 0) -> None:
        """Attack by ``recipe`` within ``threat``."""
        self.threat, self.recipe, self.seed = threat, recipe, seed

    @classmethod
    def from_config(cls, cfg: CfgNode, strong: bool = False) -> "Attack":
        """Read the ATTACK section; STEPS, STEP_SIZE, RESTARTS and EOT override the recipe.

        Raises:
            InputError: one of them, SEED or a number of the threat model is out of its range.
        """
        for key in ("STEPS", "STEP_SIZE", "RESTARTS", "EOT", "SEED"):
            if not cfg.ATTACK[key] >= 0:
                raise InputError(f"ATTACK.{key}: {cfg.ATTACK[key]}; expected 0 or more")
        if cfg.ATTACK.SEED >= SEEDS:
            raise InputError(f"ATTACK.SEED: {cfg.ATTACK.SEED}; expected less than 2^32")
        threat = ThreatModel.from_config(cfg)
        recipe = (cls.strong if strong else cls.published)(threat.eps)
        names = ("steps", "step_size", "restarts", "eot")
        chosen = {name: cfg.ATTACK[name.upper()] for name in names if cfg.ATTACK[name.upper()]}
        return cls(threat, replace(recipe, **chosen), cfg.ATTACK.SEED)

    def prepare(
        self, features_of: Callable[[dict], Tensor], batches: Iterable[tuple[dict, Guides]]
    ) -> "Attack":
        """The attack once it knows all rows: called once, before ``run``. Most need no such thing.

        Args:
            features_of: as for ``run``.
            batches: all rows with their guides; it can be iterated over more than once.
        """
        return self

    def aim(self, guides: Guides, rows: Tensor) -> Guides:
        """The guides with what the objective needs besides, for the rows (R,) named in the data."""
        return guides

    def __call__(self, features_of: Callable[[dict], Tensor], batch: dict, guides: Guides) -> dict:
        """The attacked batch of ``run``."""
        return self.run(features_of, batch, guides).batch

    def run(self, features_of: Callable[[dict], Tensor], batch: dict, guides: Guides) -> Outcome:
        """Attack one batch. Random states, and a model in an ``Adapter``, are left as found.

        Images of whole numbers, such as uint8, and of half precision are attacked as float32.

        Args:
            features_of: batch to features (R, D), differentiable in the images, in ascending order
                of the rows; each row's must not depend on the others.
            batch: ``images`` (B, T, 3, H, W) or (B, 3, H, W) in [0, 255]; ``rows`` (B,), all clips
                of a row in one batch; ``modalities`` (B,), all visible when absent. It is not
                changed.
            guides: what the objective may know, for the same R rows in the same order.

        Raises:
            InputError: images are not in [0, 255], or the objective is not finite.
        """
        batch = float_images(batch)
        adapted = isinstance(features_of, Adapter)
        with attacking(features_of.model) if adapted else preserved_random_state():
            seed_all_rng(self.seed)
            best = self._restarts(features_of, batch, guides)
        if best.stuck.any():
            logger.warning(
                "%s: the gradient at the start is 0 for %d of %d rows, so they were not attacked; "
                "a random start may help",
                type(self).__name__,
                int(best.stuck.sum()),
                len(best.stuck),
            )
        attacked = {**batch, "images": best.images.view(batch["images"].shape)}
        return Outcome(attacked, best)

    def score(
        self, features_of: Callable[[dict], Tensor], batch: dict, guides: Guides, restart: int = 0
    ) -> Score:
        """What ``maximise`` climbs: images in place of the batch's to objective and rank margin."""
        shape, passes = batch["images"].shape, count()
        groups, rows = row_groups(batch)
        guides = self.aim(guides, rows)

        def score(images: Tensor, left: Tensor | None = None) -> tuple[Tensor, Tensor]:
            clean, known = batch, guides
            some = {**batch, "images": images.view(shape)}
            if left is not None:
                clips = left[groups.to(left.device)]
                clean, some = select_clips(clean, clips), select_clips(some, clips)
                known = guides.select(left.to(guides.pids.device))
            if self.transform is not None:
                known = self._refer(features_of, clean, known, (restart, next(passes)))
            features = features_of(some).to(guides.clean.device)
            objective = self.objective(features, known)
            own = type(self).objective is rank_margin
            margin = objective.detach() if own else rank_margin(features.detach(), known)
            return objective.to(images.device), margin.to(images.device)

        return score

    def _refer(
        self,
        features_of: Callable[[dict], Tensor],
        batch: dict,
        guides: Guides,
        draw: tuple[int, ...],
    ) -> Guides:
        """The guides whose ``reference`` are the features of the transformed clean images."""
        groups, rows = row_groups(batch)
        images = batch["images"].clone()
        for place, row in enumerate(rows.tolist()):
            clips = groups == place
            generator = item_generator(self.seed, row, *draw)
            images[clips] = self.transform(images[clips], generator)
        with torch.no_grad():
            reference = features_of({**batch, "images": images})
        return replace(guides, reference=reference.to(guides.clean.device))

    def _climb(
        self, features_of: Callable[[dict], Tensor], batch: dict, guides: Guides, restart: int
    ) -> Climb:
        score = self.score(features_of, batch, guides, restart)
        region = Region(self.threat, batch)
        climb = maximise(score, region, self.recipe, self.seed, restart, self.solved_first)
        return climb if self.transform is None else replace(climb, forwards=2 * climb.forwards)

    def _restarts(
        self, features_of: Callable[[dict], Tensor], batch: dict, guides: Guides
    ) -> Climb:
        """The best of each row over the recipe's restarts."""
        groups, rows = (ids.to(batch["images"].device) for ids in row_groups(batch))
        # Named, so that a part of the batch keeps the names, from which the random draws come.
        batch = {**batch, "rows": rows[groups]}
        best = self._climb(features_of, batch, guides, restart=0)
        for restart in range(1, self.recipe.restarts):
            left = torch.ones_like(best.stuck)
            if self.recipe.stop_when_solved and self.solved_first:
                left = best.margin <= 0
            if not left.any():
                break
            part = select_clips(batch, left[groups])
            known = guides.select(left.to(guides.pids.device))
            climb = self._climb(features_of, part, known, restart)
            best = merge(best, climb, left, groups, self.solved_first)
        return best


def select_clips(batch: dict, clips: Tensor) -> dict:
    """The batch's clips where ``clips`` (B,) is True; every entry has one element per clip."""
    kept = clips.nonzero().flatten()
    return {
        key: values[kept.to(values.device)]
        if torch.is_tensor(values)
        else [values[clip] for clip in kept.tolist()]
        for key, values in batch.items()
    }


def merge(
    best: Climb, climb: Climb, left: Tensor, groups: Tensor, solved_first: bool = True
) -> Climb:
    """The better of two climbs for each row, the second one being of some rows only.

    Args:
        best: of all rows.
        climb: of the rows ``left``.
        left: (R,) bool.
        groups: (B,) the row of each clip.
        solved_first: as for ``is_better``.
    """
    objective, start, margin, travelled = (
        getattr(best, name).masked_scatter(left, getattr(climb, name))
        for name in ("objective", "start", "margin", "travelled")
    )
    images = best.images.clone()
    images[left[groups]] = climb.images
    better = is_better(objective, margin, best.objective, best.margin, solved_first)
    return Climb(
        images=torch.where(spread(better, groups), images, best.images),
        objective=torch.where(better, objective, best.objective),
        start=torch.where(better, start, best.start),
        margin=torch.where(better, margin, best.margin),
        stuck=best.stuck & best.stuck.masked_scatter(left, climb.stuck),
        forwards=best.forwards + climb.forwards,
        backwards=best.backwards + climb.backwards,
        travelled=torch.where(better, travelled, best.travelled),
    )


def build_attack(name: str, cfg: CfgNode, key: str) -> Attack:
    """The attack of that name, by its published recipe, or with "-strong" added by its strong one.

    Warns, once, of a budget below one gray level and of steps that do not reach it.

    Args:
        name: registered name, such as "SMA" or "SMA-strong".
        cfg: its ATTACK section is read, and INPUT.SIZE_TEST.
        key: the config key that holds the name, for the message.

    Raises:
        InputError: there is no such attack, a key of the section has no such value, or steps do not
            reach a budget of L2.
    """
    attack = read_attack(name, cfg, key)
    check_budget(attack.threat, "ATTACK", cfg.INPUT.SIZE_TEST)
    if doubt := check_reach(name, attack.threat, attack.recipe):
        warn_once(doubt)
    return attack


def read_attack(name: str, cfg: CfgNode, key: str) -> Attack:
    """Build an attack as ``build_attack`` does, without a look at units and reach."""
    attack = lookup(ATTACK, name.removesuffix(STRONG), key)
    return attack.from_config(cfg, strong=name.endswith(STRONG))
