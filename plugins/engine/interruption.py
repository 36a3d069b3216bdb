"""Stop a training in the middle of an epoch, and save the state to continue there.

The file ``model_interrupted.pth`` is a checkpoint like the others with one key more,
``interruption``: where the epoch was left, what the log was about to say, and the buffers of each
rank. Checkpoints of whole epochs need none of it. The file goes when a later checkpoint is there.
"""

from dataclasses import asdict, dataclass, fields

import torch
from fastreid.utils import comm
from fastreid.utils.events import EventStorage
from fastreid.utils.history_buffer import HistoryBuffer
from torch import Tensor, nn

from plugins.engine.distributed import agree_on_largest
from plugins.errors import InputError

INTERRUPTED = "model_interrupted"
KEY = "interruption"
HISTORY = 1000  # values of a scalar; no line of the log looks further back


@dataclass
class Interruption:
    """Describe where and how an epoch was left.

    Attributes:
        iteration: iterations done of the whole run.
        iters_per_epoch: iterations of an epoch, which must be the same to go on.
        evaluating: the epoch's last iteration is done, its evaluation is not.
        meters: see :func:`read_meters`.
        written: last iteration that the writers have written.
        buffers: of each rank, from :func:`gather_buffers`; none where the ranks' are equal.
    """

    iteration: int
    iters_per_epoch: int
    evaluating: bool
    meters: dict
    written: int
    buffers: list

    def state_dict(self) -> dict:
        """Return plain values and tensors."""
        return asdict(self)

    @classmethod
    def read(cls, state: object, path: str) -> "Interruption":
        """Take what :meth:`state_dict` gave; raise InputError for anything else."""
        names = [field.name for field in fields(cls)]
        if not isinstance(state, dict) or sorted(state) != sorted(names):
            raise InputError(
                f"{path}: cannot resume from it: its '{KEY}' is not what this run saves; expected "
                f"{', '.join(names)}"
            )
        return cls(**state)

    def check(self, path: str, iters_per_epoch: int, max_epoch: int) -> None:
        """Raise InputError if a run with these numbers cannot resume inside the epoch."""
        if self.iters_per_epoch != iters_per_epoch:
            raise InputError(
                f"{path}: cannot go on after iteration {self.iteration}: an epoch had "
                f"{self.iters_per_epoch} iterations and would now have {iters_per_epoch}; expected "
                "SOLVER.IMS_PER_BATCH, SOLVER.ACCUMULATION and training set as they were, or "
                "--resume FILE with a checkpoint of a whole epoch"
            )
        if self.iteration > iters_per_epoch * max_epoch:
            raise InputError(
                f"{path}: cannot go on after iteration {self.iteration}: SOLVER.MAX_EPOCH "
                f"{max_epoch} ends at {iters_per_epoch * max_epoch}"
            )


def agreed_signal(number: int | None) -> int | None:
    """Agree on the signal that any rank received; every rank must call this."""
    return agree_on_largest(number or 0) or None


def gather_buffers(*modules: nn.Module) -> list[list[Tensor]]:
    """Gather the floating-point buffers of the modules on rank 0; every rank must call this.

    Each rank has statistics of BatchNorm of its own until an epoch ends.
    """
    if comm.get_world_size() == 1:
        return []
    return comm.gather([buffer.detach().cpu() for buffer in float_buffers(*modules)])


def restore_buffers(gathered: list[list[Tensor]], *modules: nn.Module) -> None:
    """Restore the buffers of this rank; another number of ranks keeps those of rank 0."""
    if len(gathered) == comm.get_world_size():
        values = gathered[comm.get_rank()]
        for buffer, value in zip(float_buffers(*modules), values, strict=True):
            buffer.copy_(value)


def float_buffers(*modules: nn.Module) -> list[Tensor]:
    """List the floating-point buffers of the modules, in order."""
    return [b for module in modules for b in module.buffers() if b.is_floating_point()]


def read_meters(storage: EventStorage) -> dict[str, dict]:
    """Read each scalar of the storage: its last values, their number and their overall mean.

    The log shows medians of the last values, and writes a scalar once.
    """
    meters = {}
    for name, (value, iteration) in storage.latest().items():
        buffer = storage.history(name)
        meters[name] = {
            "latest": [float(value), int(iteration)],
            "history": torch.tensor(buffer.values()[-HISTORY:], dtype=torch.float64),
            "count": buffer._count,
            "mean": float(buffer.global_avg()),
            "smoothed": storage.smoothing_hints()[name],
        }
    return meters


def restore_meters(meters: dict[str, dict], storage: EventStorage) -> None:
    """Fill an empty storage with the result of :func:`read_meters`."""
    for name, meter in meters.items():
        value, iteration = meter["latest"]
        buffer = HistoryBuffer()
        buffer._data = [(value, int(iteration)) for value, iteration in meter["history"].tolist()]
        buffer._count, buffer._global_avg = meter["count"], meter["mean"]
        storage._history[name] = buffer
        storage._latest_scalars[name] = (value, iteration)
        storage._smoothing_hints[name] = meter["smoothed"]
