"""The inner maximization of adversarial training: from a training batch to an attacked batch.

Legend: B clips in the batch. Pixels, budgets and steps are in gray levels, 0 to 255.
"""

import copy
from dataclasses import replace
from typing import Protocol

import torch
from fastreid.config import CfgNode
from torch import nn

from plugins.attacks import Adapter, Attack, Guides, Recipe, ThreatModel
from plugins.attacks.attack import STRONG, read_attack
from plugins.attacks.budget import check_reach, check_units_and_reach
from plugins.attacks.features import float_images
from plugins.attacks.optimizers import GRADIENT_FREE
from plugins.defense.triplet_attacks import TRIPLET_ATTACKS, TripletAttack
from plugins.errors import InputError
from plugins.modeling.meta_arch.vvi_baseline import log_scalar
from plugins.registry import ATTACK, known
from plugins.utils.names import closest_names, list_names


class BatchCrafter(Protocol):
    """Attacks training batches."""

    @property
    def attack(self) -> Attack | None:
        """The attack at full strength; None if the training itself is the attack."""
        ...

    def __call__(self, batch: dict, epoch: int, seed: int) -> dict:
        """Return the attacked batch of an epoch; ``seed`` is the seed of all random draws."""
        ...


class Crafter:
    """Attacks training batches, guided by nothing but the batch itself.

    The features are those that are ranked, in evaluation mode, so that BatchNorm neither mixes the
    clips of a batch nor records them. They are in float32 also under SOLVER.AMP, because the
    gradient of a pixel is too small for float16. The start is random, except for an attack on
    triplets, because some objectives have no gradient at a clean image. Each clip keeps the best
    images that it passed. Of an attack's own recipe only the momentum counts.

    The images carry no graph, and no gradient of a parameter is computed. A derivative through the
    crafting would be zero anyway, because it steps by signs.

    Attributes:
        adapter: gives the features; mirror images and further clips of TEST are left out.
        attack: DEFENSE.INNER, at full strength.
    """

    def __init__(self, model: nn.Module, cfg: CfgNode) -> None:
        """Read DEFENSE, and the threat model ATTACK except for its EPS.

        Warns, once, of a budget below one gray level and of steps that do not reach the budget.

        Raises:
            InputError: from ``build_inner_attack``.
        """
        self.attack = build_inner_attack(cfg)
        check_units_and_reach(
            attack_name(cfg),
            self.attack.threat,
            self.attack.recipe,
            "DEFENSE",
            cfg.INPUT.SIZE_TRAIN,
        )
        self.adapter = Adapter(model, single_view(cfg))
        self._warmup_epochs = cfg.DEFENSE.WARMUP_EPOCHS

    def attack_of(self, epoch: int, seed: int) -> Attack:
        """Return the attack of an epoch: budget and steps grow with :func:`strength`."""
        share = strength(epoch, self._warmup_epochs)
        threat, recipe = self.attack.threat, self.attack.recipe
        attack = copy.copy(self.attack)
        attack.threat = replace(threat, eps=share * threat.eps)
        attack.recipe = replace(recipe, step_size=share * recipe.step_size)
        attack.seed = seed
        return attack

    def __call__(self, batch: dict, epoch: int, seed: int) -> dict:
        """Return the batch with attacked ``images``; model and random states are as before.

        Logs how far the steps moved the images from where they began, in gray levels, a mean over
        all pixels: 0 where an attack is nothing but its random start.

        Args:
            batch: ``images`` (B, T, 3, H, W) or (B, 3, H, W) in [0, 255]; ``targets`` (B,). It is
                not changed.
            epoch: epoch of the whole run.
            seed: seed of all random draws, below 2^32.

        Returns:
            A new batch; with a budget of 0 the same one. An attack on triplets adds ``triplets``
            (N, 3), indices in the batch of anchor, positive and negative.

        Raises:
            InputError: images are not in [0, 255], or the objective is not finite.
        """
        attack = self.attack_of(epoch, seed)
        if attack.threat.eps == 0 and not isinstance(attack, TripletAttack):
            return batch
        # A clip may come twice, each time augmented in its own way: every one is a row of its own.
        clips = {key: value for key, value in float_images(batch).items() if key != "rows"}
        with torch.autocast(batch["images"].device.type, enabled=False):
            with torch.no_grad():
                clean = self.adapter(clips)
            targets = batch["targets"].to(clean.device)
            metric = self.adapter.metric
            guides = Guides.among(clean, targets, metric=metric, source="training batch")
            attack = attack.prepare(self.adapter, [(clips, guides)])
            if isinstance(attack, TripletAttack):
                batch = {**batch, "triplets": attack.triplets}
            if attack.threat.eps == 0:
                return batch
            result = attack.run(self.adapter, clips, guides)
        log_scalar("attack/moved_from_start", result.change_from_start.mean())
        return {**batch, "images": result.images}


def build_inner_attack(cfg: CfgNode) -> Attack:
    """Build DEFENSE.INNER with the budget and the steps of DEFENSE.

    Raises:
        InputError: there is no such attack, it cannot run on one batch, or steps do not reach an
            L2 budget.
    """
    settings = cfg.DEFENSE
    attack = read_inner_attack(cfg)
    on_triplets = isinstance(attack, TripletAttack)
    attack.threat = replace(ThreatModel.from_config(cfg), eps=settings.EPS)
    attack.recipe = Recipe(
        steps=settings.STEPS,
        step_size=settings.STEP_SIZE,
        random_start=not on_triplets,
        momentum=attack.recipe.momentum,
        skip_successful=on_triplets,
    )
    # Whether Rank-1 fails within a batch is not the goal of training.
    attack.images_only, attack.success_first = True, on_triplets
    check_reach(attack_name(cfg), attack.threat, attack.recipe, "DEFENSE")
    return attack


def attack_name(cfg: CfgNode) -> str:
    """Return the key of the inner attack with its value, for messages."""
    return f"DEFENSE.INNER {cfg.DEFENSE.INNER}"


def read_inner_attack(cfg: CfgNode) -> Attack:
    """Build the attack DEFENSE.INNER with a recipe of its own.

    Raises:
        InputError: there is no such attack, or it cannot run on one batch.
    """
    name = cfg.DEFENSE.INNER
    if name in TRIPLET_ATTACKS:
        return TRIPLET_ATTACKS[name](cfg)
    plain = name.removesuffix(STRONG)
    if plain not in known(ATTACK):
        choices = closest_names(name, [*known(ATTACK), *TRIPLET_ATTACKS])
        raise InputError(
            f"DEFENSE.INNER: no ATTACK is named '{name}'; known: {list_names(choices)}"
        )
    if plain != name:
        raise InputError(
            f"DEFENSE.INNER: {name}; expected {plain}: DEFENSE.STEPS and STEP_SIZE set the "
            "strength of the attack in training"
        )
    attack = read_attack(name, cfg, "DEFENSE.INNER")
    if attack.recipe.optimizer in GRADIENT_FREE:
        raise InputError(
            f"DEFENSE.INNER: {name} uses no gradient; expected an attack that does, such as SMA, "
            "FNA or GOAT"
        )
    if type(attack).prepare is not Attack.prepare:
        raise InputError(
            f"DEFENSE.INNER: {name} learns from a whole data set before it attacks; "
            "expected an attack that needs one batch, such as SMA, FNA or GOAT"
        )
    return attack


def strength(epoch: int, warmup_epochs: int) -> float:
    """Return the share of the full budget in an epoch: from 0 in the first to 1 after the warm-up.

    >>> [strength(epoch, 4) for epoch in range(6)]
    [0.0, 0.25, 0.5, 0.75, 1.0, 1.0]
    """
    return min(1.0, epoch / warmup_epochs) if warmup_epochs else 1.0


def single_view(cfg: CfgNode) -> CfgNode:
    """Return the config with one view of each item: no mirror images, one clip."""
    cfg = cfg.clone()
    cfg.defrost()
    cfg.TEST.FLIP.ENABLED = False
    cfg.TEST.CLIPS = 1
    return cfg
