"""Exchange weights at the start, gradients in each step and statistics between ranks.

Gradients are averaged after ``backward`` instead of through DistributedDataParallel's hooks,
because a step may run several forwards, update one of two players, or differentiate twice; the one
rule "average what this optimizer is about to apply" holds for all of them.
"""

from collections.abc import Iterable

import torch
import torch.distributed as dist
from fastreid.utils import comm
from torch import Tensor, nn

# What gloo and NCCL say when the process at the other end is gone.
GONE = (
    "Connection closed by peer",
    "Connection reset by peer",
    "Broken pipe",
    "remote process exi",
)
BUCKET_ELEMENTS = 8 * 2**20  # 32 MiB of float32 per all-reduce


def broadcast_model(model: nn.Module) -> None:
    """Give every rank the parameters and buffers of rank 0."""
    if comm.get_world_size() == 1:
        return
    for tensor in (*model.parameters(), *model.buffers()):
        dist.broadcast(tensor.data, src=0)


def lost_rank(error: BaseException | None) -> bool:
    """Tell whether an error arose because another rank has ended."""
    while error is not None:
        lost = isinstance(error, dist.DistNetworkError) or any(t in str(error) for t in GONE)
        if lost and isinstance(error, RuntimeError) and comm.get_world_size() > 1:
            return True
        error = error.__cause__ or error.__context__
    return False


def agree_on_largest(number: int) -> int:
    """Return the largest of the ranks' numbers; every rank must call this."""
    if comm.get_world_size() == 1:
        return number
    numbers = torch.tensor([number])
    # On the CPU also beside NCCL: it waits for no kernel.
    dist.all_reduce(numbers, op=dist.ReduceOp.MAX, group=comm._get_global_gloo_group())
    return int(numbers)


def average_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Replace each gradient by its mean over the ranks.

    A parameter that got no gradient on some rank counts as zero there; one that got none anywhere
    keeps none, so that weight decay and momentum leave it alone.
    """
    size = comm.get_world_size()
    if size == 1:
        return
    parameters = [parameter for parameter in parameters if parameter.requires_grad]
    if not parameters:
        return
    device = parameters[0].device
    used = torch.tensor([p.grad is not None for p in parameters], dtype=torch.int32, device=device)
    dist.all_reduce(used, op=dist.ReduceOp.MAX)
    gradients = []
    for parameter, is_used in zip(parameters, used.tolist(), strict=True):
        if is_used:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
            gradients.append(parameter.grad)
    _all_reduce_mean(gradients, size)


def average_buffers(model: nn.Module) -> None:
    """Replace each floating-point buffer, such as BatchNorm's, by its mean over the ranks.

    The ranks see different clips, so without this they would evaluate, and save, different models.
    """
    size = comm.get_world_size()
    if size > 1:
        _all_reduce_mean([b for b in model.buffers() if b.is_floating_point()], size)


def _all_reduce_mean(tensors: list[Tensor], size: int) -> None:
    """Average over ``size`` ranks, in place, by a few large messages that travel together."""
    buckets: list[list[Tensor]] = []
    filled = BUCKET_ELEMENTS
    for tensor in tensors:
        if filled + tensor.numel() > BUCKET_ELEMENTS or tensor.dtype != buckets[-1][0].dtype:
            buckets.append([])
            filled = 0
        buckets[-1].append(tensor)
        filled += tensor.numel()
    flats = [torch.cat([tensor.flatten() for tensor in bucket]) for bucket in buckets]
    for work in [dist.all_reduce(flat, async_op=True) for flat in flats]:
        work.wait()
    for bucket, flat in zip(buckets, flats, strict=True):
        for tensor, mean in zip(
            bucket, flat.div_(size).split([t.numel() for t in bucket]), strict=True
        ):
            tensor.copy_(mean.view_as(tensor))
