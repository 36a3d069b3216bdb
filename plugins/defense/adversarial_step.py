"""Metric adversarial training: one iteration on a batch and its attacked version.

Legend: B clips in the batch, D feature length.
"""

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from fastreid.config import CfgNode
from fastreid.utils import comm
from fastreid.utils.events import EventStorage
from torch import Tensor, nn
from torch.optim import Optimizer

from plugins.attacks import Attack
from plugins.attacks.guides import compared
from plugins.attacks.own_objective import try_own_objective
from plugins.attacks.own_set import try_own_set
from plugins.defense.inner_attack import BatchCrafter, Crafter, build_inner_attack, strength
from plugins.defense.own_step import check_crafted, check_methods
from plugins.defense.triplet_attacks import (
    TRIPLET_ATTACKS,
    HardnessManipulation,
    TripletAttack,
)
from plugins.defense.triplets import triplet_hinge
from plugins.engine.steps import Step
from plugins.errors import InputError
from plugins.modeling.dual_norm import attacked_branch
from plugins.modeling.meta_arch.vvi_baseline import log_scalar
from plugins.registry import STEP
from plugins.utils.random import derive_seed

# Keys of DEFENSE: weights of the losses that compare features; weights of all losses.
FEATURE_WEIGHTS = ("DISTANCE_WEIGHT", "TRIPLET_WEIGHT", "ICS_WEIGHT")
WEIGHTS = ("CLEAN_WEIGHT", "ATTACKED_WEIGHT", *FEATURE_WEIGHTS)


@STEP.register()
class AdversarialStep(Step):
    """Trains on clean batches, on attacked batches, and on losses that compare their features.

    It takes the losses of ``model(batch)`` by name, for any meta-architecture. With DEFENSE.INNER

    - SMA: GOAT(0, 0), Bouniot et al., CVPRW 2020; GOAT: their guided form;
    - FNA: what DDDefense (arXiv 2511.09933) calls metric adversarial training;
    - SMA with DISTANCE_WEIGHT beta and no ATTACKED_WEIGHT: TRADES (Zhang et al., ICML 2019), L(x) +
      beta max_d |f(x + d) - f(x)|^2;
    - AntiCollapse with TRIPLET_WEIGHT: ACT, Zhou et al., arXiv 2106.03614;
    - HardnessManipulation with TRIPLET_WEIGHT and ICS_WEIGHT: HM[S, g_LGA] & ICS, Zhou and Patel,
      CVPR 2022.

    A subclass changes ``craft``, ``losses`` or ``update``. Only the deployed network is attacked,
    so the adversary of SADSTRM is not trained by this step. With MODEL.DUAL_NORM each kind of batch
    has its own branch of BatchNorm.
    """

    def __init__(
        self, cfg: CfgNode, model: nn.Module, data_loader: Any, optimizer: Optimizer
    ) -> None:
        """See :class:`Step`.

        Raises:
            InputError: from ``Crafter``; all weights are 0; or the model lacks compared features.
        """
        super().__init__(cfg, model, data_loader, optimizer)
        weights = loss_weights(cfg)
        self.clean_weight, self.attacked_weight, self.distance_weight = weights[:3]
        self.triplet_weight, self.ics_weight = weights[3:]
        self.crafter = self.build_crafter()
        attack = self.crafter.attack
        self.gradual = attack.gradual if isinstance(attack, HardnessManipulation) else None
        check_attack(cfg, attack)
        self.compares = bool(self.distance_weight or self.triplet_weight or self.ics_weight)
        self.uses_attacked = bool(self.attacked_weight or self.compares)
        anchored = self.triplet_weight and isinstance(attack, TripletAttack) and attack.clean_anchor
        self.uses_clean = bool(
            self.clean_weight or self.distance_weight or self.ics_weight or anchored
        )
        heads = getattr(model, "heads", None)
        neck = getattr(heads, "bottleneck", None)
        if self.compares and getattr(heads, "frame_level", False):
            raise InputError(
                "MODEL.HEADS.NECK_LEVEL: frame, but DEFENSE compares the features of clips behind "
                "the BNNeck; expected clip"
            )
        if self.compares and not isinstance(neck, nn.Module):
            key = next(key for key in FEATURE_WEIGHTS if cfg.DEFENSE[key])
            raise InputError(
                f"DEFENSE.{key}: {cfg.DEFENSE[key]}; {type(model).__name__} does not have exactly "
                "one head with a bottleneck, whose features could be compared; expected 0"
            )

    @classmethod
    def check_config(cls, cfg: CfgNode) -> None:
        """Check as ``Step`` does, and the weights and the inner attack of DEFENSE.

        Raises:
            InputError: from ``build_inner_attack``; all weights are 0; the weights ask for triplets
                that the attack does not make; or a subclass's method takes other arguments.
        """
        super().check_config(cfg)
        check_methods(cls)
        loss_weights(cfg)
        attack = cls.inner_attack(cfg)
        check_attack(cfg, attack)
        if attack is not None:
            for attempt in (try_own_objective, try_own_set):
                attempt(attack, cfg.DEFENSE.INNER, "DEFENSE.INNER", cfg)

    @classmethod
    def inner_attack(cls, cfg: CfgNode) -> Attack | None:
        """Build the attack of ``build_crafter`` from the config alone; None if there is none."""
        return build_inner_attack(cfg)

    def branches(self) -> set[str]:
        """Return the kinds of batches that a loss needs."""
        uses = {"clean": self.uses_clean, "attacked": self.uses_attacked}
        return {branch for branch, used in uses.items() if used}

    def build_crafter(self) -> BatchCrafter:
        """Build what attacks batches."""
        return Crafter(self.model, self.cfg)

    def checkpointables(self) -> dict[str, object]:
        """Add the state from which HM's destination follows."""
        more = {} if self.gradual is None else {"gradual_adversary": self.gradual}
        return {**super().checkpointables(), **more}

    def run_step(self) -> None:
        """Craft, then forward, backward and update.

        Raises:
            InputError: a subclass's ``craft`` returns no batch with such images.
        """
        batches, data_time = self.next_batches()
        pairs = [
            {"clean": batch, "attacked": self.craft(batch, index)}
            for index, batch in enumerate(batches)
        ]
        of_triplets = ["triplets"] if self.triplet_weight or self.ics_weight else []
        for pair in pairs:
            check_crafted(self, pair["clean"], pair["attacked"], of_triplets)
        losses = self.backward(pairs, self.optimizer)
        self.write_metrics(losses, data_time)
        self.update()
        if self.gradual is not None:
            self.gradual.observe(float(losses["loss_triplets"]) / self.triplet_weight)

    def craft(self, batch: dict, index: int = 0) -> dict:
        """Return the attacked batch to train on.

        Its draws follow from (SEED, rank, iteration, index), so that a resumed run repeats them;
        the global random states do not change.

        Args:
            batch: from the loader; it is not changed.
            index: index of the batch among those of one update.
        """
        if not self.uses_attacked:
            return batch
        seed = derive_seed(max(self.cfg.SEED, 0), comm.get_rank(), self.iter, index)
        attacked = self.crafter(batch, self.epoch, seed)
        eps = strength(self.epoch, self.cfg.DEFENSE.WARMUP_EPOCHS) * self.cfg.DEFENSE.EPS
        log_scalar("attack/eps", torch.tensor(eps))
        log_scalar("attack/moved", (attacked["images"] - batch["images"]).abs().mean())
        return attacked

    def losses(self, batch: dict, attacked: dict) -> dict[str, Tensor]:
        """Return the weighted losses by name, those of the attacked batch as name + "_attacked".

        A batch that no loss needs is not passed through the model. Both passes are in training
        mode, each normalized by its own statistics, which are recorded. The model logs its scalars,
        such as its accuracy, in the clean pass, or in the attacked pass if that is the only one.
        """
        losses: dict[str, Tensor] = {}
        features = attacked_features = None
        if self.uses_attacked:
            # A separate storage takes the scalars that are not to be logged.
            unlogged = EventStorage() if self.uses_clean else contextlib.nullcontext()
            with attacked_branch(self.model), unlogged:
                attacked_losses, attacked_features = self.forward(attacked)
            if self.attacked_weight:
                for name, loss in attacked_losses.items():
                    losses[f"{name}_attacked"] = self.attacked_weight * loss
        if self.uses_clean:
            clean_losses, features = self.forward(batch)
            if self.clean_weight:
                losses |= {name: self.clean_weight * loss for name, loss in clean_losses.items()}
        if self.distance_weight:
            assert features is not None and attacked_features is not None
            gap = feature_gap(attacked_features, features, self.cfg.TEST.METRIC)
            losses["loss_distance"] = self.distance_weight * gap
        if self.triplet_weight or self.ics_weight:
            assert attacked_features is not None
            losses |= self.triplet_losses(features, attacked_features, attacked["triplets"])
        return losses

    def triplet_losses(
        self, features: Tensor | None, attacked_features: Tensor, triplets: Tensor
    ) -> dict[str, Tensor]:
        """Return L_T of the attacked triplets and ICS, weighted.

        ICS is L_T(a, a~, p; 0) with clean a and p.

        Args:
            features: (B, D) of the clean batch; None where no loss needs them.
            attacked_features: (B, D).
            triplets: (N, 3) indices in the batch of anchor, positive and negative.
        """
        attack = self.crafter.attack
        losses: dict[str, Tensor] = {}
        assert isinstance(attack, TripletAttack)
        anchors, positives, negatives = self._parts(attacked_features, triplets)
        clean_anchors, clean_positives = anchors, positives
        if features is not None:
            clean_anchors, clean_positives, _ = self._parts(features, triplets)
        if self.triplet_weight:
            compared_anchors = clean_anchors if attack.clean_anchor else anchors
            loss = triplet_hinge(
                compared_anchors, positives, negatives, margin=attack.margin_of_loss
            )
            losses["loss_triplets"] = self.triplet_weight * loss
        if self.ics_weight:
            loss = triplet_hinge(clean_anchors, anchors, clean_positives, margin=0)
            losses["loss_intra_class"] = self.ics_weight * loss
        return losses

    def _parts(self, features: Tensor, triplets: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return anchors, positives and negatives, (N, D) each, as TEST.METRIC compares them."""
        parts = compared(features.float(), self.cfg.TEST.METRIC)[triplets]
        anchors, positives, negatives = parts.unbind(dim=1)
        return anchors, positives, negatives

    def forward(self, batch: dict) -> tuple[dict[str, Tensor], Tensor | None]:
        """Return the model's losses of a batch and, if a loss compares them, its features (B, D).

        The features are those behind the neck, which are ranked and attacked. The cosines of the
        features before the neck, which the triplet loss sees, differ far less.
        """
        if not self.compares:
            return self.model(batch), None
        with captured_outputs(self.model.get_submodule("heads.bottleneck")) as outputs:
            losses = self.model(batch)
        return losses, outputs[0].flatten(1)

    def batch_losses(self, batch: dict, **model_arguments: Any) -> dict[str, Tensor]:
        """Return the losses of a pair of batches, ``clean`` and ``attacked``."""
        return self.losses(batch["clean"], batch["attacked"])


def feature_gap(features: Tensor, others: Tensor, metric: str) -> Tensor:
    """Average |f - o|^2 between features (B, D) over the batch, as ``metric`` compares them.

    For "cosine" that is 2 (1 - cos). It is computed in float32, also for half-precision features.
    """
    features, others = (compared(values.float(), metric) for values in (features, others))
    return (features - others).square().sum(dim=1).mean()


@contextlib.contextmanager
def captured_outputs(module: nn.Module) -> Iterator[list]:
    """Yield a list that receives what ``module`` returns each time it is called."""
    captured: list = []
    hook = module.register_forward_hook(lambda _, __, outputs: captured.append(outputs))
    try:
        yield captured
    finally:
        hook.remove()


def loss_weights(cfg: CfgNode) -> list[float]:
    """Return the WEIGHTS of DEFENSE.

    Raises:
        InputError: all are 0.
    """
    weights = [cfg.DEFENSE[key] for key in WEIGHTS]
    if not any(weights):
        raise InputError(f"DEFENSE: {', '.join(WEIGHTS)} are all 0; expected one above 0")
    return weights


def check_attack(cfg: CfgNode, attack: Attack | None) -> None:
    """Raise InputError unless the attack makes the triplets that the weights of DEFENSE ask for."""
    settings = cfg.DEFENSE
    for key in ("TRIPLET_WEIGHT", "ICS_WEIGHT"):
        if settings[key] and not isinstance(attack, TripletAttack):
            raise InputError(
                f"DEFENSE.{key}: {settings[key]}; {settings.INNER} attacks no triplets; expected "
                f"0, or DEFENSE.INNER {' or '.join(TRIPLET_ATTACKS)}"
            )
    if settings.ICS_WEIGHT and isinstance(attack, TripletAttack) and attack.clean_anchor:
        raise InputError(
            f"DEFENSE.ICS_WEIGHT: {settings.ICS_WEIGHT}; {settings.INNER} does not attack anchors; "
            "expected 0, or DEFENSE.INNER HardnessManipulation"
        )
    if isinstance(attack, HardnessManipulation) and not settings.TRIPLET_WEIGHT:
        raise InputError(
            "DEFENSE.TRIPLET_WEIGHT: 0.0; the destination of HardnessManipulation follows the "
            "triplet loss; expected more than 0"
        )
