"""Hooks that replace fastreid's or stand beside them."""

import logging
import re
from pathlib import Path
from typing import Any

from fastreid.config import CfgNode
from fastreid.engine import hooks
from fastreid.engine.train_loop import HookBase
from fastreid.utils.checkpoint import Checkpointer
from fastreid.utils.events import (
    CommonMetricPrinter,
    JSONWriter,
    TensorboardXWriter,
    get_event_storage,
)
from fastreid.utils.history_buffer import HistoryBuffer
from torch import nn

from plugins.engine.checkpoint import BestMetric, RandomState
from plugins.engine.distributed import average_buffers
from plugins.engine.interruption import INTERRUPTED
from plugins.errors import InputError

logger = logging.getLogger(__name__)

RECENT = 100  # iterations that the time left is estimated from
FILES = (JSONWriter, TensorboardXWriter)  # writers that write a scalar once


class AverageWeights(HookBase):
    """Keep the trainer's moving average of the weights up to date."""

    def after_step(self) -> None:
        """Update the average on every rank, whose weights are equal."""
        self.trainer.average.update()


class AverageBuffers(HookBase):
    """Average BatchNorm's running statistics over the ranks, just before an evaluation."""

    def after_epoch(self) -> None:
        """Average on every rank, also the statistics that belong to the averaged weights."""
        average_buffers(self.trainer.model)
        if self.trainer.average is not None:
            average_buffers(self.trainer.average.model)


class LRScheduler(hooks.LRScheduler):
    """Drive fastreid's schedule with a warm-up of as many steps as it has iterations.

    fastreid leaves out those in which float16's loss scale changes, counts them all the same, and
    the rest of the training keeps the lower rate.
    """

    def before_step(self) -> None:
        """Override fastreid's, which remembers nothing that is needed here."""

    def after_step(self) -> None:
        """Log the learning rate and take the next step of the warm-up."""
        rate = self._optimizer.param_groups[self._best_param_group_id]["lr"]
        self.trainer.storage.put_scalar("lr", rate, smoothing_hint=False)
        if self.trainer.iter < self.trainer.warmup_iters:
            self._scheduler["warmup_sched"].step()


class LayerFreeze(HookBase):
    """Keep MODEL.FREEZE_LAYERS in evaluation mode before iteration SOLVER.FREEZE_ITERS.

    fastreid's does so once, until an evaluation puts the whole model into training mode. A step
    keeps the weights.
    """

    def __init__(self, model: nn.Module, cfg: CfgNode) -> None:
        """Find the layers; as in fastreid, a name is the beginning of parameter names.

        Raises:
            InputError: no parameter's name begins so.
        """
        check_frozen(cfg, model)
        self._layers = [
            module
            for name, module in model.named_modules()
            if any(re.match(layer, name) for layer in cfg.MODEL.FREEZE_LAYERS)
        ]
        self._iters = cfg.SOLVER.FREEZE_ITERS

    def before_step(self) -> None:
        """Freeze the layers, or release them in iteration FREEZE_ITERS."""
        if self.trainer.iter <= self._iters:
            for layer in self._layers:
                layer.train(self.trainer.iter == self._iters)


def check_frozen(cfg: CfgNode, model: nn.Module) -> None:
    """Raise InputError unless each of MODEL.FREEZE_LAYERS begins a parameter's name."""
    for layer in cfg.MODEL.FREEZE_LAYERS:
        try:
            found = any(re.match(layer, name) for name, _ in model.named_parameters())
        except re.error as error:
            raise InputError(
                f"MODEL.FREEZE_LAYERS: '{layer}' is no regular expression: {error}"
            ) from None
        if not found:
            parts = ", ".join(name for name, _ in model.named_children())
            raise InputError(
                f"MODEL.FREEZE_LAYERS: no '{layer}' in {type(model).__name__}; it has {parts}"
            )


class EvalHook(hooks.EvalHook):
    """Evaluate as fastreid's hook does, but not after an error ended the training.

    fastreid evaluates at the end if the last epoch had begun: before the error is told, and on the
    ranks that the error did not reach for ever.
    """

    def after_train(self) -> None:
        """Evaluate where the period left out the last epoch, or a resumed run has no epoch left."""
        trainer = self.trainer
        left_out = trainer.max_epoch % self._period or trainer.start_epoch == trainer.max_epoch
        if trainer.iter == trainer.max_iter and left_out:
            self._do_eval()
        del self._func  # it holds the trainer


class CaptureRandomState(HookBase):
    """Gather the random generators of all ranks, between evaluation and checkpoint."""

    def __init__(self, random_state: RandomState) -> None:
        """Take the object that the checkpointer saves."""
        self._random_state = random_state

    def after_epoch(self) -> None:
        """Capture the states; every rank must call this."""
        self._random_state.capture()


class PeriodicCheckpointer(hooks.PeriodicCheckpointer):
    """Save as fastreid's hook does, but model_best.pth only from an evaluated epoch.

    fastreid compares only in the epochs of its period, and there the last metric found, which may
    be that of another epoch. Only the main process has this hook.
    """

    def __init__(self, checkpointer: Checkpointer, period: int, best: BestMetric) -> None:
        """Keep the best value so far in ``best``, which a checkpoint holds."""
        super().__init__(checkpointer, period)
        self._best = best
        self._best_epoch: int | None = None  # unknown after a resume

    def after_epoch(self) -> None:
        """Save the checkpoints that are due; without an evaluation "metric" is -1."""
        epoch, metric = self.trainer.epoch, self._metric()
        if metric > self._best.value:
            self._best.value, self._best_epoch = metric, epoch
            logger.info("metric %.2f in epoch %d: the best so far", metric, epoch)
            self.save("model_best", epoch=epoch, metric=metric)
        elif metric >= 0:
            since = "" if self._best_epoch is None else f" in epoch {self._best_epoch}"
            logger.info(
                "metric %.2f in epoch %d; best so far: %.2f%s",
                metric,
                epoch,
                self._best.value,
                since,
            )
        # After it: the newest checkpoint is the one to go on from, and no later best replaces it.
        if epoch == self.max_epoch - 1:
            self.save("model_final", epoch=epoch, metric=metric)
        elif (epoch + 1) % self.period == 0:
            self.save(f"model_{epoch:04d}", epoch=epoch, metric=metric)

    def save(self, name: str, **kwargs: Any) -> None:
        """Save, and remove the checkpoint that an interrupted training had left."""
        super().save(name, **kwargs)
        Path(self.checkpointer.save_dir, f"{INTERRUPTED}.pth").unlink(missing_ok=True)

    def after_train(self) -> None:
        """Save again where the evaluation came after the last epoch."""
        if self.trainer.iter == self.trainer.max_iter and self._metric() >= 0:
            self.after_epoch()

    def _metric(self) -> float:
        """Return the metric of the evaluation after this iteration, -1 without an evaluation."""
        storage = self.trainer.storage
        metric, iteration = storage.latest().get(self.metric_name, (-1.0, -1))
        return metric if iteration == storage.iter else -1.0


class PeriodicWriter(hooks.PeriodicWriter):
    """Write as fastreid's hook does, but each iteration once, with its evaluation.

    fastreid writes the last iteration of an epoch before the evaluation and never again, so that
    the results of that iteration are missing from metrics.json and TensorBoard.
    """

    @property
    def written(self) -> int:
        """Return the last iteration that was written, -1 before the first."""
        return max((w._last_write for w in self._writers if isinstance(w, FILES)), default=-1)

    @written.setter
    def written(self, iteration: int) -> None:
        for writer in self._writers:
            if isinstance(writer, FILES):
                writer._last_write = iteration

    def after_step(self) -> None:
        """Leave an epoch's last iteration to ``after_epoch``, which follows the evaluation."""
        if (self.trainer.iter + 1) % self.trainer.iters_per_epoch:
            super().after_step()

    def after_train(self) -> None:
        """Write an evaluation that came after the last epoch."""
        if self.trainer.iter == self.trainer.max_iter:
            # Fastreid's line in the log asks for it, also where no epoch was left to begin.
            self.trainer.storage.epoch = self.trainer.epoch
            for writer in self._writers:
                writer.write()
        super().after_train()


class MetricPrinter(CommonMetricPrinter):
    """Print fastreid's line of an iteration, with the time of the last iterations alone.

    fastreid estimates the time left from the last 1000 iterations and prints the mean time of all,
    so that what makes iterations slower, such as an adversary that begins, hardly shows.
    """

    def write(self) -> None:
        """Print the line; the history of times is as before when it is printed."""
        histories = get_event_storage().histories()
        if "time" not in histories:  # in the first iterations
            return super().write()
        times, recent = histories["time"], HistoryBuffer()
        for value, iteration in times.values()[-RECENT:]:
            recent.update(value, iteration)
        histories["time"] = recent
        try:
            super().write()
        finally:
            histories["time"] = times
