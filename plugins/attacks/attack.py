"""The attack: an objective, a threat model and a recipe, applied to one batch.

Legend: B clips in the batch, R rows (items of query + gallery) they belong to, D feature length.
"""

import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from itertools import count
from typing import Any, ClassVar

import torch
from fastreid.config import CfgNode
from fastreid.utils.env import seed_all_rng
from torch import Tensor

from plugins.attacks.budget import check_units_and_reach
from plugins.attacks.features import (
    Adapter,
    FeaturesOf,
    ImageFeatures,
    float_images,
    row_groups,
    select_clips,
    undisturbed,
)
from plugins.attacks.guides import Guides
from plugins.attacks.objectives import rank_margin
from plugins.attacks.optimizers import maximize
from plugins.attacks.recipe import Recipe
from plugins.attacks.threat_model import PerturbationSet, ThreatModel
from plugins.attacks.tracker import AttackResult, BestTracker
from plugins.config import check_value
from plugins.errors import InputError
from plugins.registry import ATTACK, lookup
from plugins.utils.random import item_generator
from plugins.utils.values import shortened

logger = logging.getLogger(__name__)

STRONG = "-strong"
SEEDS = 2**32  # number of seeds that numpy accepts


class Attack:
    """An objective to maximize, a threat model, and a recipe.

        attack = FNA(eps=8)
        adversarial = attack(model, batch, gallery)

    A subclass sets ``objective`` and ``published``, and may set ``strong``, the recipe of a name
    with "-strong". These may be overridden besides: ``set_target`` and ``transform``, if the
    objective needs more than guides hold; ``prepare``, if the attack learns from all rows before it
    changes one; ``perturbation_set``, if the threat model does not describe the allowed images;
    ``margin``, if success is not that Rank-1 fails; and ``search``, if images are found in another
    way than by the recipe's optimizer.

    An attack sets the mode of the model and the global random states, and restores both, so it is
    not thread-safe.

    Attributes:
        objective: features (R, D) and guides to the values (R,) to maximize; a static or a plain
            method.
        transform: clean images (B, ..., 3, H, W) and a generator to other images, whose features
            become the guides' ``reference``, drawn anew for each pass; None for no reference.
        both_sides: whether ``prepare`` learns from rows of query and gallery instead of one side.
        success_first: whether the goal is that Rank-1 fails; else the objective alone counts.
        joint: whether the objective of a row depends on the other rows of the batch. Then rows that
            no longer take part keep their clean features.
        images_only: whether nothing but the attacked images is used, as in training: then no rank
            margin is computed and no zero gradient reported.
        threat: the threat model.
        recipe: how the objective is maximized.
        seed: seed of all random draws.
        passes: rows that passed the model forward and backward in ``prepare``.
    """

    # No ClassVar, because type checkers bind callable class variables to the instance.
    objective: Callable[[Tensor, Guides], Tensor]
    transform: Callable[[Tensor, torch.Generator], Tensor] | None = None
    both_sides: ClassVar[bool] = False
    joint: ClassVar[bool] = False
    success_first: bool = True
    images_only: bool = False
    threat: ThreatModel
    recipe: Recipe
    seed: int
    passes: int = 0

    @staticmethod
    def published(eps: float) -> Recipe:
        """Return the recipe of the paper for a budget in gray levels."""
        raise NotImplementedError

    @staticmethod
    def strong(eps: float) -> Recipe:
        """Return a recipe that depends on no step size; the same for every objective."""
        return Recipe("apgd", steps=100, random_start=True, restarts=5, early_stop=True)

    def __init__(
        self,
        threat: ThreatModel | None = None,
        recipe: Recipe | None = None,
        seed: int = 0,
        *,
        eps: float | None = None,
    ) -> None:
        """Attack within ``threat`` by ``recipe``.

        Args:
            threat: by default the L-inf ball of ``eps`` around each image.
            recipe: by default the published one.
            seed: seed of all random draws, 0 or more and below 2^32.
            eps: radius in gray levels, 0 to 255, in place of a threat model; 8 by default.

        Raises:
            InputError: both a threat model and eps are given, or eps or the seed is out of range.
        """
        if threat is not None and eps is not None:
            raise InputError(
                f"{type(self).__name__}: eps {eps} beside a threat model of eps {threat.eps:g}; "
                "expected one of them"
            )
        check_value("ATTACK.SEED", seed)
        if threat is None:
            threat = ThreatModel() if eps is None else ThreatModel(eps=eps)
        self.threat, self.seed = threat, seed
        self.recipe = self.published(threat.eps) if recipe is None else recipe

    @classmethod
    def from_config(cls, cfg: CfgNode, strong: bool = False) -> "Attack":
        """Read the ATTACK section; STEPS, STEP_SIZE, RESTARTS and EOT override the recipe."""
        threat = ThreatModel.from_config(cfg)
        recipe = (cls.strong if strong else cls.published)(threat.eps)
        names = ("steps", "step_size", "restarts", "eot")
        chosen = {name: cfg.ATTACK[name.upper()] for name in names if cfg.ATTACK[name.upper()]}
        return cls(threat, replace(recipe, **chosen), cfg.ATTACK.SEED)

    def __call__(
        self,
        model: Callable[..., Tensor],
        batch: dict[str, Any],
        gallery: dict[str, Any],
        *,
        metric: str = "cosine",
        junk: str | None = None,
    ) -> dict[str, Any]:
        """Attack a batch of queries, guided by a gallery; return the batch with attacked images.

        A call is not thread-safe: it sets the mode of the model, freezes its parameters and seeds
        the global random generators. It restores all of them afterwards.

        Warns, once, of a budget below one gray level, such as 8/255, of images of either side that
        look like shares of 255, and of steps that do not reach the budget.

        Args:
            model: images (B, T, 3, H, W) or (B, 3, H, W) in [0, 255] to features (B, D),
                differentiable; a ``torch.nn.Module``, which is attacked in evaluation mode, a
                function, or an ``Adapter``. It must treat each image by itself.
            batch: ``images``; ``targets`` (B,) person labels; ``camids`` (B,), optional. It is not
                changed.
            gallery: likewise; ``features`` (G, D) may take the place of ``images``.
            metric: "cosine" or "euclidean", how features are ranked.
            junk: name of a rule in ``plugins.protocol.JUNK`` for gallery items that a query
                ignores; by default "camera" where both sides have ``camids``, else "none".

        Raises:
            InputError: an entry is missing; images are not in [0, 255]; the features have the wrong
                shape, no gradient, or the objective is not finite; there is no such metric or rule;
                or the attack needs ``prepare`` first.
        """
        features_of = model if isinstance(model, Adapter) else ImageFeatures(model)
        if not callable(model):
            raise InputError(f"attack: the model is {type(model).__name__}; expected a callable")
        if isinstance(batch, Mapping) and isinstance(batch.get("images"), Tensor):
            size = batch["images"].shape[-2:]
            check_units_and_reach(type(self).__name__, self.threat, self.recipe, "ATTACK", size)
        with undisturbed(features_of):
            guides = Guides.from_batches(features_of, batch, gallery, metric=metric, junk=junk)
        return self.run(features_of, batch, guides).batch

    def prepare(self, features_of: FeaturesOf, batches: Iterable[tuple[dict, Guides]]) -> "Attack":
        """Return the attack once it knows all rows; to be called once, before ``run``.

        Most attacks need no preparation and return themselves.

        Args:
            features_of: as for ``run``.
            batches: all rows with their guides; it can be iterated over more than once.
        """
        return self

    def set_target(self, guides: Guides, rows: Tensor) -> Guides:
        """Return the guides with the target of each row, for rows (R,) as the data names them."""
        return guides

    def perturbation_set(self, batch: dict) -> PerturbationSet:
        """Return the images that may replace those of the batch."""
        return PerturbationSet(self.threat, batch)

    def margin(self, objective: Tensor, features: Tensor, guides: Guides) -> Tensor:
        """Return the margin (R,) by which the attack succeeds, above 0 where Rank-1 fails.

        Args:
            objective: (R,) of the features, without a graph.
            features: (R, D), likewise.
            guides: of the rows.
        """
        if self.images_only:
            return torch.zeros_like(objective)
        return objective if type(self).objective is rank_margin else rank_margin(features, guides)

    def search(self, tracker: BestTracker) -> None:
        """Find images, in one restart; whatever the tracker evaluates counts."""
        maximize(tracker)

    def run(self, features_of: FeaturesOf, batch: dict, guides: Guides) -> AttackResult:
        """Attack one batch, and restore random states and, for an ``Adapter``, the model.

        A call is not thread-safe, see ``__call__``.

        Images of whole numbers, such as uint8, and of half precision are attacked as float32.

        Args:
            features_of: batch to features (R, D), differentiable in the images, in ascending order
                of the rows; each row's features must not depend on the other rows.
            batch: ``images`` (B, T, 3, H, W) or (B, 3, H, W) in [0, 255]; ``rows`` (B,), all clips
                of a row in one batch; ``modalities`` (B,), all visible when absent. It is not
                changed.
            guides: what the objective may know, for the same R rows in the same order.

        Raises:
            InputError: images are not in [0, 255], they have no gradient, the objective is not
                finite, or ``perturbation_set`` returns none.
        """
        batch = float_images(batch)
        with undisturbed(features_of):
            seed_all_rng(self.seed)
            score = self.score_function(features_of, batch, guides)
            name = type(self).__name__
            allowed = require_set(self.perturbation_set(batch), name)
            tracker = BestTracker(score, allowed, self.recipe, self.seed, self.success_first, name)
            for restart in range(self.recipe.restarts):
                score.begin(restart)
                tracker.begin(restart)
                if tracker.finished:
                    break
                self.search(tracker)
            result = tracker.result()
        result = replace(result, forwards=result.forwards * score.passes_per_call)
        if not self.images_only:
            self.report_zero_gradient(result)
        return result

    def score_function(
        self, features_of: FeaturesOf, batch: dict, guides: Guides
    ) -> "ScoreFunction":
        """Return the function from images in place of the batch's to objective and margin."""
        return ScoreFunction(self, features_of, batch, guides)

    def report_zero_gradient(self, result: AttackResult) -> None:
        """Warn of rows that were not attacked because their gradient at the start is 0."""
        number = int(result.zero_gradient.sum())
        if number:
            logger.warning(
                "%s: the gradient at the start is 0 for %d of %d rows, so they were not attacked; "
                "a random start may help",
                type(self).__name__,
                number,
                len(result.zero_gradient),
            )


class ScoreFunction:
    """Computes objective and margin of images in place of those of a batch.

    Attributes:
        passes_per_call: forward passes of a row for one call.
    """

    def __init__(
        self, attack: Attack, features_of: FeaturesOf, batch: dict, guides: Guides
    ) -> None:
        """Score images for ``attack``.

        Args:
            attack: gives objective, margin, target and transform.
            features_of: see ``Attack.run``.
            batch: the clean batch.
            guides: of its rows; the attack's target is set here.
        """
        groups, rows = row_groups(batch)
        self.passes_per_call = 1 if attack.transform is None else 2
        self._attack, self._features_of, self._shape = attack, features_of, batch["images"].shape
        self._groups, self._guides = groups, attack.set_target(guides, rows)
        # On the CPU, so that no forward pass waits for the device to group the clips. Named, so
        # that a part of the batch keeps the names, from which random draws derive.
        self._batch = {**batch, "rows": rows[groups]}
        self._active: Tensor | None = None
        self._clips, self._active_batch, self._active_guides = groups, self._batch, self._guides
        self.begin(0)

    def begin(self, restart: int) -> None:
        """Begin a restart, with other draws of the transform."""
        self._restart, self._calls = restart, count()

    def __call__(self, images: Tensor, active: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Score images (B, T, 3, H, W); with a mask (R,), the active rows only.

        Returns:
            Objective and margin, one value for each active row.
        """
        images = images.view(self._shape)
        batch, guides = self._batch, self._guides
        if active is not None:
            self._select(active)
            images = images[self._clips.to(images.device)]
            batch, guides = self._active_batch, self._active_guides
        if self._attack.transform is not None:
            guides = self._transformed(batch, guides)
        features = self._features_of({**batch, "images": images}).to(guides.clean.device)
        objective, margin = self._evaluate(features, guides, active)
        return objective.to(images.device), margin.to(images.device)

    def _select(self, active: Tensor) -> None:
        """Select the active part of batch and guides, unless it is still the same."""
        if active is self._active:
            return
        clips = active.cpu()[self._groups]
        self._active, self._clips = active, clips.nonzero().flatten()
        self._active_batch = select_clips(self._batch, clips)
        if not self._attack.joint:
            self._active_guides = self._guides.select(active.to(self._guides.pids.device))

    def _evaluate(
        self, features: Tensor, guides: Guides, active: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Compute objective and margin of the features of the active rows."""
        attack = self._attack
        among_all = None if active is None or not attack.joint else active.to(features.device)
        if among_all is not None:
            features = guides.clean.index_put((among_all,), features)
        objective = attack.objective(features, guides)
        if mistake := value_mistake(objective, len(features)):
            raise InputError(f"{type(attack).__name__}: objective {mistake}")
        if features.requires_grad and not objective.requires_grad:
            raise InputError(
                f"{type(attack).__name__}: objective has no gradient with respect to the features; "
                "expected one without detach, torch.no_grad or a comparison as its value"
            )
        margin = attack.margin(objective.detach(), features.detach(), guides)
        return (
            (objective, margin) if among_all is None else (objective[among_all], margin[among_all])
        )

    def _transformed(self, batch: dict, guides: Guides) -> Guides:
        """Refer the guides to the features of the transformed clean images of the batch."""
        assert self._attack.transform is not None
        groups, rows = row_groups(batch)
        images, draw = batch["images"].clone(), next(self._calls)
        for index, row in enumerate(rows.tolist()):
            clips = groups == index
            generator = item_generator(self._attack.seed, row, self._restart, draw)
            images[clips] = self._attack.transform(images[clips], generator)
        with torch.no_grad():
            reference = self._features_of({**batch, "images": images})
        return guides.refer(reference.to(guides.clean.device))


def value_mistake(value: object, rows: int) -> str:
    """Say what is wrong with what an objective returned for R rows; "" for nothing."""
    if isinstance(value, Tensor) and value.shape == (rows,):
        return ""
    found = f"a tensor {tuple(value.shape)}" if isinstance(value, Tensor) else shortened(value)
    return f"returned {found}; expected a tensor ({rows},), one value for each row"


def require_set(allowed: object, label: str) -> PerturbationSet:
    """Return what ``perturbation_set`` returned; raise InputError if it is no set.

    Args:
        allowed: what it returned.
        label: names the attack, for the message.
    """
    if not isinstance(allowed, PerturbationSet):
        raise InputError(
            f"{label}: perturbation_set returned {shortened(allowed)}; expected a PerturbationSet"
        )
    return allowed


def build_attack(name: str, cfg: CfgNode, key: str) -> Attack:
    """Build the attack of that name, with its published recipe, or its strong one for "-strong".

    Warns, once, of a budget below one gray level and of steps that do not reach the budget.

    Args:
        name: registered name, such as "SMA" or "SMA-strong".
        cfg: config whose ATTACK section is read, and INPUT.SIZE_TEST.
        key: the config key that holds the name, for the message.

    Raises:
        InputError: there is no such attack, a key of the section has no such value, or steps do not
            reach an L2 budget.
    """
    attack = read_attack(name, cfg, key)
    check_units_and_reach(name, attack.threat, attack.recipe, "ATTACK", cfg.INPUT.SIZE_TEST)
    return attack


def read_attack(name: str, cfg: CfgNode, key: str) -> Attack:
    """Build an attack as ``build_attack`` does, without checking units and reach."""
    attack = lookup(ATTACK, name.removesuffix(STRONG), key)
    return attack.from_config(cfg, strong=name.endswith(STRONG))
