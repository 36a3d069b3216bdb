"""SADSTRM, arXiv 2307.03903: a re-ID network and the self-attack it trains against.

What the paper states and what is this package's design: see ``projects/sadstrm``. Symbols and
shapes: see ``plugins.modeling.self_attack``.
"""

from collections.abc import Iterator
from functools import partial
from typing import NamedTuple

import torch
from fastreid.config import CfgNode, configurable
from torch import Tensor, nn

from plugins.modeling.diagnostics import accuracy
from plugins.modeling.freeze import frozen_parameters, frozen_statistics
from plugins.modeling.losses.functional import consistency_loss
from plugins.modeling.meta_arch.vvi_baseline import VVIBaseline, log_scalar
from plugins.modeling.self_attack import (
    Attacker,
    GradientAttack,
    RandomAttack,
    build_self_attack,
    relative_norm,
)
from plugins.registry import META_ARCH


class Labels(NamedTuple):
    """Of a batch of B clips, on the model's device.

    Attributes:
        targets: (B,) persons.
        modalities: (B,).
        cameras: (B,), from 0.
        frames: of a clip, T.
    """

    targets: Tensor
    modalities: Tensor
    cameras: Tensor
    frames: int

    def of_frames(self, labels: Tensor) -> Tensor:
        """Labels (B,) of clips as those of their frames, (B * T,)."""
        return labels.repeat_interleave(self.frames)


@META_ARCH.register()
class SADSTRM(VVIBaseline):
    """VVIBaseline with an attacker on its stem maps; who moves is said by ``turn``.

    Args:
        attack: maps, modalities and L_A to Delta; used in training only.
        lambda_a: weight of the losses on attacked features.
        lambda_c: weight of the consistency of clean and attacked predictions.
        **baseline: the arguments of VVIBaseline.
    """

    @configurable
    def __init__(
        self,
        *,
        attack: Attacker | RandomAttack,
        lambda_a: float,
        lambda_c: float,
        **baseline,
    ):
        super().__init__(**baseline)
        self.attack = attack
        self.lambda_a = lambda_a
        self.lambda_c = lambda_c

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict:
        """Build VVIBaseline's parts and the attacker."""
        return {
            **super().from_config(cfg),
            "attack": build_self_attack(cfg),
            "lambda_a": cfg.MODEL.SELF_ATTACK.LAMBDA_A,
            "lambda_c": cfg.MODEL.SELF_ATTACK.LAMBDA_C,
        }

    def adversary_parameters(self) -> Iterator[nn.Parameter]:
        """What the attack turn trains; nothing when Delta is random."""
        return self.attack.parameters()

    def defender_parameters(self) -> Iterator[nn.Parameter]:
        """What every other turn trains: all but the attacker."""
        for part in self.children():
            if part is not self.attack:
                yield from part.parameters()

    def forward(self, batch: dict, turn: str | None = None) -> dict[str, Tensor] | Tensor:
        """As VVIBaseline, or one player's losses.

        Args:
            batch: as for VVIBaseline; with an L_cam also ``camids`` (B,), from 0.
            turn: in training, ``"attack"`` for the attacker's losses, ``"defence"`` for the
                defender's; None for the plain losses of a network that is not attacked.
        """
        if turn is None:
            return super().forward(batch)
        assert self.training, f"turn '{turn}' is for training; evaluation has no attacker"
        if turn == "attack":
            return self.attack_turn(batch)
        assert turn == "defence", f"turn is 'attack', 'defence' or None, found '{turn}'"
        return self.defence_turn(batch)

    def attack_turn(self, batch: dict) -> dict[str, Tensor]:
        """L_A: the re-ID network takes part, but gets neither gradients nor new BN statistics.

        With it what trains the classifiers of L_mod and L_cam, on clean maps; of an attack by
        gradient that alone.
        """
        if isinstance(self.attack, RandomAttack):
            return {}
        images, labels = self.unpack_labelled(batch)
        modalities, cameras = map(labels.of_frames, (labels.modalities, labels.cameras))
        with torch.no_grad(), frozen_statistics(self):
            maps = self.stem_maps(images, labels.modalities)
        classifier_losses = self.attack.classifier_losses(maps, modalities, cameras)
        if isinstance(self.attack, GradientAttack):
            return classifier_losses
        with torch.no_grad(), frozen_statistics(self):
            guides = self.labelled_outputs(maps, labels)["features"]
        attacked_maps = maps + self.attack(maps, modalities)
        return {**self.attacker_losses(attacked_maps, guides, labels), **classifier_losses}

    def attacker_losses(
        self, attacked_maps: Tensor, guides: Tensor, labels: Labels
    ) -> dict[str, Tensor]:
        """L_A by name; the re-ID network takes part, but gets neither gradients nor statistics.

        Args:
            attacked_maps: F0 + Delta, (N, 64, h, w).
            guides: clean features (B, D), without a gradient.
            labels: of the clips.
        """
        modalities, cameras = map(labels.of_frames, (labels.modalities, labels.cameras))
        with frozen_statistics(self), frozen_parameters(self.defender_parameters()):
            attacked = self.labelled_outputs(attacked_maps, labels)
        return {
            **self.attack.reid_losses(attacked, guides, labels.targets),
            **self.attack.interference_losses(attacked_maps, modalities, cameras),
        }

    def labelled_outputs(self, maps: Tensor, labels: Labels) -> dict[str, Tensor]:
        """The head's training outputs for stem maps (N, 64, h, w)."""
        features = self.extract(maps, labels.frames)
        return self.outputs(features, labels.targets, labels.modalities)

    def unpack_labelled(self, batch: dict) -> tuple[Tensor, Labels]:
        """Clips (B, T, 3, H, W) in [0, 255] and their labels."""
        images, modalities = self.unpack(batch)
        targets, cameras = self.moved(batch["targets"]), self.moved(batch["camids"])
        return images, Labels(targets, modalities, cameras, images.shape[1])

    def defence_turn(self, batch: dict) -> dict[str, Tensor]:
        """L_R: the losses on clean and on attacked features, and their consistency.

        Delta is detached, and only the clean pass records BN statistics. Logs the mean |Delta| /
        |F0| and how much of the classifier's accuracy the attack takes.
        """
        images, labels = self.unpack_labelled(batch)
        targets, modalities = labels.targets, labels.modalities
        maps = self.stem_maps(images, modalities)
        clean = self.labelled_outputs(maps, labels)
        aim = partial(self.attacker_losses, guides=clean["features"].detach(), labels=labels)
        with torch.no_grad():
            delta = self.attack(maps, labels.of_frames(modalities), aim)
        with frozen_statistics(self):
            attacked = self.labelled_outputs(maps + delta, labels)
        self.log_outputs(clean, targets, modalities)
        log_scalar("self_attack/relative_norm", relative_norm(delta, maps))
        logits, attacked_logits = (o["pred_class_logits"] for o in (clean, attacked))
        taken = accuracy(logits, targets) - accuracy(attacked_logits, targets)
        log_scalar("self_attack/success", taken)

        losses = self.losses(clean, targets, modalities)
        for name, loss in self.losses(attacked, targets, modalities).items():
            losses[f"{name}_attacked"] = self.lambda_a * loss
        losses["loss_consistency"] = self.lambda_c * consistency_loss(logits, attacked_logits)
        return losses
