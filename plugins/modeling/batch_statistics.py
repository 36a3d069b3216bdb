"""Keep the batch statistics of one pass, to normalize another pass by them.

In training mode a BatchNorm subtracts the mean of its batch. If an attack changes all rows alike,
this undoes the change, and the attack does not reach the feature. Normalized by the statistics of
the clean batch, it does.
"""

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
import torch.distributed as dist
from fastreid.layers.batch_norm import GhostBatchNorm
from fastreid.utils import comm
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm


def mean_and_variance(values: Tensor, dims: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """Compute mean and biased variance; ``torch.var_mean`` takes five times as long on a CPU."""
    mean = values.mean(dim=dims, keepdim=True)
    return mean.squeeze(dims), (values - mean).square_().mean(dim=dims)


def input_statistics(norm: _BatchNorm, inputs: Tensor) -> tuple[Tensor, Tensor]:
    """Compute the mean and biased variance by which ``norm`` normalizes a batch in training mode.

    Args:
        norm: a SyncBatchNorm takes the statistics of all ranks' batches together.
        inputs: (N, C, ...).

    Returns:
        (C,) both, float32, without a gradient.
    """
    inputs = inputs.detach().float()
    mean, variance = mean_and_variance(inputs, (0, *range(2, inputs.dim())))
    if isinstance(norm, nn.SyncBatchNorm) and comm.get_world_size() > 1:
        mean, variance = over_ranks(mean, variance, inputs.numel() // inputs.shape[1])
    return mean, variance


def over_ranks(mean: Tensor, variance: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Combine mean and biased variance of this rank's ``count`` values with the other ranks'."""
    # In float64: squares of a large mean swallow a variance.
    mean, variance = mean.double(), variance.double()
    ones = torch.ones_like(mean)
    sums = count * torch.stack([ones, mean, variance + mean.square()])
    dist.all_reduce(sums)
    total, mean, square = sums
    mean, square = mean / total, square / total
    return mean.float(), (square - mean.square()).float()


class BatchStatistics:
    """The batch statistics that the normalizations of a module computed in one pass.

    ``with statistics.recorded(): ...`` surrounds a pass in training mode; later, as often as
    needed, ``with statistics.used(): ...`` surrounds another one, which records nothing in the
    module. There each normalization takes, at its k-th call, the statistics of its k-th call in the
    recorded pass; they are constants, as in evaluation mode. A normalization in evaluation mode
    stays in it.

    A subclass of BatchNorm whose ``forward`` takes more than one argument has a method that
    computes its statistics: ``norm.input_statistics(*inputs)``, in the shapes of its running
    statistics.
    """

    def __init__(self, module: nn.Module):
        self.norms = [part for part in module.modules() if isinstance(part, _BatchNorm)]
        self.kept: dict[_BatchNorm, list[tuple[Tensor, Tensor]]] = {}

    @contextlib.contextmanager
    def recorded(self) -> Iterator[None]:
        """Keep the statistics of the passes inside instead of the earlier ones."""
        self.kept = {norm: [] for norm in self.norms if norm.training}
        hooks = [norm.register_forward_pre_hook(self._keep) for norm in self.kept]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()

    @torch.no_grad()
    def _keep(self, norm: _BatchNorm, inputs: tuple) -> None:
        method = getattr(norm, "input_statistics", None)
        statistics = method(*inputs) if method else input_statistics(norm, *inputs)
        self.kept[norm].append(statistics)

    @contextlib.contextmanager
    def used(self) -> Iterator[None]:
        """Normalize the passes inside by the kept statistics."""
        before = [
            (norm, norm.training, norm.track_running_stats, norm.running_mean, norm.running_var)
            for norm in self.kept
        ]
        supplies: dict[Any, Supply] = {norm: Supply(kept) for norm, kept in self.kept.items()}
        hooks = []
        for norm, supply in supplies.items():
            norm.training, norm.supply = False, supply
            # A GhostBatchNorm that tracks nothing takes the batch's statistics in either mode.
            norm.track_running_stats = isinstance(norm, GhostBatchNorm)
            hooks.append(norm.register_forward_pre_hook(supply))
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()
            for norm, supply in supplies.items():
                supply.active = False
                del norm.supply
            for norm, training, track, mean, variance in before:
                norm.training, norm.track_running_stats = training, track
                norm.running_mean, norm.running_var = mean, variance


class Supply:
    """Gives a norm, at its k-th call, the statistics of its k-th call in the recorded pass.

    ``norm.supply`` inside ``BatchStatistics.used``.

    Attributes:
        calls: calls so far; whoever sets it back repeats them.
        active: whether it is a hook of the norm.
    """

    def __init__(self, statistics: list[tuple[Tensor, Tensor]]):
        self.statistics = statistics
        self.calls, self.active = 0, True

    def __call__(self, norm: _BatchNorm, inputs: tuple) -> None:
        """Supply the statistics of the call that begins."""
        assert self.calls < len(self.statistics), (
            f"call {self.calls + 1} of a {type(norm).__name__}, of which the recorded pass had "
            f"{len(self.statistics)}"
        )
        norm.running_mean, norm.running_var = self.statistics[self.calls]
        self.calls += 1
