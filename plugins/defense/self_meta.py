"""Self-meta learning of DDDefense (arXiv 2511.09933): a step on some people must help others.

Legend: B images in the batch; theta the trainable parameters; L_mtr, L_mte the summed losses of the
meta-train and the meta-test rows, whose people differ; alpha the rate of the inner step.

    theta_temp = theta - alpha grad L_mtr(theta)        descend L_mtr(theta) + L_mte(theta_temp)
"""

import contextlib
import functools
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from fastreid.utils.events import EventStorage
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.attention import SDPBackend, sdpa_kernel

from plugins.errors import InputError
from plugins.modeling.meta_arch.vvi_baseline import log_scalar

# A model, which may have replaced parameters, and a batch to losses by name.
LossesOf = Callable[[Callable, dict], dict[str, Tensor]]


def split_identities(targets: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Split a batch into the rows of a random half of its people and the rows of the others.

    Args:
        targets: (B,) people.
        generator: on the CPU.

    Returns:
        Meta-train and meta-test rows, int64, ascending, on the device of ``targets``. If the number
        of people is odd, meta-train has one more.

    Raises:
        InputError: the batch has fewer than two people.
    """
    people = targets.unique()
    if len(people) < 2:
        raise InputError(
            f"SOLVER.IMS_PER_BATCH: self-meta splits each batch by person; found {len(people)} "
            "person in a batch, expected at least 2 in each process"
        )
    order = torch.randperm(len(people), generator=generator).to(targets.device)
    trained = torch.isin(targets, people[order[: (len(people) + 1) // 2]])
    return trained.nonzero().flatten(), (~trained).nonzero().flatten()


def meta_gradients(
    model: nn.Module,
    losses_of: LossesOf,
    train_batch: dict,
    test_batch: dict,
    alpha: float,
    *,
    second_order: bool,
    scale: Tensor | float = 1.0,
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Compute the gradient of L_mtr(theta) + L_mte(theta - alpha grad L_mtr(theta)).

    First order replaces d theta_temp / d theta by the identity, which gives grad L_mtr at theta
    plus grad L_mte at theta_temp. Second order differentiates through the inner step and needs
    losses and layers that are twice differentiable. Attacked images are data here: their crafting
    is not differentiated, since its sign() would make that derivative 0.

    Only the meta-train pass, at theta, writes to buffers; the meta-test pass works on copies, so
    that BatchNorm records no statistics of theta_temp, which is discarded. Each rank makes its own
    inner step; average the gradients afterwards.

    Logs ``meta/moved``, |theta_temp - theta| / |theta|; the model itself logs only its meta-train
    pass.

    Args:
        model: any module; its parameters that require a gradient are trained.
        losses_of: called with (model, train_batch), and then with (a stand-in for the model with
            the parameters theta_temp, test_batch). It calls its first argument as it would call the
            model, under autocast if needed, and returns scalar losses by name.
        train_batch: meta-train rows.
        test_batch: meta-test rows.
        alpha: learning rate of the inner step.
        second_order: whether to differentiate through the inner step.
        scale: factor of a float16 loss scaler; it multiplies the returned gradients, but neither
            the inner step nor the losses.

    Returns:
        Gradients by parameter name, without those that no loss reaches, and detached losses by
        name, those of the meta-test rows with "_meta_test" added.

    Raises:
        InputError: a layer is not twice differentiable, and ``second_order`` is set.
    """
    theta: dict[str, Tensor] = {n: p for n, p in model.named_parameters() if p.requires_grad}
    with twice_differentiable() if second_order else contextlib.nullcontext():
        train_losses = losses_of(model, train_batch)
        inner = _gradients(train_losses, theta, scale, create_graph=second_order)
        stepped = {name: theta[name] - alpha * _finite(g / scale) for name, g in inner.items()}
        buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}
        log_scalar("meta/moved", relative_step(theta, stepped))

        def stand_in(*args: Any, **kwargs: Any) -> Any:
            return functional_call(model, {**stepped, **buffers}, args, kwargs)

        with EventStorage():
            test_losses = losses_of(stand_in, test_batch)
        # theta_temp depends on theta, by the identity alone unless the inner gradient has a graph.
        outer = _gradients(test_losses, theta, scale)
    gradients = {
        name: total([part[name].detach() for part in (inner, outer) if name in part])
        for name in theta
        if name in inner or name in outer
    }
    losses = {**train_losses, **{f"{n}_meta_test": loss for n, loss in test_losses.items()}}
    return gradients, {name: loss.detach() for name, loss in losses.items()}


def add_gradients(model: nn.Module, gradients: dict[str, Tensor], share: float = 1.0) -> None:
    """Add ``share`` times the gradients, by parameter name, to what ``.grad`` holds."""
    parameters = dict(model.named_parameters())
    for name, gradient in gradients.items():
        parameter = parameters[name]
        added = share * gradient
        parameter.grad = added if parameter.grad is None else parameter.grad + added


@contextlib.contextmanager
def twice_differentiable() -> Iterator[None]:
    """Compute attention by matrix products, because its fused kernels have no second derivative.

    Raises:
        InputError: another operator, which the message names, has none, such as cuDNN's LSTM.
    """
    try:
        with sdpa_kernel(SDPBackend.MATH):
            yield
    except RuntimeError as error:
        if "derivative for" not in str(error):
            raise
        raise InputError(
            f"DEFENSE.META.SECOND_ORDER: True; {str(error).splitlines()[0]}; "
            "expected False, or a model without that operator"
        ) from error


@torch.no_grad()
def relative_step(theta: dict[str, Tensor], stepped: dict[str, Tensor]) -> Tensor:
    """Compute |theta_temp - theta| / |theta| over the parameters that moved; a scalar."""
    moved = torch.stack([(stepped[name] - theta[name]).norm() for name in stepped]).norm()
    return moved / torch.stack([theta[name].norm() for name in stepped]).norm()


def _gradients(
    losses: dict[str, Tensor],
    theta: dict[str, Tensor],
    scale: Tensor | float,
    create_graph: bool = False,
) -> dict[str, Tensor]:
    """Compute the gradients of the scaled sum of the losses, for the parameters it reaches."""
    gradients = torch.autograd.grad(
        total(losses.values()) * scale,
        list(theta.values()),
        create_graph=create_graph,
        allow_unused=True,
    )
    return {name: g for name, g in zip(theta, gradients, strict=True) if g is not None}


def total(values: Iterable[Tensor]) -> Tensor:
    """Add up one or more tensors of one shape."""
    return functools.reduce(torch.add, values)


def _finite(gradient: Tensor) -> Tensor:
    """Set overflows to 0; the returned gradients keep them, so that the loss scaler sees them."""
    return torch.where(gradient.isfinite(), gradient, 0)
