"""Keep less for the backward pass: each block of a trunk computes its activations a second time.

Activation checkpointing, Chen et al., "Training Deep Nets with Sublinear Memory Cost", arXiv
1604.06174, by ``torch.utils.checkpoint``. Losses and gradients stay the same to the bit.
"""

import contextlib
import functools
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from fastreid.config import CfgNode
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint

from plugins.errors import InputError
from plugins.modeling.backbones import TwoStreamBackbone
from plugins.modeling.backbones.trunks import KINDS, STAGES, kind_of
from plugins.modeling.dual_norm import DualNorm

# With these a batch normalization leaves its statistics as they are.
SILENT = {"momentum": 0.0, "num_batches_tracked": None}


def recompute_blocks(model: nn.Module, cfg: CfgNode) -> nn.Module:
    """Let the blocks of a model's trunk be recomputed, if SOLVER.ACTIVATION_CHECKPOINTING asks.

    Args:
        model: with a trunk of a known kind; its blocks are changed.
        cfg: SOLVER.ACTIVATION_CHECKPOINTING is read.

    Returns:
        The same model.

    Raises:
        InputError: the model has no such trunk.
    """
    if not cfg.SOLVER.ACTIVATION_CHECKPOINTING:
        return model
    trunks = [(kind, part) for part in model.modules() if (kind := kind_of(part))]
    if not trunks:
        raise InputError(
            f"SOLVER.ACTIVATION_CHECKPOINTING: True, but {type(model).__name__} has no trunk whose "
            "blocks are known; expected False, or a "
            f"{' or '.join(kind.network.__name__ for kind in KINDS)}"
        )
    blocks = stems_of(model)
    for kind, trunk in trunks:
        blocks += [block for stage in STAGES for block in kind.blocks(trunk, stage)]
    for block in blocks:
        # On the module itself: a wrapper would rename its weights in a checkpoint.
        block.forward = functools.partial(_recomputed, block)
    return model


def stems_of(model: nn.Module) -> list[nn.Module]:
    """List the stems of a model of two modalities; those of other models are several modules."""
    stems = [part.stems for part in model.modules() if isinstance(part, TwoStreamBackbone)]
    return [stem for each in stems for stem in each]


def _recomputed(block: nn.Module, maps: Tensor) -> Tensor:
    """Run a block; where there will be a backward pass, keep its input alone."""
    forward: Callable = functools.partial(type(block).forward, block)
    # Weights that functional_call lends for one pass are gone in the backward pass.
    lent = not all(isinstance(weight, nn.Parameter) for weight in block.parameters())
    if lent or not torch.is_grad_enabled():
        return forward(maps)
    state = _state_of(block)
    supplied = [(part, part.supply) for part in block.modules() if hasattr(part, "supply")]
    contexts = lambda: (contextlib.nullcontext(), _as_before(block, state, supplied))  # noqa: E731
    return checkpoint(forward, maps, use_reentrant=False, context_fn=contexts)


def _state_of(block: nn.Module) -> list[tuple[object, str, Any]]:
    """Note what a context may change between the forward and the backward pass."""
    state: list[tuple[object, str, Any]] = []
    for part in block.modules():
        names = ["training"]
        names += ["track_running_stats"] if isinstance(part, _BatchNorm) else []
        names += ["batch"] if isinstance(part, DualNorm) else []
        if supply := getattr(part, "supply", None):  # of a clean pass, see BatchStatistics.used
            names += ["running_mean", "running_var"]
            state.append((supply, "calls", supply.calls))
        state += [(part, name, getattr(part, name)) for name in names]
    return state + [
        (weight, "requires_grad", weight.requires_grad) for weight in block.parameters()
    ]


@contextlib.contextmanager
def _as_before(
    block: nn.Module, state: list[tuple[object, str, Any]], supplied: list[tuple[nn.Module, Any]]
) -> Iterator[None]:
    """Compute inside as in the forward pass, which has recorded the statistics already."""
    norms = [part for part in block.modules() if isinstance(part, _BatchNorm)]
    # No layer may save fewer tensors than in the forward pass, so each still gets its statistics.
    silent = [(norm, name, value) for norm in norms for name, value in SILENT.items()]
    now = [(part, name, getattr(part, name)) for part, name, _ in (*state, *silent)]
    _set_all((*state, *silent))
    hooks = [
        part.register_forward_pre_hook(supply) for part, supply in supplied if not supply.active
    ]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
        _set_all(now)


def _set_all(values: Iterable[tuple[object, str, Any]]) -> None:
    for part, name, value in values:
        setattr(part, name, value)
