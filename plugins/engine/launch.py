"""Start one or several processes: CUDA with NCCL, CPU with gloo, or under torchrun."""

import contextlib
import os
import signal
from collections.abc import Callable, Iterator
from multiprocessing import resource_tracker

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from fastreid.engine.launch import _distributed_worker as nccl_worker
from fastreid.utils import comm

from plugins.engine.distributed import lost_rank
from plugins.engine.ranks import LOST, LOST_RANK, wait_for_ranks
from plugins.errors import InputError, RunFailed
from plugins.interrupts import Interrupted, StopSignals, catch_as_rank, held_back


def world_size(num_processes: int, num_machines: int) -> int:
    """Count the processes that will take part, under torchrun or under :func:`launch`."""
    return int(os.environ["WORLD_SIZE"]) if under_torchrun() else num_processes * num_machines


def under_torchrun() -> bool:
    """Tell whether torchrun started this process; other launchers may set WORLD_SIZE alone."""
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
        RunFailed: a process was killed.
        Interrupted: a signal ended the processes.
    """
    cuda = device.startswith("cuda")
    if under_torchrun():
        _join_torchrun(cuda)
        catch_as_rank(dist.get_rank())
        try:
            with StopSignals(raising=True):
                main(*args)
            if not cuda:
                dist.barrier()  # gloo aborts a process whose peer leaves while it still speaks
        except Exception as error:
            if not lost_rank(error):
                raise
            raise RunFailed(f"rank {dist.get_rank()}: {LOST_RANK}") from error
        finally:
            dist.destroy_process_group()
    elif num_processes * num_machines == 1:
        main(*args)
    else:
        if cuda and num_processes > torch.cuda.device_count():
            raise InputError(
                f"--num-gpus {num_processes}: this machine has {torch.cuda.device_count()}"
            )
        resource_tracker.ensure_running()  # which would take signals again inside the block
        with held_back():
            context = mp.spawn(
                _nccl_worker if cuda else _gloo_worker,
                nprocs=num_processes,
                args=(main, num_processes, num_machines, machine_rank, dist_url, args),
                join=False,
            )
        wait_for_ranks(context, machine_rank * num_processes, num_processes * num_machines)


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
    """Run fastreid's worker; its process imports this module, and so plugins, first."""
    size = num_processes * num_machines
    with _one_rank(machine_rank * num_processes + local_rank):
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
    rank = machine_rank * num_processes + local_rank
    # Each process would take every core otherwise.
    torch.set_num_threads(max(1, (os.cpu_count() or 1) // num_processes))
    with _one_rank(rank):
        dist.init_process_group(
            "gloo",
            init_method=dist_url,
            world_size=num_processes * num_machines,
            rank=rank,
        )
        _set_local_group(num_processes, machine_rank)
        try:
            main(*args)
            dist.barrier()  # gloo aborts a process whose peer leaves while it still speaks
        finally:
            dist.destroy_process_group()


@contextlib.contextmanager
def _one_rank(rank: int) -> Iterator[None]:
    """Wrap the work of a rank; its exit status tells the starting process what ended it.

    torch.multiprocessing takes a KeyboardInterrupt for a success.
    """
    catch_as_rank(rank)
    try:
        with StopSignals(raising=True):
            signal.pthread_sigmask(signal.SIG_UNBLOCK, StopSignals.numbers)
            yield
    except Interrupted as stop:
        raise SystemExit(stop.status) from None
    except Exception as error:
        if lost_rank(error):
            raise SystemExit(LOST) from None
        raise
    finally:
        # What comes now is too late to change anything, and must not change the exit status.
        for number in StopSignals.numbers:
            signal.signal(number, signal.SIG_IGN)


def _set_local_group(local_size: int, machine_rank: int) -> None:
    """Tell fastreid's ``comm`` which ranks share this machine, as its own launcher does."""
    for machine in range(dist.get_world_size() // local_size):
        ranks = list(range(machine * local_size, (machine + 1) * local_size))
        group = dist.new_group(ranks)
        if machine == machine_rank:
            comm._LOCAL_PROCESS_GROUP = group
