"""Build a model without memory or weights, to check before any data is read whether it fits.

On torch's "meta" device tensors have shapes and no contents: building a ResNet-50 there, and
computing the shapes of its maps, takes a tenth of a second.

Legend: B clips of the training batch of one process, N frames, H x W their size.
"""

import contextlib
import logging
from collections.abc import Callable, Iterator, Mapping

import torch
from fastreid.config import CfgNode
from fastreid.modeling.heads import EmbeddingHead
from torch import Tensor, nn

from plugins.config import flatten
from plugins.errors import InputError, one_line
from plugins.modeling.backbones import TwoStreamBackbone
from plugins.modeling.dual_norm import add_dual_norm
from plugins.modeling.meta_arch.vvi_baseline import VVIBaseline
from plugins.modeling.own_parts import counted, try_own_parts, without_own_parts
from plugins.modeling.signatures import check_calls
from plugins.modeling.stock import check_stock_parts
from plugins.registry import BACKBONE, HEADS, LOSS, META_ARCH, TEMPORAL, lookup

logger = logging.getLogger(__name__)

PARTS = {
    "MODEL.META_ARCHITECTURE": META_ARCH,
    "MODEL.BACKBONE.NAME": BACKBONE,
    "MODEL.HEADS.NAME": HEADS,
    "MODEL.TEMPORAL.NAME": TEMPORAL,
}
# Names that the losses of fastreid's meta-architectures know; they pass over any other name.
STOCK_LOSSES = {"MGN": ("CrossEntropyLoss", "TripletLoss")}
OTHER_STOCK_LOSSES = ("CrossEntropyLoss", "TripletLoss", "CircleLoss", "Cosface")
# Sides that are tried to find the smallest input that a backbone takes.
SIDES = range(1, 65)
# Messages of torch's poolings, convolutions and normalizations.
TOO_SMALL = ("Output size is too small", "Kernel size can't be greater", "more than 1 value per")


def check_names(cfg: CfgNode) -> None:
    """Raise InputError, naming the key, for a part of MODEL that is not registered.

    A loss or another part that the meta-architecture would pass over is refused as well.
    """
    check_stock_parts(cfg)
    values = dict(flatten(cfg))
    for key, registry in PARTS.items():
        lookup(registry, str(values[key]), key)
    architecture = META_ARCH.get(cfg.MODEL.META_ARCHITECTURE)
    stock = architecture.__module__.startswith("fastreid.")
    for name in cfg.MODEL.LOSSES.NAME:
        lookup(LOSS, name, "MODEL.LOSSES.NAME")
        known = STOCK_LOSSES.get(architecture.__name__, OTHER_STOCK_LOSSES)
        if stock and name not in known:
            raise InputError(
                f"MODEL.LOSSES.NAME: {architecture.__name__} of fastreid does not know {name}, "
                f"and would train without it; expected {', '.join(known)}"
            )


def check_model(cfg: CfgNode, sizes: Mapping[str, tuple[int, int]], batch: int) -> nn.Module | None:
    """Build the config's model on the meta device, and pass shapes through its backbone.

    Some faults show only in the real build, such as those of a part that reads numbers while it is
    built.

    Args:
        cfg: config of a run.
        sizes: height and width of the frames by config key.
        batch: B of one process; 0 for an evaluation.

    Returns:
        The model on the meta device; None if it cannot be built there.

    Raises:
        InputError: a name or a value of MODEL is wrong, a part takes other arguments, a size is
            too small for the backbone, or B for a normalization.
    """
    check_names(cfg)
    model = build_dry(cfg)
    if model is not None:
        check_calls(model)
    else:
        try_own_parts(cfg, build_dry(without_own_parts(cfg)), sizes, batch)
    if model is None or not isinstance(getattr(model, "backbone", None), nn.Module):
        return model
    name, maps_of = cfg.MODEL.BACKBONE.NAME, shared_path(model.get_submodule("backbone"))
    model.eval()
    for key, size in sizes.items():
        if refusal(maps_of, (1, 3, *size)):
            fitting = (side for side in SIDES if not refusal(maps_of, (1, 3, side, side)))
            smallest = next((f"{side} x {side} or more" for side in fitting), "larger ones")
            raise InputError(
                f"{key}: frames of {size[0]} x {size[1]} are too small for {name}; expected "
                f"{smallest}"
            )
    try_own_parts(cfg, model, sizes, batch)
    if isinstance(model, VVIBaseline):
        for size in set(sizes.values()):
            check_clips(model, cfg.INPUT.CLIP.LENGTH, size)
    if batch and isinstance(model, VVIBaseline):
        check_losses(model.train(), cfg.INPUT.CLIP.LENGTH, sizes["INPUT.SIZE_TRAIN"])
    if batch:
        check_batch(model.train(), cfg, batch, sizes["INPUT.SIZE_TRAIN"])
    return model


@torch.no_grad()
def check_clips(model: VVIBaseline, frames: int, size: tuple[int, int]) -> None:
    """Raise InputError if the temporal part refuses the maps, or gives no vector for each clip.

    Args:
        model: a model on the meta device, in evaluation mode.
        frames: of a clip.
        size: height and width of a frame.
    """
    clips = torch.empty(3 * frames, 3, *size, device="meta")
    modalities = torch.zeros(3, dtype=torch.long, device="meta")
    with tried_on_meta("shapes"):
        model.extract(model.backbone.stems[0](clips), frames, modalities)


@torch.no_grad()
def check_losses(model: VVIBaseline, frames: int, size: tuple[int, int]) -> None:
    """Raise InputError if a loss reads an output that the head does not give, or gives no scalar.

    Args:
        model: a model on the meta device, in training mode.
        frames: of a clip.
        size: height and width of a frame.
    """
    clips = torch.empty(4 * frames, 3, *size, device="meta")
    modalities = targets = torch.zeros(4, dtype=torch.long, device="meta")
    with tried_on_meta("losses"):
        features = model.extract(model.backbone.stems[0](clips), frames, modalities)
        model.losses(model.outputs(features, targets, modalities), targets, modalities)


@contextlib.contextmanager
def tried_on_meta(results: str) -> Iterator[None]:
    """Let InputError pass, and no other error, inside this block.

    An operation without shapes, or a loss that reads numbers, fails on the meta device though it
    works elsewhere; the first batch tells its faults.

    Args:
        results: what the block computes, for the log.
    """
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        logger.debug("no %s on the meta device: %s", results, error)


def check_batch(model: nn.Module, cfg: CfgNode, batch: int, size: tuple[int, int]) -> None:
    """Raise InputError if a normalization finds too few values in B clips of frames of a size.

    Args:
        model: a model on the meta device, in training mode.
        cfg: config of the run.
        batch: B.
        size: height and width of a frame.
    """
    frames = cfg.INPUT.CLIP.LENGTH if isinstance(model, VVIBaseline) else 1
    error = refusal(shared_path(model.get_submodule("backbone")), (batch * frames, 3, *size))
    if not error and isinstance(heads := getattr(model, "heads", None), EmbeddingHead):
        rows = batch * frames if getattr(heads, "frame_level", False) else batch
        for layer in heads.bottleneck:
            if channels := getattr(layer, "num_features", None):
                error = error or refusal(layer, (rows, channels, 1, 1))
    if isinstance(error, ValueError):
        raise InputError(
            f"SOLVER.IMS_PER_BATCH: {batch} for each process is too few to normalize a batch by "
            "its own statistics; expected 2 or more"
        )


def build_dry(cfg: CfgNode) -> nn.Module | None:
    """Build the model on the meta device; return None if it cannot be built there.

    Raises:
        InputError: from a part; or a part of fastreid does not know its setting.
    """
    cfg = counted(cfg, "meta")
    depth = cfg.MODEL.BACKBONE.DEPTH
    try:
        with torch.random.fork_rng(devices=[]), torch.device("meta"):
            return add_dual_norm(META_ARCH.get(cfg.MODEL.META_ARCHITECTURE)(cfg), cfg)
    except InputError:
        raise
    except KeyError as error:
        if error.args == (depth,):
            raise InputError(
                f"MODEL.BACKBONE.DEPTH: {cfg.MODEL.BACKBONE.NAME} has no depth '{depth}'"
            ) from error
    except AssertionError as error:  # fastreid's heads: "Expected pool types are ..."
        if str(error).startswith("Expected "):
            raise InputError(f"MODEL.HEADS: {one_line(error)}") from error
    except Exception as error:  # a part that reads numbers; the real build reports its faults
        logger.debug("not built on the meta device: %s", error)
    return None


@torch.no_grad()
def dry_feature_length(cfg: CfgNode) -> int | None:
    """Return the length of the test feature of the config's model; None if the meta device fails.

    Raises:
        InputError: as :func:`build_dry`.
    """
    model = build_dry(cfg)
    if model is None:
        return None
    model.eval()
    frames, (height, width) = cfg.INPUT.CLIP.LENGTH, cfg.INPUT.SIZE_TEST
    with tried_on_meta("features"):
        if isinstance(model, VVIBaseline):  # its choice of a stem needs numbers
            maps = model.backbone.stems[0](torch.empty(frames, 3, height, width, device="meta"))
            modalities = torch.zeros(1, dtype=torch.long, device="meta")
            return int(model.heads(model.extract(maps, frames, modalities)).shape[-1])
        images = torch.empty(1, 3, height, width, device="meta")
        return int(model({"images": images}).shape[-1])
    return None


def shared_path(backbone: nn.Module) -> Callable[[Tensor], Tensor]:
    """Return a function that turns frames (N, 3, H, W) into maps, whatever their modality."""
    if isinstance(backbone, TwoStreamBackbone):
        return lambda frames: backbone.trunk(backbone.stems[0](frames))
    return backbone


@torch.no_grad()
def refusal(part: Callable[[Tensor], Tensor], shape: tuple[int, ...]) -> Exception | None:
    """Return the error of a part for an input that is too small for it; None if it takes the input.

    A RuntimeError comes from a pooling or a convolution, a ValueError from a normalization.
    """
    try:
        part(torch.empty(shape, device="meta"))
    except (RuntimeError, ValueError) as error:
        return error if any(words in str(error) for words in TOO_SMALL) else None
    except Exception as error:  # an operation without shapes
        logger.debug("no shapes on the meta device: %s", error)
    return None
