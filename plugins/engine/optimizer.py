"""Build optimizer, learning-rate schedule and clipping from fastreid's config keys."""

import inspect
import math
from collections.abc import Iterable

import torch
from fastreid.config import CfgNode
from fastreid.solver import build_lr_scheduler as build_fastreid_scheduler
from fastreid.solver.build import _create_gradient_clipper, get_default_optimizer_params
from torch import nn
from torch.optim import Optimizer

from plugins.errors import InputError
from plugins.utils.names import closest_names

# LBFGS asks for losses again and again, the others take not every tensor.
OPTIMIZERS = sorted(
    {name for name, each in vars(torch.optim).items() if inspect.isclass(each)}
    - {"Optimizer", "LBFGS", "SparseAdam", "Muon"}
)


def build_optimizer(
    cfg: CfgNode, model: nn.Module, leave_out: Iterable[nn.Parameter] = ()
) -> Optimizer:
    """Build the optimizer ``SOLVER.OPT`` over the model's parameters.

    fastreid.solver.build_optimizer keeps all weights in one flat buffer whose gradient torch >= 2
    drops at ``zero_grad``, so that nothing is ever learnt; without that buffer it makes one group
    per tensor. Here tensors that share a learning rate and a weight decay share a group, and
    torch's fused kernels are used where it offers them.

    Args:
        cfg: SOLVER.OPT, BASE_LR and the other keys of SOLVER that fastreid's own function reads.
        model: the model.
        leave_out: parameters that another optimizer updates.

    Raises:
        InputError: torch.optim has no optimizer of that name.
    """
    left_out = {id(parameter) for parameter in leave_out}
    groups: dict[tuple, dict] = {}
    for group in get_default_optimizer_params(
        model,
        base_lr=cfg.SOLVER.BASE_LR,
        weight_decay=cfg.SOLVER.WEIGHT_DECAY,
        weight_decay_norm=cfg.SOLVER.WEIGHT_DECAY_NORM,
        bias_lr_factor=cfg.SOLVER.BIAS_LR_FACTOR,
        heads_lr_factor=cfg.SOLVER.HEADS_LR_FACTOR,
        weight_decay_bias=cfg.SOLVER.WEIGHT_DECAY_BIAS,
        freeze_layers=cfg.MODEL.FREEZE_LAYERS if cfg.SOLVER.FREEZE_ITERS > 0 else [],
    ):
        parameters = [p for p in group.pop("params") if id(p) not in left_out]
        if parameters:
            shared = groups.setdefault(tuple(sorted(group.items())), {**group, "params": []})
            shared["params"] += parameters
    return make_optimizer(
        cfg.SOLVER.OPT,
        list(groups.values()),
        momentum=cfg.SOLVER.MOMENTUM,
        nesterov=cfg.SOLVER.NESTEROV,
    )


def make_optimizer(name: str, groups: list[dict], *, momentum: float, nesterov: bool) -> Optimizer:
    """Make an optimizer of ``torch.optim``; as in fastreid, momentum and nesterov are for SGD."""
    check_optimizer(name)
    optimizer_class = getattr(torch.optim, name)
    options = {"momentum": momentum, "nesterov": nesterov} if name == "SGD" else {}
    if "fused" in inspect.signature(optimizer_class).parameters:
        options["fused"] = True
    return optimizer_class(groups, **options)


def check_optimizer(name: str) -> None:
    """Raise InputError unless ``name`` is an optimizer of ``torch.optim`` that can be used."""
    if name not in OPTIMIZERS:
        close = ", ".join(closest_names(name, OPTIMIZERS)[:3])
        raise InputError(f"SOLVER.OPT: torch.optim has no '{name}' to use; nearest: {close}")


def check_solver(cfg: CfgNode) -> None:
    """Check what SOLVER alone tells of optimizer and schedule, before any data is read.

    Raises:
        InputError: torch.optim has no such optimizer, or it refuses its settings; a step lies in
            the warm-up or delay, or the cosine would begin when training has ended.
    """
    solver = cfg.SOLVER
    check_optimizer(solver.OPT)
    if solver.OPT == "SGD" and solver.NESTEROV and not solver.MOMENTUM:
        raise InputError("SOLVER.NESTEROV: True with SOLVER.MOMENTUM 0; expected more than 0")
    check_schedule(cfg, solver.WARMUP_EPOCHS)


def check_schedule(cfg: CfgNode, warmup_epochs: int) -> None:
    """Raise InputError where the schedule does not follow the warm-up and the delay.

    Args:
        cfg: config of a run.
        warmup_epochs: epochs, begun ones included, of the warm-up.
    """
    solver = cfg.SOLVER
    if solver.SCHED == "MultiStepLR" and solver.WARMUP_EPOCHS > 0:
        start = first_count(cfg)
        if early := [step for step in solver.STEPS if step <= start]:
            raise InputError(
                f"SOLVER.STEPS {list(solver.STEPS)}: {early[0]} lies in the warm-up or delay; "
                f"expected {start + 1} or more, as SOLVER.WARMUP_EPOCHS is "
                f"{solver.WARMUP_EPOCHS} and SOLVER.DELAY_EPOCHS {solver.DELAY_EPOCHS}"
            )
    first = max(warmup_epochs, solver.DELAY_EPOCHS)
    if solver.SCHED == "CosineAnnealingLR" and first == solver.MAX_EPOCH:
        # fastreid would divide by the 0 epochs that are left.
        raise InputError(
            f"SOLVER.SCHED CosineAnnealingLR begins after {first} epochs of warm-up or delay, when "
            f"training has ended; expected SOLVER.MAX_EPOCH above {first}"
        )


def first_count(cfg: CfgNode) -> int:
    """Return the epoch at whose end fastreid's count of SOLVER.STEPS begins."""
    return max(cfg.SOLVER.WARMUP_EPOCHS - 1, cfg.SOLVER.DELAY_EPOCHS)


def build_lr_scheduler(cfg: CfgNode, optimizer: Optimizer, iters_per_epoch: int) -> dict:
    """Build fastreid's schedulers, with SOLVER.WARMUP_EPOCHS turned into iterations.

    fastreid counts SOLVER.STEPS from the last warm-up epoch on. With WARMUP_EPOCHS they count from
    the start of training, as papers do: STEPS [35] makes epoch 35 the first with a lower rate.

    Returns:
        ``lr_sched`` and, with a warm-up, ``warmup_sched``.

    Raises:
        InputError: a step lies in the warm-up or delay, or the cosine would begin when training
            ends.
    """
    check_schedule(cfg, math.ceil(warmup_iters(cfg, iters_per_epoch) / iters_per_epoch))
    cfg = cfg.clone()
    cfg.defrost()
    if cfg.SOLVER.WARMUP_EPOCHS > 0:
        cfg.SOLVER.STEPS = [step - first_count(cfg) for step in cfg.SOLVER.STEPS]
    cfg.SOLVER.WARMUP_ITERS = warmup_iters(cfg, iters_per_epoch)
    return build_fastreid_scheduler(cfg, optimizer, iters_per_epoch)


def warmup_iters(cfg: CfgNode, iters_per_epoch: int) -> int:
    """Count the iterations of warm-up that the config asks for."""
    return cfg.SOLVER.WARMUP_EPOCHS * iters_per_epoch or cfg.SOLVER.WARMUP_ITERS


def clip_gradients(cfg: CfgNode, optimizer: Optimizer) -> None:
    """Clip each parameter's gradient on its own, as fastreid and SOLVER.CLIP_GRADIENTS say."""
    if cfg.SOLVER.CLIP_GRADIENTS.ENABLED:
        clip = _create_gradient_clipper(cfg.SOLVER.CLIP_GRADIENTS)
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                clip(parameter)
