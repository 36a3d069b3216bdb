"""Try the losses and the temporal part of a user on random numbers, before any data is read.

The meta device, on which the other shapes are checked, refuses parts that read numbers. A part of
a user is therefore built alone, on the CPU, and called as a training calls it.

Legend: B clips of T frames, h x w the size of a map, C channels of the trunk, R length of the
relation behind the appearance.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

import torch
from fastreid.config import CfgNode
from torch import Tensor, nn

from plugins.errors import InputError
from plugins.modeling.backbones.two_stream import STAGES
from plugins.modeling.losses.base import Outputs, loss_of_batch
from plugins.modeling.losses.build import build_losses
from plugins.modeling.meta_arch.frame_level import frame_batch
from plugins.modeling.meta_arch.vvi_baseline import VVIBaseline
from plugins.modeling.temporal.base import CenteredPart
from plugins.registry import LOSS, TEMPORAL, construct, lookup
from plugins.utils.own_code import described, file_of, is_users, users_errors
from plugins.utils.values import shortened

CLIPS = 4  # that a temporal part is tried on


class Labels(NamedTuple):
    """Labels of a batch: ``targets`` (B,) and ``modalities`` (B,)."""

    targets: Tensor
    modalities: Tensor


def try_own_parts(
    cfg: CfgNode, model: nn.Module | None, sizes: Mapping[str, tuple[int, int]], batch: int
) -> None:
    """Try the temporal part and, for a training, the losses of a config, if they are a user's.

    Args:
        cfg: config of the run.
        model: its model on the meta device, or that of :func:`without_own_parts`; only a
            VVIBaseline has such parts.
        sizes: height and width of the frames by config key.
        batch: B of one process; 0 for an evaluation.

    Raises:
        InputError: see :func:`try_own_temporal` and :func:`try_own_losses`.
    """
    if not isinstance(model, VVIBaseline):
        return
    for size in dict.fromkeys(sizes.values()):
        try_own_temporal(cfg, model, size, training=bool(batch))
    if batch:
        training = model.training
        try_own_losses(cfg, model.train(), batch)
        model.train(training)


def without_own_parts(cfg: CfgNode) -> CfgNode:
    """Return the config with parts of this package in place of those of a user."""
    cfg = cfg.clone()
    cfg.defrost()
    if is_users(TEMPORAL.get(cfg.MODEL.TEMPORAL.NAME)):
        cfg.MODEL.TEMPORAL.NAME = "TemporalMean"
    for section in (cfg.MODEL.LOSSES, cfg.MODEL.LOSSES.FRAMES):
        others = [name for name in section.NAME if not is_users(LOSS.get(name))]
        section.NAME = others or ["CrossEntropyLoss"] * bool(section.NAME)
    return cfg


def try_own_temporal(
    cfg: CfgNode, model: VVIBaseline, size: tuple[int, int], training: bool
) -> None:
    """Call the temporal part on random maps, if it is a user's.

    Args:
        cfg: config of the run.
        model: the whole model on the meta device, which tells the shapes of the maps.
        size: height and width of a frame.
        training: mode of the part.

    Raises:
        InputError: the part fails, or returns no vector of C numbers for each clip.
    """
    key, name = "MODEL.TEMPORAL.NAME", cfg.MODEL.TEMPORAL.NAME
    registered = lookup(TEMPORAL, name, key)
    if not is_users(registered):
        return
    label, file = f"{key}: {described(name, registered)}", file_of(registered)

    def attempt(on_device: CfgNode) -> None:
        place = on_device.MODEL.DEVICE
        with users_errors(label, file):
            part = construct(registered, name, key, on_device)
            if not isinstance(part, nn.Module):
                raise InputError(f"{label}: it is no torch.nn.Module; expected one")
            part.to(place).train(training)
        shapes = map_shapes(model, part, cfg.INPUT.CLIP.LENGTH, size)
        expected = CLIPS, shapes[0][2] + getattr(part, "relation_dim", 0)
        # As a trunk's, which ends with a ReLU and needs its output for the gradient.
        leaves = [torch.randn(shape, device=place, requires_grad=training) for shape in shapes]
        inputs = [leaf.relu() for leaf in leaves]
        if isinstance(part, CenteredPart):
            inputs.insert(1, torch.arange(CLIPS, device=place) % 2)
        called = f"called with maps {shapes[0]} of (clips, frames, channels, height, width)"
        with users_errors(f"{label}, {called}", file):
            features = part(*inputs)
        if not isinstance(features, Tensor) or features.shape != expected:
            raise InputError(
                f"{label}: it returned {shape_of(features)}, {called}; expected {expected}"
            )
        if not training:
            return
        if not features.requires_grad:
            raise InputError(
                f"{label}: its features of {features.dtype} have no gradient, {called}; expected "
                "them without detach, torch.no_grad or whole numbers"
            )
        with users_errors(f"{label}, in the gradient of its features", file):
            features.sum().backward()

    on_devices(cfg, attempt)


def try_own_losses(cfg: CfgNode, model: VVIBaseline, batch: int) -> None:
    """Compute each loss of a user on random outputs of the head, and its gradient.

    Args:
        cfg: config of the run.
        model: the whole model on the meta device, in training mode; its head tells the shapes.
        batch: B.

    Raises:
        InputError: a loss fails, or returns no scalar.
    """
    losses = cfg.MODEL.LOSSES
    named = [(name, "MODEL.LOSSES.NAME") for name in losses.NAME]
    named += [(name, "MODEL.LOSSES.FRAMES.NAME") for name in losses.FRAMES.NAME]
    own = [(name, key) for name, key in named if is_users(lookup(LOSS, name, key))]
    shapes = output_shapes(model, cfg, batch) if own else {}
    for name, key in own if shapes else ():
        try_loss(name, key, cfg, shapes, batch)


def try_loss(
    name: str, key: str, cfg: CfgNode, shapes: dict[str, tuple[int, ...]], batch: int
) -> None:
    """Compute a loss on random outputs of some shapes; see :func:`try_own_losses`."""
    registered = lookup(LOSS, name, key)
    label, file = f"{key}: {described(name, registered)}", file_of(registered)
    called = ", ".join(f"{output} {shape}" for output, shape in shapes.items())

    def attempt(on_device: CfgNode) -> None:
        place = on_device.MODEL.DEVICE
        with users_errors(label, file):
            (loss,) = build_losses(on_device, [name], key).to(place)
        outputs = {k: torch.randn(shape, device=place) for k, shape in shapes.items()}
        labels = Labels(*(each.to(place) for each in labels_of(on_device, batch)))
        if key.endswith("FRAMES.NAME"):
            outputs, *of_frames = frame_batch(outputs, *labels)
            labels = Labels(*of_frames)
        # The results of an operation, as in training, which a loss may change in place.
        results = {k: values.requires_grad_() + 0 for k, values in outputs.items()}
        with users_errors(f"{label}, called with {called}", file):
            try:
                value = loss_of_batch(loss, Outputs(results), *labels)
            except InputError as error:
                raise InputError(f"{label}: {error}") from error
            if value.requires_grad:
                value.sum().backward()

    on_devices(cfg, attempt)


def on_devices(cfg: CfgNode, attempt: Callable[[CfgNode], None]) -> None:
    """Try a part on the CPU; if it fails there, on the device of the run, which decides.

    Args:
        cfg: config of the run.
        attempt: takes the config with MODEL.DEVICE set and everything that is counted later.
    """
    failed: InputError | None = None
    others = (cfg.MODEL.DEVICE,) if torch.cuda.is_available() else ()
    for device in dict.fromkeys(("cpu", *others)):
        try:
            with torch.random.fork_rng(devices=[]), torch.enable_grad():
                torch.manual_seed(0)
                return attempt(counted(cfg, device))
        except InputError as error:
            failed = failed or error
    if failed:
        raise failed


def counted(cfg: CfgNode, device: str) -> CfgNode:
    """Return the config on a device, with numbers in place of those that the data will tell."""
    cfg = cfg.clone()
    cfg.defrost()
    cfg.MODEL.DEVICE = device
    cfg.MODEL.BACKBONE.PRETRAIN = False
    cfg.MODEL.SELF_ATTACK.NUM_CAMERAS = cfg.MODEL.SELF_ATTACK.NUM_CAMERAS or 2
    people = cfg.SOLVER.IMS_PER_BATCH // cfg.DATALOADER.NUM_INSTANCE
    cfg.MODEL.HEADS.NUM_CLASSES = cfg.MODEL.HEADS.NUM_CLASSES or max(people, 2)
    return cfg


def labels_of(cfg: CfgNode, batch: int) -> Labels:
    """Label B clips as an identity sampler draws them, each person in both modalities."""
    clips = torch.arange(batch)
    people = clips // cfg.DATALOADER.NUM_INSTANCE % cfg.MODEL.HEADS.NUM_CLASSES
    return Labels(people, clips % 2)


@torch.no_grad()
def map_shapes(
    model: VVIBaseline, temporal: nn.Module, frames: int, size: tuple[int, int]
) -> tuple[tuple[int, ...], ...]:
    """Return the shapes of the maps that a temporal part takes, of CLIPS clips.

    Returns:
        (B, T, C, h, w) of the last stage; for a CenteredPart also that of its source.
    """
    clips = torch.empty(CLIPS * frames, 3, *size, device="meta")
    stages = model.backbone.stage_maps(model.backbone.stems[0](clips))
    last, *source = (
        (CLIPS, frames, *stages[name].shape[1:]) for name in (STAGES[-1], *sources_of(temporal))
    )
    if model.pooling is not None:  # see ``aggregate``
        last = (*last[:3], 1, 1)
    return last, *source


def sources_of(temporal: nn.Module) -> Iterator[str]:
    """Yield the stage whose maps a temporal part takes besides those of the last one."""
    if isinstance(temporal, CenteredPart):
        yield temporal.source


@torch.no_grad()
def output_shapes(model: VVIBaseline, cfg: CfgNode, batch: int) -> dict[str, tuple[int, ...]]:
    """Return the shapes of the head's training outputs for B clips, by name.

    Nothing is returned for a head that fails on the meta device.
    """
    settings = counted(cfg, "meta")
    length = cfg.MODEL.BACKBONE.FEAT_DIM + getattr(model.temporal, "relation_dim", 0)
    frames = (cfg.INPUT.CLIP.LENGTH,) if model.heads.frame_level else ()
    features = torch.empty(batch, *frames, length, device="meta")
    targets, modalities = (labels.to("meta") for labels in labels_of(settings, batch))
    try:
        outputs = model.outputs(features, targets, modalities)
    except InputError:
        raise
    except Exception:  # a user's head that reads numbers; the first batch tells its faults
        return {}
    return {name: tuple(output.shape) for name, output in outputs.items()}


def shape_of(value: object) -> str:
    """Write what a part returned: the shape of a tensor, or another value."""
    return f"a tensor {tuple(value.shape)}" if isinstance(value, Tensor) else shortened(value)
