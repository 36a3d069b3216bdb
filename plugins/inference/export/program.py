"""Trace a model from pixels to features, for any number of items and of frames.

Legend: B items of a batch, T frames of a clip, H x W the model's size, D feature length.
"""

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from plugins.errors import InputError, one_line

# Sizes of the traced batch; any above 1 give the same program, where they are free.
ITEMS, FRAMES = 2, 4


class PixelsToFeatures(nn.Module):
    """A model with what stands around it in an evaluation: pixels in, compared features out.

    Args:
        network: see ``plugins.modeling.deployed.deploy``.
        flip: average the features of the images and of their mirror images, as TEST.FLIP does.
        unit: give features length 1, as TEST.METRIC cosine does.
        bgr: the channels of the pixels are blue, green, red, as OpenCV reads them.
    """

    def __init__(self, network: nn.Module, *, flip: bool, unit: bool, bgr: bool) -> None:
        super().__init__()
        self.network, self.flip, self.unit, self.bgr = network, flip, unit, bgr

    def forward(self, images: Tensor, modalities: Tensor | None = None) -> Tensor:
        """Compute features (B, D), float32.

        Args:
            images: (B, T, 3, H, W), or (B, 3, H, W) of a model that takes images; uint8, or
                floating point in [0, 255].
            modalities: (B,) int64, 0 visible, 1 infrared; None for a model that takes images.
        """
        pixels = images.float()
        if self.bgr:
            pixels = pixels.flip(-3)
        features: Tensor = self.network(pixels, modalities)
        if self.flip:
            features = (features + self.network(pixels.flip(-1), modalities)) / 2
        return F.normalize(features, dim=1) if self.unit else features


def trace(module: nn.Module, inputs: Sequence[Tensor], free_frames: bool) -> ExportedProgram:
    """Trace a module with a free number of items.

    Args:
        module: see :class:`PixelsToFeatures`; in evaluation mode.
        inputs: images of a batch of ITEMS, and modalities if the model takes them.
        free_frames: whether T is free, too; else it is that of the images.

    Raises:
        InputError: a part of the model cannot be traced; the message names the part.
    """
    items = Dim("batch")
    dims: list[dict[int, Any]] = [{0: items, 1: Dim("frames")} if free_frames else {0: items}]
    dims += [{0: items} for _ in inputs[1:]]
    with torch.no_grad(), quiet(), running_parts(module) as running:
        try:
            return torch.export.export(
                module,
                tuple(inputs),
                dynamic_shapes=tuple(dims),
                # What holds for all sizes, which torch cannot always see, is no reason to stop.
                prefer_deferred_runtime_asserts_over_guards=True,
            )
        except Exception as error:  # torch documents no types; a part may raise any
            raise InputError(f"{culprit(module, running)}: {reason(error)}") from error


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep back what torch and its exporter tell about themselves."""
    disabled = logging.root.manager.disable
    with (
        warnings.catch_warnings(),
        contextlib.redirect_stdout(io.StringIO()),
        contextlib.redirect_stderr(io.StringIO()),
    ):
        warnings.simplefilter("ignore")
        logging.disable(logging.CRITICAL)  # torch sets the levels of its loggers itself
        try:
            yield
        finally:
            logging.disable(disabled)


@contextlib.contextmanager
def running_parts(module: nn.Module) -> Iterator[list[str]]:
    """Keep a list of the names of the submodules that are computing, the innermost last.

    After an exception the list still holds those that it ended.
    """
    running: list[str] = []

    def enter(name: str, *_: object) -> None:
        running.append(name)

    def leave(*_: object) -> None:
        running.pop()

    hooks = []
    for name, part in module.named_modules():
        if not isinstance(part, nn.ModuleList | nn.ModuleDict):
            hooks.append(part.register_forward_pre_hook(partial(enter, name)))
            hooks.append(part.register_forward_hook(leave))
    try:
        yield running
    finally:
        for hook in hooks:
            hook.remove()


def culprit(module: nn.Module, running: Sequence[str]) -> str:
    """Name the part of a model that cannot be traced, such as "UsersTemporal (temporal)".

    Args:
        module: the model.
        running: what :func:`running_parts` left. Where nothing was computing, the sizes of the
            whole trace did not fit: the temporal part is the one that takes frames together.
    """
    names = running or [name for name, _ in module.named_modules() if name.endswith(".temporal")]
    return owner_name([(name, type(module.get_submodule(name))) for name in names])


def owner_of(node: torch.fx.Node) -> str:
    """Name the part of a model that a node of its program comes from."""
    parts = []
    for path, kind in node.meta.get("nn_module_stack", {}).values():
        module, _, name = kind.rpartition(".") if isinstance(kind, str) else ("", "", "")
        parts.append((path, type(name, (), {"__module__": module})))
    return owner_name(parts)


def owner_name(parts: Sequence[tuple[str, type]]) -> str:
    """Name the innermost of parts that is not torch's, because torch's are traced in any model.

    Args:
        parts: path and type of each, the innermost last.
    """
    for path, kind in reversed(parts):
        if not kind.__module__.startswith("torch."):
            path = path.removeprefix("network.").removeprefix("model.")
            return f"{kind.__name__} ({path})" if path else kind.__name__
    return "the model"


def reason(error: Exception) -> str:
    """Say in one line why torch could not trace."""
    text = one_line(error).partition(" For more information")[0]
    return f"torch.export cannot trace it: {text[:200]}"
