"""Hooks beside fastreid's."""

from fastreid.engine import hooks
from fastreid.engine.train_loop import HookBase
from fastreid.utils.checkpoint import Checkpointer

from plugins.engine.checkpoint import BestMetric, RandomState
from plugins.engine.distributed import average_buffers


class AverageWeights(HookBase):
    """Keeps the trainer's moving average of the weights up to date."""

    def after_step(self) -> None:
        """Called on every rank, whose weights are equal."""
        self.trainer.average.update()


class AverageBuffers(HookBase):
    """Averages BatchNorm's running statistics over the ranks; goes before evaluation."""

    def after_epoch(self) -> None:
        """Called on every rank; each saw other clips, in the averaged weights' statistics too."""
        average_buffers(self.trainer.model)
        if self.trainer.average is not None:
            average_buffers(self.trainer.average.model)


class CaptureRandomState(HookBase):
    """Gathers the random generators of all ranks; goes between evaluation and checkpoint."""

    def __init__(self, random_state: RandomState) -> None:
        """Take the object that the checkpointer saves."""
        self._random_state = random_state

    def after_epoch(self) -> None:
        """Called on every rank."""
        self._random_state.capture()


class PeriodicCheckpointer(hooks.PeriodicCheckpointer):
    """Fastreid's, whose best metric survives a resume."""

    def __init__(self, checkpointer: Checkpointer, period: int, best: BestMetric) -> None:
        """Take the best value so far from ``best`` and keep it there."""
        self._best = best
        super().__init__(checkpointer, period)

    @property
    def best_metric(self) -> float:
        """Best value of ``metric`` so far; fastreid's class reads and sets it."""
        return self._best.value

    @best_metric.setter
    def best_metric(self, value: float) -> None:
        # fastreid's constructor starts at -1, also in a resumed run.
        self._best.value = max(self._best.value, value)


class PeriodicWriter(hooks.PeriodicWriter):
    """Fastreid's, that writes an iteration once, with what its evaluation found.

    fastreid writes the last iteration of an epoch before the evaluation and never again, so that
    the results of that iteration are missing from metrics.json and TensorBoard.
    """

    def after_step(self) -> None:
        """Leaves an epoch's last iteration to ``after_epoch``, which follows the evaluation."""
        if (self.trainer.iter + 1) % self.trainer.iters_per_epoch:
            super().after_step()

    def after_train(self) -> None:
        """Writes an evaluation that came after the last epoch."""
        for writer in self._writers:
            writer.write()
        super().after_train()
