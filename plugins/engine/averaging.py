"""Averaged weights: one network is trained, its moving average is evaluated and deployed."""

from collections.abc import Callable

from fastreid.config import CfgNode
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

Tensors = tuple[Tensor, ...] | list[Tensor]


class WeightAverage:
    """Keep a moving average of the network in training: a <- decay a + (1 - decay) live.

    It starts from the weights after the first update. BatchNorm's statistics are averaged in the
    same way, so that they lag behind as the weights do: the live ones describe a network some
    1 / (1 - decay) updates ahead. Costs a second copy of the network in memory.

    A checkpoint holds the averaged network as "model" and this object's state, the live network, as
    "live".

    Attributes:
        model: the averaged network, of the same class as the live one.
    """

    def __init__(self, live: nn.Module, decay: float) -> None:
        """Copy ``live``, which a step continues to train."""
        self._live = live
        self._average = AveragedModel(live, multi_avg_fn=make_average(decay), use_buffers=True)
        self.model: nn.Module = self._average.module

    def update(self) -> None:
        """Move towards the live network; every rank calls this after each of its updates."""
        self._average.update_parameters(self._live)

    def restart(self) -> None:
        """Train from the weights that ``model`` was loaded with."""
        self._live.load_state_dict(self.model.state_dict())

    def state_dict(self) -> dict:
        """Return the live network, and how often :meth:`update` was called."""
        return {"model": self._live.state_dict(), "updates": int(self._average.n_averaged)}

    def load_state_dict(self, state: dict) -> None:
        """Restore the live network; ``model`` is loaded by the checkpointer."""
        self._live.load_state_dict(state["model"])
        self._average.n_averaged.fill_(state["updates"])


def make_average(decay: float) -> Callable[[Tensors, Tensors, Tensor | int], None]:
    """Make torch's moving average in place; whole numbers are copied, not rounded down."""
    average = get_ema_multi_avg_fn(decay)

    def update(averaged: Tensors, live: Tensors, updates: Tensor | int) -> None:
        if averaged[0].is_floating_point():
            average(averaged, live, updates)
        else:
            for old, new in zip(averaged, live, strict=True):
                old.copy_(new)

    return update


def build_average(cfg: CfgNode, model: nn.Module) -> WeightAverage | None:
    """Build the average that SOLVER.EMA_DECAY asks for; return None where it is 0."""
    decay = cfg.SOLVER.EMA_DECAY
    return WeightAverage(model, decay) if decay else None
