"""The training of DDDefense (arXiv 2511.09933): softened attacks, a feature game, self-meta.

    craft -> FNES -> split by person -> discriminator -> L_mtr -> theta_temp -> L_mte -> update

Legend: B clips in the batch, D feature length. What the paper states and what is inferred or this
package's: see ``projects/dddefense``.
"""

from collections.abc import Callable

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
from plugins.defense.inner_attack import strength
from plugins.defense.self_meta import add_gradients, meta_gradients, split_identities
from plugins.defense.triplet_attacks import TripletAttack
from plugins.engine.distributed import average_gradients
from plugins.errors import InputError
from plugins.modeling.dual_norm import attacked_branch
from plugins.modeling.freeze import frozen_parameters, frozen_statistics
from plugins.modeling.meta_arch.vvi_baseline import log_scalar
from plugins.registry import STEP
from plugins.utils.random import item_generator

# What a batch's own random draws are for; the attack's are made without such a number.
SOFTENING, HALVES = 1, 2


@STEP.register()
class DDDefenseStep(AdversarialStep):
    """AdversarialStep with three parts, each ENABLED on its own; with none it is AdversarialStep.

    - DEFENSE.FNES draws the attacked images further out and softens their labels, in the
      classification loss alone; see ``softening``. FNA, the inner attack of the paper, aims at the
      farthest person of the batch; so does the label, unless DEFENSE.CENTROIDS names the bank.
    - DEFENSE.DISCRIMINATOR makes attacked features look like clean ones; see ``discriminator``.
      Its features are those that the triplet sees, not those that are ranked. A clean batch passes
      the model for it, also where DEFENSE.CLEAN_WEIGHT is 0.
    - DEFENSE.META splits each batch by person and learns from one half what helps on the other;
      see ``self_meta``. All losses are taken of each half.
    """

    parts = ("FNES", "DISCRIMINATOR", "META")

    def __init__(self, cfg: CfgNode, model: nn.Module, data_loader, optimizer: Optimizer) -> None:
        """See :class:`AdversarialStep`.

        Raises:
            InputError: also where a part cannot work with the other settings or with this model.
        """
        super().__init__(cfg, model, data_loader, optimizer)
        check_parts(cfg, model)
        self.softening = self.bank = self.discriminator = None
        if cfg.DEFENSE.FNES.ENABLED:
            self.softening = Softening.from_config(cfg)
            self.bank = CentroidBank.from_config(cfg)
        if cfg.DEFENSE.DISCRIMINATOR.ENABLED:
            # Forked, so that runs with and without it are fed the same batches; drawn on the CPU.
            with torch.random.fork_rng(devices=[]):
                self.discriminator = Discriminator.from_config(cfg)
            self.uses_clean = True
        self._losses_module = LossesModule(model, self.batch_losses)

    @classmethod
    def check_config(cls, cfg: CfgNode) -> None:
        """As of ``AdversarialStep``, and the settings of FNES and META.

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
        """Adds the discriminator and the bank of centroids."""
        parts = {"discriminator": self.discriminator, "centroid_bank": self.bank}
        return super().checkpointables() | {n: p for n, p in parts.items() if p is not None}

    def craft(self, batch: dict, place: int = 0) -> dict:
        """The attacked batch, with FNES also ``clean_shares`` w (B,) and ``farthest`` people (B,).

        Images of FNES may leave the attack's budget. In the warm-up ``clean_shares`` are nearer to
        1, as the images are nearer to clean ones. Arguments: see ``AdversarialStep.craft``.
        """
        attacked = super().craft(batch, place)
        if self.softening is None:
            return attacked
        shares = self.softening.draw(len(batch["targets"]), self.generator(place, SOFTENING))
        full = strength(self.epoch, self.cfg.DEFENSE.WARMUP_EPOCHS)
        return {
            **attacked,
            "images": self.softening.images(batch["images"], attacked["images"], shares),
            "clean_shares": torch.ones_like(shares).lerp(shares, full),
            "farthest": self.farthest(batch),
        }

    @torch.no_grad()
    def farthest(self, batch: dict) -> Tensor:
        """The farthest other person (B,) of each clip, by the features that the attack moves."""
        adapter, clips = self.crafter.adapter, {k: v for k, v in batch.items() if k != "rows"}
        features = compared(adapter(clips), adapter.metric)
        targets = batch["targets"].to(features.device)
        if self.bank is None:
            means, people = batch_centroids(features, targets)
        else:
            self.bank.update(features, targets)
            means, people = self.bank.centroids()
        # As FNA compares them: a mean of features of length 1 is shorter than they are.
        return farthest_negative(features, targets, compared(means, adapter.metric), people)

    def generator(self, place: int, purpose: int) -> torch.Generator:
        """Of the draws of a batch; seeded anew, so that a resumed run repeats them."""
        seed = max(self.cfg.SEED, 0)
        return item_generator(seed, comm.get_rank(), self.iter, place, purpose)

    def backward(self, batches: list[tuple], optimizer: Optimizer, **model_arguments) -> dict:
        """The discriminator's turn, then the gradients; see ``Step.backward``."""
        if self.discriminator is not None:
            self.discriminate(batches)
        if not self.cfg.DEFENSE.META.ENABLED:
            return super().backward(batches, optimizer, **model_arguments)
        optimizer.zero_grad()
        means: dict[str, Tensor] = {}
        for place, pair in enumerate(batches):
            gradients, losses = self.meta_gradients(pair, place)
            add_gradients(self._losses_module, gradients, share=1 / len(batches))
            for name, loss in losses.items():
                means[name] = means.get(name, 0) + loss / len(batches)
        average_gradients(p for group in optimizer.param_groups for p in group["params"])
        return means

    def discriminate(self, pairs: list[tuple[dict, dict]]) -> None:
        """One update of the discriminator, on all batches of an update of the model."""
        clean = torch.cat([self.observed(batch) for batch, _ in pairs])
        with attacked_branch(self.model):
            attacked = torch.cat([self.observed(batch) for _, batch in pairs])
        log_scalar("discriminator/loss", self.discriminator.step(clean, attacked))

    @torch.no_grad()
    def observed(self, batch: dict) -> Tensor:
        """Features (B, D) as in training, without graph; nothing is recorded or logged."""
        quiet = frozen_statistics(self.model)
        with EventStorage(), quiet, self.autocast(), captured_outputs(self.model.heads) as outputs:
            self.model(batch)
        return outputs[0]["features"]

    def losses(self, batch: dict, attacked: dict) -> dict[str, Tensor]:
        """As ``AdversarialStep``; ``loss_cls_attacked`` is softened, ``loss_encoder`` is L_E."""
        if self.softening is None and self.discriminator is None:
            return super().losses(batch, attacked)
        with captured_outputs(self.model.heads) as outputs:
            losses = super().losses(batch, attacked)
        hurt = outputs[0]  # the attacked pass is the first
        if self.softening is not None:
            if "loss_cls_attacked" not in losses:
                raise InputError(
                    "DEFENSE.FNES.ENABLED: True softens the labels of loss_cls; found "
                    f"{', '.join(losses)}; expected CrossEntropyLoss in MODEL.LOSSES.NAME"
                )
            loss = self.soft_loss(hurt["cls_outputs"], attacked)
            losses["loss_cls_attacked"] = self.attacked_weight * loss
        if self.discriminator is not None:
            loss = self.discriminator.encoder_loss(outputs[1]["features"], hurt["features"])
            losses["loss_encoder"] = self.cfg.DEFENSE.DISCRIMINATOR.WEIGHT * loss
        return losses

    def soft_loss(self, logits: Tensor, attacked: dict) -> Tensor:
        """Cross-entropy of the classifier's outputs (B, classes) with the labels of FNES."""
        labels = self.softening.labels(
            attacked["targets"].to(logits.device),
            attacked["farthest"].to(logits.device),
            attacked["clean_shares"],
            logits.shape[1],
        )
        return self.cfg.MODEL.LOSSES.CE.SCALE * soft_cross_entropy(logits, labels)

    def meta_gradients(self, pair: tuple[dict, dict], place: int) -> tuple[dict, dict]:
        """Gradients and losses of a (clean, attacked) pair, see ``self_meta.meta_gradients``.

        The optimizer's rate, where DEFENSE.META.ALPHA is 0, is that of its first group. Frozen
        layers, which no update moves, stay where they are in theta_temp too.
        """
        settings = self.cfg.DEFENSE.META
        halves = split_identities(pair[0]["targets"], self.generator(place, HALVES))
        train, test = (tuple(rows_of(batch, rows) for batch in pair) for rows in halves)
        scale = 1.0
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

    def _autocast_losses(self, module: Callable, pair: tuple[dict, dict]) -> dict[str, Tensor]:
        with self.autocast():
            return module(pair)


class LossesModule(nn.Module):
    """A step's losses as a module around the model.

    ``functional_call`` of it lends its parameters to all that the losses ask of the model.
    """

    def __init__(self, model: nn.Module, losses_of: Callable[[tuple], dict[str, Tensor]]) -> None:
        super().__init__()
        self.model = model
        self.losses_of = losses_of

    def forward(self, pair: tuple[dict, dict]) -> dict[str, Tensor]:
        """Losses by name of a (clean, attacked) pair."""
        return self.losses_of(pair)


def rows_of(batch: dict, rows: Tensor) -> dict:
    """Some rows (int64) of a batch, of all that it holds."""
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
                f"{key} reads what one head returns; {type(model).__name__} has not one head; "
                "expected a meta-architecture such as Baseline or VVIBaseline"
            )
    game = settings.DISCRIMINATOR
    if not game.WEIGHT >= 0:
        raise InputError(f"DEFENSE.DISCRIMINATOR.WEIGHT: {game.WEIGHT}; expected 0 or more")


def check_meta(cfg: CfgNode, attack: Attack | TripletAttack) -> None:
    """Raise InputError where self-meta cannot work with DEFENSE.META or with the inner attack."""
    settings = cfg.DEFENSE
    if not settings.META.ALPHA >= 0:
        raise InputError(f"DEFENSE.META.ALPHA: {settings.META.ALPHA}; expected 0 or more")
    if isinstance(attack, TripletAttack):
        raise InputError(
            "DEFENSE.META.ENABLED: True splits batches by person; found DEFENSE.INNER "
            f"{settings.INNER}, whose triplets join people; expected an attack such as FNA"
        )
