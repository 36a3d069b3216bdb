"""Training against one perturbation of all images, at nearly the cost of clean training.

Legend: T frames of a clip, H x W size of the input. Pixels, budgets and steps are in gray levels,
0 to 255.
"""

from dataclasses import replace

import torch
from fastreid.config import CfgNode
from torch import nn

from plugins.attacks import ThreatModel
from plugins.attacks.budget import check_budget, warn_once
from plugins.attacks.universal import add_delta
from plugins.defense.adversarial_step import AdversarialStep
from plugins.defense.inner_attack import strength
from plugins.engine.distributed import average_gradients
from plugins.errors import InputError
from plugins.registry import STEP


class UniversalCrafter(nn.Module):
    """Adds the perturbation to batches, and follows the gradient that training leaves in it.

    Attributes:
        delta: (3, H, W), or (T, 3, H, W) if each frame of a clip has its own perturbation.
        attack: None, because the training itself is the attack.
    """

    attack = None

    def __init__(self, shape: torch.Size, cfg: CfgNode) -> None:
        """Start from a perturbation of 0, on MODEL.DEVICE.

        Args:
            shape: shape of a training sample, (3, H, W) or (T, 3, H, W).
            cfg: config whose DEFENSE and threat model ATTACK are read.

        Raises:
            InputError: from ``read_threat``.
        """
        super().__init__()
        threat = read_threat(cfg)
        check_budget(threat, "DEFENSE", shape[-2:])
        self._settings = cfg.DEFENSE
        per_frame = threat.frames == "dense"
        zeros = torch.zeros(shape if per_frame else shape[-3:], device=cfg.MODEL.DEVICE)
        self.delta = nn.Parameter(zeros)

    def forward(self, batch: dict, epoch: int, seed: int) -> dict:
        """Return the batch with the perturbation on its images; gradients reach the perturbation.

        Args:
            batch: ``images`` (B, T, 3, H, W) or (B, 3, H, W) in [0, 255]; it is not changed.
            epoch: epoch of the whole run.
            seed: not used, since nothing is drawn.
        """
        eps = self.budget(epoch)
        if not eps:
            return batch
        # A checkpoint may hold a perturbation of a larger budget.
        delta = self.delta.clamp(-eps, eps)
        return add_delta(batch, delta.to(batch["images"].device))

    def budget(self, epoch: int) -> float:
        """Return the radius of an epoch."""
        return strength(epoch, self._settings.WARMUP_EPOCHS) * self._settings.EPS

    @torch.no_grad()
    def ascend(self, epoch: int) -> None:
        """Take one step by the sign of the gradient's mean over the ranks, within the budget.

        A gradient that overflowed under a loss scaler is skipped, as it is for the weights.
        """
        average_gradients([self.delta])
        if self.delta.grad is not None and self.delta.grad.isfinite().all():
            step = strength(epoch, self._settings.WARMUP_EPOCHS) * self._settings.STEP_SIZE
            self.delta.add_(step * self.delta.grad.sign())
            eps = self.budget(epoch)
            self.delta.clamp_(-eps, eps)
        self.delta.grad = None


def read_threat(cfg: CfgNode) -> ThreatModel:
    """Read the threat model ATTACK with the budget of DEFENSE.

    Raises:
        InputError: the threat model asks for what one perturbation cannot have.
    """
    threat = replace(ThreatModel.from_config(cfg), eps=cfg.DEFENSE.EPS)
    for key, known in (("NORM", "linf"), ("FRAMES", "dense or shared"), ("INFRARED", "free")):
        value = getattr(threat, key.lower())
        if value not in known.split(" or "):
            raise InputError(f"ATTACK.{key}: '{value}'; UniversalStep supports {known}")
    return threat


@STEP.register()
class UniversalStep(AdversarialStep):
    """Trains on images with one perturbation, which is updated by the same backward pass.

    Shafahi et al., "Universal Adversarial Training", AAAI 2020, with simultaneous updates: weights
    and perturbation move by the gradients of the same losses, so without CLEAN_WEIGHT an iteration
    costs as much as in clean training. The step reads EPS, STEP_SIZE, WARMUP_EPOCHS and the weights
    of DEFENSE, and ignores INNER and STEPS. If ATTACK.FRAMES is dense, each frame of a clip has its
    own perturbation.
    """

    def build_crafter(self) -> UniversalCrafter:
        """Build the perturbation, in the shape of a training sample."""
        settings, sampler = self.cfg.DEFENSE, self.data_loader.batch_sampler
        epoch = sampler.batches_per_epoch // self.cfg.SOLVER.ACCUMULATION
        reach = self.cfg.SOLVER.MAX_EPOCH * epoch * settings.STEP_SIZE
        if reach < settings.EPS:
            warn_once(
                f"DEFENSE.STEP_SIZE: {settings.STEP_SIZE:g}; all steps of the training together "
                f"reach {reach:g}, less than DEFENSE.EPS {settings.EPS:g}; both are in gray "
                "levels, 0 to 255"
            )
        # The sample has its own seed, so the global random states do not change.
        sample = self.data_loader.dataset[0, 0]
        return UniversalCrafter(sample["images"].shape, self.cfg)

    @classmethod
    def inner_attack(cls, cfg: CfgNode) -> None:
        """Check the threat model; no attack is built."""
        read_threat(cfg)

    def checkpointables(self) -> dict[str, object]:
        """Add the perturbation."""
        return {**super().checkpointables(), "universal": self.crafter}

    def run_step(self) -> None:
        """Run forward and backward, and update the weights and the perturbation."""
        super().run_step()
        assert isinstance(self.crafter, UniversalCrafter)
        self.crafter.ascend(self.epoch)
