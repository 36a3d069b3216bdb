"""A training step of SADSTRM: beside a bare loop of the same passes, and with other settings.

Legend: B clips of T frames, N = B * T.
"""

import itertools
from collections.abc import Iterator
from functools import partial
from types import SimpleNamespace
from typing import Any, cast

import torch
import torch.nn.functional as F
from fastreid.config import CfgNode
from fastreid.utils.events import EventStorage
from torch import Tensor, nn

from plugins.benchmarks.comparison import Comparison, Work, one_thread_clock
from plugins.benchmarks.settings import Settings
from plugins.config import setup_cfg
from plugins.engine.optimizer import clip_gradients
from plugins.engine.steps import AlternatingStep
from plugins.engine.trainer import Trainer
from plugins.modeling.losses.functional import consistency_loss
from plugins.modeling.meta_arch import SADSTRM

BFLOAT16 = "SOLVER.AMP.ENABLED", "True", "SOLVER.AMP.DTYPE", "bfloat16"
CHANNELS_LAST = "SOLVER.CHANNELS_LAST", "True"
CHECKPOINTING = "SOLVER.ACTIVATION_CHECKPOINTING", "True"
# Options, and the wanted ratios of time and of memory, 0 for memory that is not measured.
CHOICES: dict[str, tuple[tuple[str, ...], float, float]] = {
    "bfloat16": (BFLOAT16, 1.0, 0.0),
    "channels_last": (CHANNELS_LAST, 1.0, 0.0),
    "bfloat16 and channels_last": ((*BFLOAT16, *CHANNELS_LAST), 1.9, 0.0),
    "activation checkpointing": (CHECKPOINTING, 0.75, 2.0),
}
# Relative differences of two losses, in float32 and in bfloat16. An untrained network enlarges
# rounding: at the published size another order of channels changes a loss by 1e-4, bfloat16 by 0.1.
SAME, ROUNDED = 1e-4, 0.25
CAMERAS = 4
NOISE = 20.0  # gray levels
CLIPS_OF_A_PERSON = 2  # in each modality; with one, triplets would have no positive


def step(settings: Settings) -> list[Comparison]:
    """List the comparisons of a training step."""
    config, clips, more = size(settings)
    cfg = read(config, clips, more)
    frames = clips * cfg.INPUT.CLIP.LENGTH
    name = f"SADSTRM step, {frames} frames of {'x'.join(map(str, cfg.INPUT.SIZE_TRAIN))}"
    passes = Comparison(
        name,
        partial(loop_work, config, clips, more),
        target=0.97,
        note="bare loop of the same passes",
        rounds=settings.rounds,
        clock=one_thread_clock(),
    )
    return [passes] + [
        Comparison(
            f"{name}, {title}",
            partial(options_work, config, clips, more, options),
            target=target,
            memory_target=memory if settings.whole else 0.0,
            note="the same step without this setting, in float32",
            rounds=settings.rounds,
            clock=one_thread_clock(),
        )
        for title, (options, target, memory) in ({} if settings.tiny else CHOICES).items()
    ]


def size(settings: Settings) -> tuple[str, int, tuple[str, ...]]:
    """Return the config, the number of clips B, and what else differs from the config."""
    if settings.tiny:
        small = ("INPUT.SIZE_TRAIN", "[32,16]", "MODEL.TEMPORAL.STIG.STRIPES", "2")
        return "VVI/synthetic/sadstrm.yml", 8, (*small, "MODEL.TEMPORAL.STIG.COLUMNS", "2")
    if settings.quick:
        return "VVI/synthetic/sadstrm.yml", 8, ()
    if torch.cuda.is_available():
        return "VVI/sadstrm.yml", 16, ()
    # With one thread torch is slow with fewer than 16 images.
    return "VVI/sadstrm.yml", 8, ("INPUT.CLIP.LENGTH", "2")


def read(config: str, clips: int, more: tuple[str, ...]) -> CfgNode:
    """Read the config of a step on ``clips`` clips, with the self-attack that the bare loop has."""
    people = clips // (2 * CLIPS_OF_A_PERSON)
    own = {
        "MODEL.BACKBONE.PRETRAIN": "False",
        "MODEL.DEVICE": "cuda" if torch.cuda.is_available() else "cpu",
        "MODEL.HEADS.NUM_CLASSES": str(people),
        "MODEL.SELF_ATTACK.KIND": "gradient",
        "MODEL.SELF_ATTACK.EPS": "0.03",
        "MODEL.TEMPORAL.STIG.DROPOUT": "0.0",  # two networks would draw differently
        "SOLVER.ADVERSARY.START_EPOCH": "0",
    }
    return setup_cfg(config, [*itertools.chain(*own.items()), *more])


def loop_work(config: str, clips: int, more: tuple[str, ...], seed: int = 0) -> Work:
    """Prepare a step, and a loop of the same passes over a network with the same weights."""
    cfg = read(config, clips, more)
    batch = drawn_batch(cfg, clips, seed)
    loop = BareLoop(build_step(cfg, batch, seed), batch)
    return Work(partial(run, build_step(cfg, batch, seed)), loop.run, partial(check_losses, SAME))


def options_work(
    config: str, clips: int, more: tuple[str, ...], options: tuple[str, ...], seed: int = 0
) -> Work:
    """Prepare a step with further options, and the step without them.

    Their classification losses of clean clips are compared: an attack on an untrained network
    enlarges the rounding of bfloat16 in the losses of attacked clips.
    """
    batch = drawn_batch(read(config, clips, more), clips, seed)
    ours = build_step(read(config, clips, (*more, *options)), batch, seed)
    theirs = build_step(read(config, clips, more), batch, seed)
    sides = [partial(run, side, "loss_cls") for side in (ours, theirs)]
    return Work(sides[0], sides[1], partial(check_losses, ROUNDED))


def build_step(cfg: CfgNode, batch: dict[str, Tensor], seed: int) -> AlternatingStep:
    """Build a network with drawn weights, its optimizers, and the step of the config."""
    torch.manual_seed(seed)
    model = Trainer.build_model(cfg)
    return AlternatingStep(cfg, model, OneBatch(batch), Trainer.build_optimizer(cfg, model))


class OneBatch:
    """A loader that gives one batch, already on the device, again and again."""

    def __init__(self, batch: dict[str, Tensor]) -> None:
        self.batch = batch
        self.batch_sampler = SimpleNamespace(position=0)

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        return itertools.repeat(self.batch)


def drawn_batch(cfg: CfgNode, clips: int, seed: int) -> dict[str, Tensor]:
    """Draw clips of each person in both modalities, by a smooth picture of each person.

    Noise alone would give all clips nearly the same feature.
    """
    generator = torch.Generator().manual_seed(seed)
    numbers = torch.arange(clips)
    targets = numbers // (2 * CLIPS_OF_A_PERSON)
    small = 255 * torch.rand(len(targets.unique()), 3, 9, 5, generator=generator)
    pictures = F.interpolate(small, tuple(cfg.INPUT.SIZE_TRAIN), mode="bilinear")
    shape = (clips, cfg.INPUT.CLIP.LENGTH, 3, *cfg.INPUT.SIZE_TRAIN)
    images = pictures[targets][:, None] + NOISE * torch.randn(shape, generator=generator)
    batch = {
        "images": images.clamp_(0, 255),
        "targets": targets,
        "camids": numbers % CAMERAS,
        "modalities": numbers % 2,
    }
    return {name: values.to(cfg.MODEL.DEVICE) for name, values in batch.items()}


def run(step: AlternatingStep, name: str = "total_loss") -> float:
    """Run a step; return one of its losses, by default the sum of the defender's."""
    with EventStorage(1) as storage:  # iteration 0 also measures the attack in evaluation mode
        step.run_step()
        logged = storage.latest()[name]
    wait()
    return float(logged[0] if isinstance(logged, tuple) else logged)


def wait() -> None:
    """Wait for the GPU, if there is one."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


class BareLoop:
    """The passes of a step by hand: nothing is recorded, logged or checked.

    Attributes:
        step: where network and optimizers come from; it does not run.
        batch: the clips.
    """

    def __init__(self, step: AlternatingStep, batch: dict[str, Tensor]) -> None:
        self.step, self.batch = step, batch
        self.model = cast(SADSTRM, step.model)

    def run(self) -> float:
        """Run both turns and both updates; return the sum of the defender's losses."""
        images, labels = self.model.unpack_labeled(self.batch)
        self._train_classifiers(images, labels)
        self.step.optimizer.zero_grad()
        maps = self.model.stem_maps(images, labels.modalities)
        clean = self.model.labeled_outputs(maps, labels)
        delta = self._delta(maps.detach(), clean["features"].detach(), labels)
        attacked = self.model.labeled_outputs(maps + delta, labels)
        total = self._loss(clean, labels) + self.model.lambda_a * self._loss(attacked, labels)
        logits = clean["pred_class_logits"], attacked["pred_class_logits"]
        total = total + self.model.lambda_c * consistency_loss(*logits)
        total.backward()
        clip_gradients(self.step.cfg, self.step.optimizer)
        self.step.optimizer.step()
        wait()
        return float(total.detach())

    def _train_classifiers(self, images: Tensor, labels: Any) -> None:
        with torch.no_grad():
            maps = self.model.stem_maps(images, labels.modalities)
        optimizer = cast(torch.optim.Optimizer, self.step.adversary_optimizer)
        optimizer.zero_grad()
        names = (labels.of_frames(each) for each in (labels.modalities, labels.cameras))
        total(cast(Any, self.model.attack).classifier_losses(maps, *names)).backward()
        nn.utils.clip_grad_norm_(self.step.adversary, self.step.cfg.SOLVER.ADVERSARY.CLIP_NORM)
        optimizer.step()

    def _delta(self, maps: Tensor, guides: Tensor, labels: Any) -> Tensor:
        """Compute the perturbation: down the gradient of L_A, eps times as long as the maps."""
        attack = cast(Any, self.model.attack)
        point = maps.clone().requires_grad_(True)
        self.model.requires_grad_(False)
        outputs = self.model.labeled_outputs(point, labels)
        names = (labels.of_frames(each) for each in (labels.modalities, labels.cameras))
        losses = attack.reid_losses(outputs, guides, labels.targets)
        losses |= attack.interference_losses(point, *names)
        (gradient,) = torch.autograd.grad(total(losses), point)
        self.model.requires_grad_(True)
        lengths = [each.flatten(1).norm(dim=1)[:, None, None, None] for each in (maps, gradient)]
        return -attack.eps * lengths[0] / lengths[1] * gradient

    def _loss(self, outputs: dict[str, Tensor], labels: Any) -> Tensor:
        return total(self.model.losses(outputs, labels.targets, labels.modalities))


def total(losses: dict[str, Tensor]) -> Tensor:
    """Add losses."""
    return cast(Tensor, sum(losses.values()))


def check_losses(tolerance: float, ours: float, theirs: float) -> None:
    """Compare a loss of two steps."""
    assert abs(ours - theirs) <= tolerance * abs(theirs), f"losses of {ours:.6g} and {theirs:.6g}"
