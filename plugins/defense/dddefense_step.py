"""The training of DDDefense (arXiv 2511.09933): softened attacks, a feature game, self-meta.

    craft -> FNES -> split by person -> discriminator -> L_mtr -> theta_temp -> L_mte -> update

Legend: B clips in the batch, D feature length. What the paper states and what is inferred or this
package's: see ``projects/dddefense``.
"""

from collections.abc import Callable
from typing import Any

import torch
from fastreid.config import CfgNode
from fastreid.utils import comm
from fastreid.utils.events import EventStorage
from torch import Tensor, nn
from torch.optim import Optimizer

from plugins.attacks import Attack
from plugins.attacks.guides import compared
from plugins.defense.adversarial_step import AdversarialStep, captured_outputs
from plugins.defense.centroids import CentroidBank, batch_centroids, farthest_negative
from plugins.defense.discriminator import Discriminator
from plugins.defense.fnes import Softening, soft_cross_entropy
from plugins.defense.inner_attack import Crafter, strength
from plugins.defense.self_meta import add_gradients, meta_gradients, split_identities
from plugins.defense.triplet_attacks import TripletAttack
from plugins.engine.distributed import average_gradients
from plugins.errors import InputError
from plugins.modeling.dual_norm import attacked_branch
from plugins.modeling.freeze import frozen_parameters, frozen_statistics
from plugins.modeling.meta_arch.vvi_baseline import log_scalar
from plugins.registry import STEP
from plugins.utils.random import item_generator

# Purposes of a batch's random draws; the attack draws without such a number.
SOFTENING, HALVES = 1, 2


@STEP.register()
class DDDefenseStep(AdversarialStep):
    """Adds three parts to AdversarialStep, each ENABLED on its own.

    - DEFENSE.FNES moves the attacked images further out and softens their labels, in the
      classification loss only; see ``fnes``. FNA, the inner attack of the paper, targets the
      farthest person of the batch, and so does the label, unless DEFENSE.CENTROIDS names the bank.
    - DEFENSE.DISCRIMINATOR makes attacked features look like clean ones; see ``discriminator``.
      Its features are those that the triplet loss sees, not those that are ranked. A clean batch
      passes the model for it, even if DEFENSE.CLEAN_WEIGHT is 0.
    - DEFENSE.META splits each batch by person and learns from one half what helps on the other;
      see ``self_meta``. All losses are computed on each half.
    """

    parts = ("FNES", "DISCRIMINATOR", "META")

    def __init__(
        self, cfg: CfgNode, model: nn.Module, data_loader: Any, optimizer: Optimizer
    ) -> None:
        """See :class:`AdversarialStep`.

        Raises:
            InputError: also where a part cannot work with the other settings or with this model.
        """
        super().__init__(cfg, model, data_loader, optimizer)
        check_parts(cfg, model)
        self.softening: Softening | None = None
        self.bank: CentroidBank | None = None
        self.discriminator: Discriminator | None = None
        if cfg.DEFENSE.FNES.ENABLED:
            self.softening = Softening.from_config(cfg)
            self.bank = CentroidBank.from_config(cfg)
        if cfg.DEFENSE.DISCRIMINATOR.ENABLED:
            # Forked, so that runs with and without it see the same batches; drawn on the CPU.
            with torch.random.fork_rng(devices=[]):
                self.discriminator = Discriminator.from_config(cfg)
            self.uses_clean = True
        self._losses_module = LossesModule(model, self.batch_losses)

    @classmethod
    def check_config(cls, cfg: CfgNode) -> None:
        """Check as ``AdversarialStep`` does, and the settings of FNES and META.

        Raises:
            InputError: also where a part cannot work with the other settings.
        """
        super().check_config(cfg)
        if cfg.DEFENSE.FNES.ENABLED:
            Softening.from_config(cfg)
            CentroidBank.from_config(cfg)
        if cfg.DEFENSE.META.ENABLED:
            check_meta(cfg, cls.inner_attack(cfg))

    def checkpointables(self) -> dict[str, object]:
        """Add the discriminator and the bank of centroids."""
        parts = {"discriminator": self.discriminator, "centroid_bank": self.bank}
        present = {name: part for name, part in parts.items() if part is not None}
        return super().checkpointables() | present

    def craft(self, batch: dict, index: int = 0) -> dict:
        """Return the attacked batch; FNES adds ``clean_shares`` w (B,) and ``farthest`` people.

        Images of FNES may leave the attack's budget. During the warm-up ``clean_shares`` are closer
        to 1, because the images are closer to clean ones. For the arguments see
        ``AdversarialStep.craft``.
        """
        attacked = super().craft(batch, index)
        if self.softening is None:
            return attacked
        shares = self.softening.draw(len(batch["targets"]), self.generator(index, SOFTENING))
        full = strength(self.epoch, self.cfg.DEFENSE.WARMUP_EPOCHS)
        return {
            **attacked,
            "images": self.softening.images(batch["images"], attacked["images"], shares),
            "clean_shares": torch.ones_like(shares).lerp(shares, full),
            "farthest": self.farthest(batch),
        }

    @torch.no_grad()
    def farthest(self, batch: dict) -> Tensor:
        """Find the farthest other person (B,) of each clip, by the features under attack."""
        assert isinstance(self.crafter, Crafter)
        adapter, clips = self.crafter.adapter, {k: v for k, v in batch.items() if k != "rows"}
        features = compared(adapter(clips), adapter.metric)
        targets = batch["targets"].to(features.device)
        if self.bank is None:
            means, people = batch_centroids(features, targets)
        else:
            self.bank.update(features, targets)
            means, people = self.bank.centroids()
        # As FNA compares them: the mean of normalized features is shorter than these.
        return farthest_negative(features, targets, compared(means, adapter.metric), people)

    def generator(self, index: int, purpose: int) -> torch.Generator:
        """Make a generator for a batch; its draws repeat in a resumed run."""
        seed = max(self.cfg.SEED, 0)
        return item_generator(seed, comm.get_rank(), self.iter, index, purpose)

    def backward(self, batches: list[dict], optimizer: Optimizer, **model_arguments: Any) -> dict:
        """Update the discriminator, then fill the gradients; see ``Step.backward``."""
        if self.discriminator is not None:
            self.discriminate(batches)
        if not self.cfg.DEFENSE.META.ENABLED:
            return super().backward(batches, optimizer, **model_arguments)
        optimizer.zero_grad()
        means: dict[str, Tensor] = {}
        for index, pair in enumerate(batches):
            gradients, losses = self.meta_gradients(pair, index)
            add_gradients(self._losses_module, gradients, share=1 / len(batches))
            for name, loss in losses.items():
                means[name] = means.get(name, 0) + loss / len(batches)
        average_gradients(p for group in optimizer.param_groups for p in group["params"])
        return means

    def discriminate(self, pairs: list[dict]) -> None:
        """Update the discriminator once, on all batches of an update of the model."""
        assert self.discriminator is not None
        clean = torch.cat([self.head_features(pair["clean"]) for pair in pairs])
        with attacked_branch(self.model):
            attacked = torch.cat([self.head_features(pair["attacked"]) for pair in pairs])
        log_scalar("discriminator/loss", self.discriminator.step(clean, attacked))

    @torch.no_grad()
    def head_features(self, batch: dict) -> Tensor:
        """Compute features (B, D) as in training, without a graph, recording or logging nothing."""
        quiet, captured = (
            frozen_statistics(self.model),
            captured_outputs(self.model.get_submodule("heads")),
        )
        with EventStorage(), quiet, self.autocast(), captured as outputs:
            self.model(batch)
        return outputs[0]["features"]

    def losses(self, batch: dict, attacked: dict) -> dict[str, Tensor]:
        """Return the losses of ``AdversarialStep``, with a soft ``loss_cls_attacked`` and L_E."""
        if self.softening is None and self.discriminator is None:
            return super().losses(batch, attacked)
        with captured_outputs(self.model.get_submodule("heads")) as outputs:
            losses = super().losses(batch, attacked)
        attacked_outputs = outputs[0]  # the attacked pass is the first
        if self.softening is not None:
            if "loss_cls_attacked" not in losses:
                raise InputError(
                    "DEFENSE.FNES.ENABLED: True softens the labels of loss_cls; found "
                    f"{', '.join(losses)}; expected CrossEntropyLoss in MODEL.LOSSES.NAME"
                )
            loss = self.soft_loss(attacked_outputs["cls_outputs"], attacked)
            losses["loss_cls_attacked"] = self.attacked_weight * loss
        if self.discriminator is not None:
            clean, features = outputs[1]["features"], attacked_outputs["features"]
            loss = self.discriminator.encoder_loss(clean, features)
            losses["loss_encoder"] = self.cfg.DEFENSE.DISCRIMINATOR.WEIGHT * loss
        return losses

    def soft_loss(self, logits: Tensor, attacked: dict) -> Tensor:
        """Compute the cross-entropy of the classifier's outputs (B, C) with the labels of FNES."""
        assert self.softening is not None
        labels = self.softening.labels(
            attacked["targets"].to(logits.device),
            attacked["farthest"].to(logits.device),
            attacked["clean_shares"],
            logits.shape[1],
        )
        return self.cfg.MODEL.LOSSES.CE.SCALE * soft_cross_entropy(logits, labels)

    def meta_gradients(self, pair: dict, index: int) -> tuple[dict, dict]:
        """Compute gradients and losses of a pair, see ``self_meta.meta_gradients``.

        If DEFENSE.META.ALPHA is 0, the inner step uses the learning rate of the optimizer's first
        group. Frozen layers, which no update moves, do not move in theta_temp either.
        """
        settings = self.cfg.DEFENSE.META
        halves = split_identities(pair["clean"]["targets"], self.generator(index, HALVES))
        train, test = (
            {kind: rows_of(batch, rows) for kind, batch in pair.items()} for rows in halves
        )
        scale: Tensor | float = 1.0
        if self.grad_scaler is not None:
            scale = self.grad_scaler.scale(torch.ones((), device=self.cfg.MODEL.DEVICE))
        with frozen_parameters(self.frozen()):
            return meta_gradients(
                self._losses_module,
                self._autocast_losses,
                train,
                test,
                settings.ALPHA or self.optimizer.param_groups[0]["lr"],
                second_order=settings.SECOND_ORDER,
                scale=scale,
            )

    def _autocast_losses(self, module: Callable, pair: dict) -> dict[str, Tensor]:
        with self.autocast():
            return module(pair)


class LossesModule(nn.Module):
    """Wraps a step's losses and the model in one module.

    ``functional_call`` of this module replaces the parameters in everything that the losses ask of
    the model.
    """

    def __init__(self, model: nn.Module, losses_of: Callable[[dict], dict[str, Tensor]]) -> None:
        super().__init__()
        self.model = model
        self.losses_of = losses_of

    def forward(self, pair: dict) -> dict[str, Tensor]:
        """Compute the losses of a pair of batches by name."""
        return self.losses_of(pair)


def rows_of(batch: dict, rows: Tensor) -> dict:
    """Return some rows (int64) of every entry of a batch."""
    return {
        key: value[rows.to(value.device)]
        if isinstance(value, Tensor)
        else [value[row] for row in rows.tolist()]
        for key, value in batch.items()
    }


def check_parts(cfg: CfgNode, model: nn.Module) -> None:
    """Raise InputError for a part of DEFENSE that cannot work with this config or model."""
    settings = cfg.DEFENSE
    for part in ("FNES", "DISCRIMINATOR"):
        if not settings[part].ENABLED:
            continue
        key = f"DEFENSE.{part}.ENABLED: True"
        if not settings.ATTACKED_WEIGHT:
            raise InputError(
                f"{key} needs the losses on attacked batches; found DEFENSE.ATTACKED_WEIGHT "
                f"{settings.ATTACKED_WEIGHT}, expected more than 0"
            )
        if not isinstance(getattr(model, "heads", None), nn.Module):
            raise InputError(
                f"{key} reads the outputs of one head; {type(model).__name__} does not have "
                "exactly one head; expected a meta-architecture such as Baseline or VVIBaseline"
            )


def check_meta(cfg: CfgNode, attack: Attack | None) -> None:
    """Raise InputError if self-meta cannot work with the inner attack."""
    if isinstance(attack, TripletAttack):
        raise InputError(
            "DEFENSE.META.ENABLED: True splits batches by person; found DEFENSE.INNER "
            f"{cfg.DEFENSE.INNER}, whose triplets join people; expected an attack such as FNA"
        )
