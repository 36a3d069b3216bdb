"""Define what one iteration of training does; the trainer owns loop, hooks and checkpoints.

A step owns the optimizers that the trainer does not know of. Models offer their losses by name, the
step decides who is updated.
"""

import contextlib
import logging
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any, cast

import numpy as np
import torch
from fastreid.config import CfgNode
from fastreid.utils import comm
from fastreid.utils.events import get_event_storage
from fastreid.utils.logger import log_first_n
from torch import Tensor, nn
from torch.optim import Optimizer

from plugins.engine.distributed import average_gradients
from plugins.engine.optimizer import clip_gradients, make_optimizer
from plugins.errors import InputError
from plugins.modeling.losses.base import check_scalar
from plugins.registry import STEP
from plugins.utils.own_code import described

logger = logging.getLogger(__name__)


class Diverged(FloatingPointError):
    """Report an infinite or NaN loss, on all ranks, before the main optimizer steps.

    Attributes:
        ranks: where it is.
        losses: of this rank, by name.
    """

    def __init__(self, message: str, ranks: list[int], losses: dict[str, float]) -> None:
        super().__init__(message)
        self.ranks = ranks
        self.losses = losses


class Step:
    """Provide the common part of all steps: batches, mixed precision, gradients, updates, metrics.

    Attributes:
        iter: iteration of the whole run, which the trainer sets before each :meth:`run_step`.
        epoch: epoch of the whole run, likewise.
        batches: batches of the current update, as the loader gave them.
        optimizer: optimizer that fastreid's learning-rate schedule drives.
        grad_scaler: loss scaler of float16 on CUDA, else None.
        parts: sections of DEFENSE with an ENABLED that this step uses.
    """

    parts: tuple[str, ...] = ()

    def __init__(
        self, cfg: CfgNode, model: nn.Module, data_loader: Any, optimizer: Optimizer
    ) -> None:
        """Take the parts that the trainer has built; the model goes into training mode.

        Raises:
            InputError: a part of DEFENSE is enabled that this step ignores.
        """
        self.check_config(cfg)
        self.cfg = cfg
        self.model = model.train()
        self.data_loader = data_loader
        self.optimizer = optimizer
        self.autocast, self.grad_scaler = mixed_precision(cfg)
        self.iter = 0
        self.epoch = 0
        self.batches: list[dict] = []
        self._stream: Iterator | None = None

    @classmethod
    def check_config(cls, cfg: CfgNode) -> None:
        """Check the config without a model and data; called before any data is read.

        Raises:
            InputError: a part of DEFENSE is enabled that this step ignores, or the step has no
                ``run_step``.
        """
        if cls.run_step is Step.run_step:
            raise InputError(
                f"SOLVER.STEP: {described(cls.__name__, cls)} has no run_step; expected "
                "run_step(self), or a subclass of SimpleStep or AdversarialStep"
            )
        for part, settings in cfg.DEFENSE.items():
            if isinstance(settings, CfgNode) and settings.get("ENABLED") and part not in cls.parts:
                raise InputError(
                    f"DEFENSE.{part}.ENABLED: True, but SOLVER.STEP {cfg.SOLVER.STEP} does not "
                    "use it; expected False, or SOLVER.STEP DDDefenseStep"
                )
        precision_name(cfg)

    @classmethod
    def adversary_parameters(cls, model: nn.Module) -> list[nn.Parameter]:
        """List the parameters that this step updates with an optimizer of its own."""
        return []

    def optimizers(self) -> list[Optimizer]:
        """List the optimizers that update the model: the main one, those in ``checkpointables``."""
        others = [each for each in self.checkpointables().values() if isinstance(each, Optimizer)]
        return [self.optimizer, *others]

    def resting_parameters(self) -> list[nn.Parameter]:
        """List the parameters of an adversary that has no turn in this step."""
        if not hasattr(self.model, "adversary_parameters") or self.adversary_parameters(self.model):
            return []
        return list(cast(Any, self.model).adversary_parameters())

    def branches(self) -> set[str]:
        """Name the kinds of training batches, from ``plugins.modeling.dual_norm.BRANCHES``."""
        return {"clean"}

    def checkpointables(self) -> dict[str, object]:
        """Return the objects with a ``state_dict`` that a checkpoint holds, by name."""
        return {} if self.grad_scaler is None else {"grad_scaler": self.grad_scaler}

    def run_step(self) -> None:
        """Run one iteration."""
        raise NotImplementedError

    def next_batches(self) -> tuple[list[dict], float]:
        """Take SOLVER.ACCUMULATION batches; return them and the seconds spent waiting."""
        start = time.perf_counter()
        if self._stream is None:
            self._stream = iter(self.data_loader)
        self.batches = [next(self._stream) for _ in range(self.cfg.SOLVER.ACCUMULATION)]
        # Counts the batches that were trained on; loader workers are further ahead.
        self.data_loader.batch_sampler.position += len(self.batches)
        return self.batches, time.perf_counter() - start

    def end_batches(self) -> None:
        """End the loader's workers; the next step starts others.

        Workers of a loop that only the garbage collector ends hear nothing of their end: their
        queues are gone first, and each is waited for in vain for 10 seconds.
        """
        self._stream = None

    def batch_losses(self, batch: dict, **model_arguments: Any) -> dict[str, Tensor]:
        """Compute the model's losses of a batch, by name, for ``backward``."""
        return self.model(batch, **model_arguments)

    def backward(self, batches: list[dict], optimizer: Optimizer, **model_arguments: Any) -> dict:
        """Fill the gradients that ``optimizer`` will apply with their mean over batches and ranks.

        Returns:
            Detached losses by name, means over the batches; empty where the model has none.

        Raises:
            InputError: a loss is no scalar, or none has a gradient.
        """
        optimizer.zero_grad()
        means: dict[str, Tensor] = {}
        for batch in batches:
            with self.autocast():
                losses = self.batch_losses(batch, **model_arguments)
            if not losses:
                return {}
            check_losses(losses)
            total = cast(Tensor, sum(losses.values())) / len(batches)
            (total if self.grad_scaler is None else self.grad_scaler.scale(total)).backward()
            for name, loss in losses.items():
                means[name] = means.get(name, 0) + loss.detach() / len(batches)
        average_gradients(p for group in optimizer.param_groups for p in group["params"])
        return means

    def unscale(self, optimizer: Optimizer) -> None:
        """Undo the loss scaling, so that gradients can be clipped."""
        if self.grad_scaler is not None:
            self.grad_scaler.unscale_(optimizer)

    def apply(self, optimizer: Optimizer) -> None:
        """Step ``optimizer``, unless the loss scaler found an overflow."""
        if self.grad_scaler is None:
            optimizer.step()
        else:
            self.grad_scaler.step(optimizer)

    def frozen(self) -> list[nn.Parameter]:
        """List the main optimizer's parameters that keep their values in this iteration."""
        if self.iter >= self.cfg.SOLVER.FREEZE_ITERS:
            return []
        frozen = [g for g in self.optimizer.param_groups if g["freeze_status"] == "freeze"]
        return [parameter for group in frozen for parameter in group["params"]]

    def update(self) -> None:
        """Clip and apply the gradients of the main optimizer; frozen layers keep their weights."""
        self.unscale(self.optimizer)
        for parameter in self.frozen():
            parameter.grad = None
        clip_gradients(self.cfg, self.optimizer)
        self.apply(self.optimizer)
        if self.grad_scaler is not None:
            self.grad_scaler.update()

    def write_metrics(
        self, losses: dict, data_time: float, adversary_losses: dict | None = None
    ) -> None:
        """Put the losses, averaged over the ranks, into fastreid's event storage.

        Args:
            losses: name -> loss; their sum is ``total_loss``.
            data_time: seconds waited for data; the slowest rank's is stored.
            adversary_losses: name -> loss that is not part of ``total_loss``.

        Raises:
            Diverged: a loss is infinite or NaN, on this rank or another.
        """
        both = {**losses, **(adversary_losses or {})}
        values = torch.stack([loss.float().reshape(()) for loss in both.values()]).tolist()
        scalars = dict(zip(both, values, strict=True))
        gathered = comm.all_gather({**scalars, "data_time": data_time})
        bad = [
            rank
            for rank, values in enumerate(gathered)
            if not np.isfinite([*values.values()]).all()
        ]
        if bad:
            shown = ", ".join(f"{name} {gathered[bad[0]][name]:.4g}" for name in both)
            where = f" on rank {bad[0]}" if len(gathered) > 1 else ""
            message = f"iteration {self.iter}: a loss is infinite or NaN{where}: {shown}"
            raise Diverged(message, bad, scalars)
        if comm.is_main_process():
            storage = get_event_storage()
            storage.put_scalar("data_time", max(values.pop("data_time") for values in gathered))
            means = {name: float(np.mean([values[name] for values in gathered])) for name in both}
            storage.put_scalar("total_loss", sum(means[name] for name in losses))
            storage.put_scalars(**means)


@STEP.register()
class SimpleStep(Step):
    """Train one player: every loss of the model, one update of every trainable tensor."""

    def __init__(
        self, cfg: CfgNode, model: nn.Module, data_loader: Any, optimizer: Optimizer
    ) -> None:
        """Prepare a :class:`Step`; warn where an adversary never gets a turn."""
        super().__init__(cfg, model, data_loader, optimizer)
        if hasattr(model, "adversary_parameters"):
            logger.warning(
                "SOLVER.STEP %s: the adversary of %s takes no part; AlternatingStep trains it",
                cfg.SOLVER.STEP,
                type(model).__name__,
            )

    def run_step(self) -> None:
        """Run forward, backward and update."""
        batches, data_time = self.next_batches()
        losses = self.backward(batches, self.optimizer)
        self.write_metrics(losses, data_time)
        self.update()


@STEP.register()
class AlternatingStep(Step):
    """Give two players a turn each on a batch: the adversary, then the defender (SADSTRM).

    The model offers ``model(batch, turn="attack")``, the adversary's losses, which reach no other
    parameter, and ``model(batch, turn="defense")``, the defender's. Before
    SOLVER.ADVERSARY.START_EPOCH the defender trains alone on ``model(batch)``.
    """

    def __init__(
        self, cfg: CfgNode, model: nn.Module, data_loader: Any, optimizer: Optimizer
    ) -> None:
        """Prepare a :class:`Step`; build the adversary's optimizer, SGD."""
        super().__init__(cfg, model, data_loader, optimizer)
        settings = cfg.SOLVER.ADVERSARY
        if settings.START_EPOCH >= cfg.SOLVER.MAX_EPOCH:
            logger.warning(
                "SOLVER.ADVERSARY.START_EPOCH %d: the adversary takes no part in a training of %d "
                "epochs (SOLVER.MAX_EPOCH)",
                settings.START_EPOCH,
                cfg.SOLVER.MAX_EPOCH,
            )
        self.adversary = self.adversary_parameters(model)
        self.adversary_optimizer = None
        if self.adversary:
            group = {
                "params": self.adversary,
                "lr": settings.BASE_LR,
                "weight_decay": settings.WEIGHT_DECAY,
            }
            self.adversary_optimizer = make_optimizer(
                "SGD", [group], momentum=settings.MOMENTUM, nesterov=False
            )

    @classmethod
    def adversary_parameters(cls, model: nn.Module) -> list[nn.Parameter]:
        """List the parameters of the model's adversary.

        Raises:
            InputError: the meta-architecture has no adversary.
        """
        if not hasattr(model, "adversary_parameters"):
            raise InputError(
                f"SOLVER.STEP AlternatingStep: {type(model).__name__} has no adversary; "
                "use SimpleStep, or a meta-architecture that has one, such as SADSTRM"
            )
        return list(cast(Any, model).adversary_parameters())

    def checkpointables(self) -> dict[str, object]:
        """Add the adversary's optimizer."""
        both = super().checkpointables()
        if self.adversary_optimizer is not None:
            both["adversary_optimizer"] = self.adversary_optimizer
        return both

    def run_step(self) -> None:
        """Run the adversary's turn, then the defender's; before START_EPOCH the plain losses."""
        batches, data_time = self.next_batches()
        if self.epoch < self.cfg.SOLVER.ADVERSARY.START_EPOCH:
            attack_losses: dict = {}
            losses = self.backward(batches, self.optimizer)
        else:
            attack_losses = self._attack(batches)
            losses = self.backward(batches, self.optimizer, turn="defense")
        self.write_metrics(losses, data_time, attack_losses)
        self.update()

    def _attack(self, batches: list[dict]) -> dict:
        if self.adversary_optimizer is None:
            return {}
        losses = self.backward(batches, self.adversary_optimizer, turn="attack")
        self.unscale(self.adversary_optimizer)
        nn.utils.clip_grad_norm_(self.adversary, self.cfg.SOLVER.ADVERSARY.CLIP_NORM)
        self.apply(self.adversary_optimizer)
        return losses


def check_losses(losses: dict[str, Tensor]) -> None:
    """Raise InputError unless all losses of a batch are scalars, and one has a gradient.

    Warns, once for each name, of a loss without a gradient, which trains nothing.
    """
    for name, loss in losses.items():
        check_scalar(name, loss)
    detached = [name for name, loss in losses.items() if not loss.requires_grad]
    if len(detached) == len(losses):
        raise InputError(
            f"{', '.join(detached)}: no loss has a gradient; expected one that is computed from "
            "the model's outputs without detach(), item() or no_grad()"
        )
    for name in detached:
        message = (
            f"{name}: the loss has no gradient, so it trains nothing; expected one that is "
            "computed from the model's outputs without detach(), item() or no_grad()"
        )
        log_first_n(logging.WARNING, message, name=__name__, key="message")


def mixed_precision(
    cfg: CfgNode,
) -> tuple[Callable[[], AbstractContextManager], torch.amp.GradScaler | None]:
    """Build the context of the forward pass and the loss scaler, as SOLVER.AMP and device allow.

    CUDA: float16 with a loss scaler, or bfloat16. CPU: bfloat16 where the processor has it, else
    float32, with one warning.

    Returns:
        (callable that gives a context manager, GradScaler or None).
    """
    name = precision_name(cfg)
    if not name:
        return contextlib.nullcontext, None
    if cfg.MODEL.DEVICE.startswith("cuda"):
        scaler = torch.amp.GradScaler("cuda") if name == "float16" else None
        return lambda: torch.autocast("cuda", getattr(torch, name)), scaler
    if torch.ops.mkldnn._is_mkldnn_bf16_supported():
        logger.warning("SOLVER.AMP on a CPU: bfloat16, no loss scaling")
        return lambda: torch.autocast("cpu", torch.bfloat16), None
    logger.warning("SOLVER.AMP on a CPU without bfloat16: training in float32")
    return contextlib.nullcontext, None


def precision_name(cfg: CfgNode) -> str:
    """Read SOLVER.AMP.DTYPE; return an empty name where SOLVER.AMP is off."""
    return cfg.SOLVER.AMP.DTYPE if cfg.SOLVER.AMP.ENABLED else ""
