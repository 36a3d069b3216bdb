"""Contexts in which a network, or a part of it, is used without being changed."""

import contextlib
from collections.abc import Iterable, Iterator

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm


@contextlib.contextmanager
def frozen_statistics(module: nn.Module) -> Iterator[None]:
    """Let batch normalization use the batch's statistics inside without recording them."""
    norms = [part for part in module.modules() if isinstance(part, _BatchNorm)]
    before = [(norm.track_running_stats, norm.momentum) for norm in norms]
    for norm in norms:
        norm.track_running_stats = False
        # fastreid's GhostBatchNorm still records; with momentum 0 that changes nothing.
        norm.momentum = 0.0
    try:
        yield
    finally:
        for norm, (track, momentum) in zip(norms, before, strict=True):
            norm.track_running_stats, norm.momentum = track, momentum


@contextlib.contextmanager
def frozen_parameters(parameters: Iterable[nn.Parameter]) -> Iterator[None]:
    """Let graphs built inside pass gradients through these parameters' layers, but not to them."""
    trained = [parameter for parameter in parameters if parameter.requires_grad]
    for parameter in trained:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in trained:
            parameter.requires_grad_(True)


@contextlib.contextmanager
def evaluation_mode(module: nn.Module) -> Iterator[None]:
    """Set evaluation mode inside; afterwards each part is in its earlier mode."""
    modes = [(part, part.training) for part in module.modules()]
    module.eval()
    try:
        yield
    finally:
        for part, training in modes:
            part.training = training
