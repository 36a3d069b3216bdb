"""Warn once, by name, of parameters that do not train although they should."""

import logging
from collections.abc import Iterable, Iterator

import torch
from fastreid.engine.train_loop import HookBase
from torch import Tensor, nn
from torch.optim import Optimizer

from plugins.engine.steps import Step

logger = logging.getLogger(__name__)

# Updates that a parameter may wait for its first gradient: a path that starts at zero passes one on
# only after its last layer has moved.
PATIENCE = 10
SHORTEST = 3  # updates after which a training that ends earlier tells what it saw
SHOWN = 6  # names in a message


class TellUntrained(HookBase):
    """Warn of parameters that no optimizer holds, or that get no gradient in PATIENCE updates.

    A training that ends after fewer updates is told at its end.

    An update counts for a parameter if its optimizer took a step, at a rate above 0, in which the
    parameter was not frozen. So an adversary that waits for its START_EPOCH, layers that are frozen
    for FREEZE_ITERS and paths that start at zero are not told. Hooks of the optimizers do the
    counting and go when nothing is left to count.
    """

    def __init__(self, step: Step) -> None:
        """Watch the optimizers of ``step`` from their next update on."""
        self._step = step
        self._waiting: dict[nn.Parameter, int] = {}  # updates without a gradient so far
        self._handles: list = []

    def before_train(self) -> None:
        """Warn of modules in plain containers, which the model does not see."""
        for attribute, count in hidden_parameters(self._step.model).items():
            logger.warning(
                "%s: a plain container of modules or parameters; %d of these parameters are not "
                "the model's: no optimizer trains them, no checkpoint holds them; expected "
                "nn.ModuleList, nn.ModuleDict or nn.ParameterList",
                attribute,
                count,
            )
        self._waiting = {p: 0 for _, p in self._trainable()}
        for optimizer in self._step.optimizers():
            self._handles.append(optimizer.register_step_post_hook(self._count))

    def after_step(self) -> None:
        """Warn after the first iteration of parameters without an optimizer, later of the rest.

        A part may make parameters in its first forward pass, so that they come too late.
        """
        if self.trainer.iter == self.trainer.start_iter:
            held = {p for o in self._step.optimizers() for g in o.param_groups for p in g["params"]}
            names = [name for name, parameter in self._trainable() if parameter not in held]
            tell(names, "no optimizer holds {}")
        late = [p for p, updates in self._waiting.items() if updates >= PATIENCE]
        if late:
            names = [
                name for name, p in self._trainable() if any(p is parameter for parameter in late)
            ]
            tell(names, f"no gradient reached {{}} in {PATIENCE} updates")
            for parameter in late:
                del self._waiting[parameter]
        if not self._waiting:
            self._stop()

    def after_train(self) -> None:
        """Warn, at the end of a training that was shorter than PATIENCE, of what it saw."""
        waited = {id(p): updates for p, updates in self._waiting.items() if updates >= SHORTEST}
        names = [name for name, p in self._trainable() if id(p) in waited]
        if names:
            tell(names, f"no gradient reached {{}} in the {max(waited.values())} updates so far")
        self._waiting = {}
        self._stop()

    def _stop(self) -> None:
        """Remove the hooks of the optimizers."""
        for handle in self._handles:
            handle.remove()
        self._handles = []

    def _count(self, optimizer: Optimizer, *_: object) -> None:
        """Look at the gradients of an optimizer after each of its steps."""
        frozen = {id(parameter) for parameter in self._step.frozen()}
        waiting = [
            parameter
            for group in optimizer.param_groups
            if group["lr"] > 0
            for parameter in group["params"]
            if parameter in self._waiting and id(parameter) not in frozen
        ]
        for parameter, reached in zip(waiting, has_gradient(waiting), strict=True):
            if reached:
                del self._waiting[parameter]
            else:
                self._waiting[parameter] += 1

    def _trainable(self) -> Iterator[tuple[str, nn.Parameter]]:
        resting = {id(parameter) for parameter in self._step.resting_parameters()}
        for name, parameter in self._step.model.named_parameters():
            if parameter.requires_grad and id(parameter) not in resting:
                yield name, parameter


def has_gradient(parameters: list[nn.Parameter]) -> list[bool]:
    """Tell whether each parameter has a nonzero gradient, with one transfer from a GPU."""
    present = [parameter.grad is not None for parameter in parameters]
    reached = [parameter.grad.any() for parameter in parameters if parameter.grad is not None]
    values = iter(torch.stack(reached).tolist() if reached else [])
    return [next(values) if has_grad else False for has_grad in present]


def tell(names: list[str], why: str) -> None:
    """Warn in one line of parameters with these names; without names do nothing."""
    if names:
        shown = ", ".join(names[:SHOWN])
        more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
        count = "1 parameter does" if len(names) == 1 else f"{len(names)} parameters do"
        reason = why.format("it" if len(names) == 1 else "them")
        logger.warning("%s not train, as %s: %s%s", count, reason, shown, more)


def hidden_parameters(model: nn.Module) -> dict[str, int]:
    """Count the trainable parameters in plain containers of the model, by attribute.

    ``nn.Module`` registers an attribute that is a module or a parameter, but not a list, tuple, set
    or dictionary of them.
    """
    registered = {id(parameter) for parameter in model.parameters()}
    counts = {}
    for name, module in model.named_modules():
        for attribute, value in vars(module).items():
            if attribute in ("_parameters", "_buffers", "_modules"):
                continue
            held = {id(p) for p in parameters_in(value) if p.requires_grad}
            if count := len(held - registered):
                counts[f"{name}.{attribute}".removeprefix(".")] = count
    return counts


def parameters_in(value: object, depth: int = 3) -> Iterator[Tensor]:
    """List the parameters and those of modules in nested plain containers."""
    if isinstance(value, nn.Parameter):
        yield value
    elif isinstance(value, nn.Module):
        yield from value.parameters()
    elif depth and isinstance(value, list | tuple | set | dict):
        parts: Iterable = value.values() if isinstance(value, dict) else value
        for part in parts:
            yield from parameters_in(part, depth - 1)
