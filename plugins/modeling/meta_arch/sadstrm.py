"""SADSTRM, arXiv 2307.03903: a re-ID network and the self-attack it trains against.

``projects/sadstrm`` tells the paper's statements from this package's design;
``plugins.modeling.self_attack`` explains symbols and shapes.
"""

import contextlib
from collections.abc import Iterator
from functools import partial
from typing import Any, NamedTuple, cast

import torch
from fastreid.config import CfgNode, configurable
from fastreid.utils import events
from torch import Tensor, nn

from plugins.modeling.backbones.two_stream import STAGES
from plugins.modeling.batch_statistics import BatchStatistics
from plugins.modeling.diagnostics import accuracy
from plugins.modeling.freeze import evaluation_mode, frozen_parameters, frozen_statistics
from plugins.modeling.losses.functional import consistency_loss
from plugins.modeling.meta_arch.vvi_baseline import VVIBaseline, log_scalar
from plugins.modeling.self_attack import (
    Attacker,
    CleanPass,
    FeatureAttack,
    GradientAttack,
    Labels,
    build_self_attack,
    relative_norm,
)
from plugins.modeling.self_attack.losses import feature_distances
from plugins.registry import META_ARCH


class Below(NamedTuple):
    """Maps from below the attack, which the clean and the attacked pass share.

    Attributes:
        maps: the maps that are attacked, (N, C, h, w).
        stages: maps after the stages up to there, by name; empty when the stem maps are attacked.
    """

    maps: Tensor
    stages: dict[str, Tensor]


@META_ARCH.register()
class SADSTRM(VVIBaseline):
    """VVIBaseline with an attack on its maps; ``turn`` says which player moves.

    Args:
        attack: turns the maps of a batch into attacked maps; used in training only.
        lambda_a: weight of the losses on attacked features.
        lambda_c: weight of the consistency of clean and attacked predictions.
        lambda_d: weight of the distance of clean and attacked features.
        normalization: the batch statistics that normalize attacked maps above the attacked stage,
            "attacked" or "clean"; "auto" leaves it to the attack.
        strength_period: iterations between two measurements of the attack in evaluation mode; 0
            for no measurement.
        **baseline: the arguments of VVIBaseline.
    """

    @configurable
    def __init__(
        self,
        *,
        attack: FeatureAttack,
        lambda_a: float,
        lambda_c: float,
        lambda_d: float = 0.0,
        normalization: str = "auto",
        strength_period: int = 0,
        **baseline: Any,
    ):
        super().__init__(**baseline)
        self.attack = attack
        self.lambda_a = lambda_a
        self.lambda_c = lambda_c
        self.lambda_d = lambda_d
        self.normalization = attack.normalization if normalization == "auto" else normalization
        self.strength_period = strength_period

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict:
        """Build VVIBaseline's parts and the attack."""
        settings = cfg.MODEL.SELF_ATTACK
        return {
            **super().from_config(cfg),
            "attack": build_self_attack(cfg),
            "lambda_a": settings.LAMBDA_A,
            "lambda_c": settings.LAMBDA_C,
            "lambda_d": settings.LAMBDA_D,
            "normalization": settings.NORMALIZATION,
            "strength_period": settings.STRENGTH_PERIOD,
        }

    def adversary_parameters(self) -> Iterator[nn.Parameter]:
        """Yield the parameters that the attack turn trains; none if the attack learns nothing."""
        return self.attack.parameters()

    def defender_parameters(self) -> Iterator[nn.Parameter]:
        """Yield the parameters that every other turn trains: all but the attacker's."""
        for part in self.children():
            if part is not self.attack:
                yield from part.parameters()

    def forward(self, batch: dict, turn: str | None = None) -> dict[str, Tensor] | Tensor:
        """Compute what VVIBaseline does, or one player's losses.

        Args:
            batch: as for VVIBaseline; with an L_cam also ``camids`` (B,), from 0.
            turn: in training, ``"attack"`` for the attacker's losses, ``"defense"`` for the
                defender's; None for the plain losses of a network that is not attacked.
        """
        if turn is None:
            return super().forward(batch)
        assert self.training, f"turn '{turn}' is for training; evaluation has no attacker"
        if turn == "attack":
            return self.attack_turn(batch)
        assert turn == "defense", f"turn is 'attack', 'defense' or None, found '{turn}'"
        return self.defense_turn(batch)

    def attack_turn(self, batch: dict) -> dict[str, Tensor]:
        """Compute L_A; the re-ID network gets neither gradients nor new BN statistics.

        The losses of the classifiers of L_mod and L_cam, on clean maps, are added. An attack by
        gradient has only these, and an attack without parameters has no losses.
        """
        if not any(True for _ in self.adversary_parameters()):
            return {}
        images, labels = self.unpack_labeled(batch)
        modalities, cameras = map(labels.of_frames, (labels.modalities, labels.cameras))
        with torch.no_grad(), frozen_statistics(self):
            maps = self.stem_maps(images, labels.modalities)
        # Only a subclass of Attacker has parameters, see build_self_attack.
        attacker = cast(Attacker, self.attack)
        classifier_losses = attacker.classifier_losses(maps, modalities, cameras)
        if isinstance(self.attack, GradientAttack):
            return classifier_losses
        statistics = BatchStatistics(self)
        with torch.no_grad(), frozen_statistics(self), self.recording(statistics):
            guides = self.labeled_outputs(maps, labels)["features"]
        attacked_maps = maps + self.attack(maps, modalities)
        losses = self.attacker_losses(attacked_maps, guides, labels, statistics=statistics)
        return {**losses, **classifier_losses}

    def attacker_losses(
        self,
        attacked_maps: Tensor,
        guides: Tensor,
        labels: Labels,
        below: Below | None = None,
        statistics: BatchStatistics | None = None,
    ) -> dict[str, Tensor]:
        """Compute L_A by name; the re-ID network gets neither gradients nor statistics.

        Args:
            attacked_maps: (N, C, h, w).
            guides: clean features (B, D), without a gradient.
            labels: labels of the clips.
            below: maps from below the attack; None if only the stem lies below.
            statistics: batch statistics of the clean pass; None normalizes attacked maps by the
                statistics of the attacked batch.
        """
        modalities, cameras = map(labels.of_frames, (labels.modalities, labels.cameras))
        with self.normalizing(statistics), frozen_parameters(self.defender_parameters()):
            attacked = self.labeled_outputs(attacked_maps, labels, below)
        return {
            **self.attack.reid_losses(attacked, guides, labels.targets),
            **self.attack.interference_losses(attacked_maps, modalities, cameras),
        }

    def recording(self, statistics: BatchStatistics) -> contextlib.AbstractContextManager:
        """Return the context of the clean pass, which keeps statistics for the attacked pass."""
        if self.normalization == "clean":
            return statistics.recorded()
        return contextlib.nullcontext()

    def normalizing(self, statistics: BatchStatistics | None) -> contextlib.AbstractContextManager:
        """Return the context of an attacked pass, which records nothing."""
        if self.normalization == "clean" and statistics is not None:
            return statistics.used()
        return frozen_statistics(self)

    def run_below(self, images: Tensor, labels: Labels) -> Below:
        """Run clips (B, T, 3, H, W) in [0, 255] up to the maps that are attacked."""
        maps = self.stem_maps(images, labels.modalities)
        if self.attack.after not in STAGES:
            return Below(maps, {})
        stages = self.backbone.stage_maps(maps, last=self.attack.after)
        return Below(stages[self.attack.after], stages)

    def features_above(self, maps: Tensor, labels: Labels, below: Below | None = None) -> Tensor:
        """Run the network from clean or attacked maps (N, C, h, w) on, to features (B, C')."""
        stages = below.stages if below else {}
        first = STAGES[len(stages)]
        return self.extract(maps, labels.frames, labels.modalities, first, stages)

    def labeled_outputs(
        self, maps: Tensor, labels: Labels, below: Below | None = None
    ) -> dict[str, Tensor]:
        """Compute training outputs of stem maps (N, 64, h, w), or of maps above ``below``."""
        features = self.features_above(maps, labels, below)
        return self.outputs(features, labels.targets, labels.modalities)

    def unpack_labeled(self, batch: dict) -> tuple[Tensor, Labels]:
        """Return clips (B, T, 3, H, W) in [0, 255] and their labels."""
        images, modalities = self.unpack(batch)
        targets, cameras = self.moved(batch["targets"]), self.moved(batch["camids"])
        return images, Labels(targets, modalities, cameras, images.shape[1])

    def defense_turn(self, batch: dict) -> dict[str, Tensor]:
        """Compute L_R: losses on clean and on attacked features, their consistency and distance.

        The attack has no gradient, and only the clean pass records BN statistics. The scalars that
        ``log_attack`` names are logged.
        """
        images, labels = self.unpack_labeled(batch)
        targets, modalities = labels.targets, labels.modalities
        statistics = BatchStatistics(self)
        with self.recording(statistics):
            below = self.run_below(images, labels)
            features = self.features_above(below.maps, labels, below)
            clean = self.outputs(features, targets, modalities)
        aim = partial(
            self.attacker_losses,
            guides=clean["features"].detach(),
            labels=labels,
            below=below,
            statistics=statistics,
        )
        attacked_maps = self.attack.attacked_maps(CleanPass(below.maps, labels), aim)
        with self.normalizing(statistics):
            attacked_features = self.features_above(attacked_maps, labels, below)
            attacked = self.outputs(attacked_features, targets, modalities)
        self.log_outputs(clean, targets, modalities)
        distances = feature_distances(features, attacked_features)
        self.log_attack(below, attacked_maps, labels)
        log_scalar("self_attack/feature_distance", distances.mean())
        logits, attacked_logits = (o["pred_class_logits"] for o in (clean, attacked))
        success = accuracy(logits, targets) - accuracy(attacked_logits, targets)
        log_scalar("self_attack/success", success)

        losses = self.losses(clean, targets, modalities)
        for name, loss in self.losses(attacked, targets, modalities).items():
            losses[f"{name}_attacked"] = self.lambda_a * loss
        losses["loss_consistency"] = self.lambda_c * consistency_loss(logits, attacked_logits)
        if self.lambda_d > 0:
            losses["loss_feature_distance"] = self.lambda_d * distances.mean()
        return losses

    @torch.no_grad()
    def log_attack(self, below: Below, attacked_maps: Tensor, labels: Labels) -> None:
        """Log the strength of the attack, as ``self_attack/NAME``.

        - ``relative_norm``: mean over the frames of |attacked maps - maps| / |maps|;
        - ``attacked_clips``: share of the clips whose maps the attack changed;
        - ``feature_distance_eval``, every ``strength_period`` iterations: |f~ - f| with the layers
          above the attack in evaluation mode.

        ``defense_turn`` logs the others:

        - ``feature_distance``: |f~ - f| of the features that enter the head in training, Euclidean,
          mean over the clips;
        - ``success``: the loss of the classifier's accuracy under attack.
        """
        delta = attacked_maps - below.maps
        log_scalar("self_attack/relative_norm", relative_norm(delta, below.maps))
        changed = delta.flatten(1).any(dim=1).unflatten(0, (-1, labels.frames)).any(dim=1)
        log_scalar("self_attack/attacked_clips", changed.float().mean())
        if self.measures_strength():
            with evaluation_mode(self):
                features, attacked = (
                    self.features_above(maps, labels, below) for maps in (below.maps, attacked_maps)
                )
            distance = feature_distances(features, attacked).mean()
            log_scalar("self_attack/feature_distance_eval", distance)

    def measures_strength(self) -> bool:
        """Tell whether this iteration's attack is measured in evaluation mode too."""
        if not events._CURRENT_STORAGE_STACK or self.strength_period < 1:
            return False
        return events.get_event_storage().iter % self.strength_period == 0
