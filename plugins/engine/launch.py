"""Start one or several processes: CUDA with NCCL, CPU with gloo, or under torchrun."""

import os
from collections.abc import Callable

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from fastreid.engine.launch import _distributed_worker as nccl_worker
from fastreid.utils import comm

from plugins.errors import InputError


def world_size(num_processes: int, num_machines: int) -> int:
    """Processes that will take part, under torchrun or under :func:`launch`."""
    return int(os.environ["WORLD_SIZE"]) if under_torchrun() else num_processes * num_machines


def under_torchrun() -> bool:
    """Whether torchrun started this process; other launchers may set WORLD_SIZE alone."""
    return "LOCAL_RANK" in os.environ and "WORLD_SIZE" in os.environ


def launch(
    main: Callable,
    num_processes: int,
    num_machines: int,
    machine_rank: int,
    dist_url: str,
    device: str,
    args: tuple,
) -> None:
    """Run ``main(*args)`` in every process.

    Args:
        main: picklable function.
        num_processes: processes on this machine, one per GPU with CUDA.
        num_machines: machines that take part.
        machine_rank: rank of this machine.
        dist_url: address of the first process, ``tcp://host:port``.
        device: ``cuda`` or ``cpu``; decides between NCCL and gloo.
        args: arguments of ``main``.

    Raises:
        InputError: more processes per machine are asked for than there are GPUs.
    """
    cuda = device.startswith("cuda")
    if under_torchrun():
        _join_torchrun(cuda)
        try:
            main(*args)
        finally:
            dist.destroy_process_group()
    elif num_processes * num_machines == 1:
        main(*args)
    else:
        if cuda and num_processes > torch.cuda.device_count():
            raise InputError(
                f"--num-gpus {num_processes}: this machine has {torch.cuda.device_count()}"
            )
        mp.spawn(
            _nccl_worker if cuda else _gloo_worker,
            nprocs=num_processes,
            args=(main, num_processes, num_machines, machine_rank, dist_url, args),
        )


def _join_torchrun(cuda: bool) -> None:
    local_rank = int(os.environ["LOCAL_RANK"])
    if cuda:
        torch.cuda.set_device(local_rank)
    dist.init_process_group("nccl" if cuda else "gloo")
    local_size = int(os.environ.get("LOCAL_WORLD_SIZE", dist.get_world_size()))
    _set_local_group(local_size, dist.get_rank() // local_size)


def _nccl_worker(
    local_rank: int,
    main: Callable,
    num_processes: int,
    num_machines: int,
    machine_rank: int,
    dist_url: str,
    args: tuple,
) -> None:
    """Fastreid's worker, reached through this module, so that its process imports plugins first."""
    size = num_processes * num_machines
    nccl_worker(local_rank, main, size, num_processes, machine_rank, dist_url, args)


def _gloo_worker(
    local_rank: int,
    main: Callable,
    num_processes: int,
    num_machines: int,
    machine_rank: int,
    dist_url: str,
    args: tuple,
) -> None:
    # Each process would take every core otherwise.
    torch.set_num_threads(max(1, (os.cpu_count() or 1) // num_processes))
    dist.init_process_group(
        "gloo",
        init_method=dist_url,
        world_size=num_processes * num_machines,
        rank=machine_rank * num_processes + local_rank,
    )
    _set_local_group(num_processes, machine_rank)
    try:
        main(*args)
    finally:
        dist.destroy_process_group()


def _set_local_group(local_size: int, machine_rank: int) -> None:
    """Tell fastreid's ``comm`` which ranks share this machine, as its own launcher does."""
    for machine in range(dist.get_world_size() // local_size):
        ranks = list(range(machine * local_size, (machine + 1) * local_size))
        group = dist.new_group(ranks)
        if machine == machine_rank:
            comm._LOCAL_PROCESS_GROUP = group
