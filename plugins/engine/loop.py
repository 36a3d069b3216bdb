"""Loop over epochs of iterations; a signal ends the loop where it can be resumed.

A signal is noted and acted on at the end of an iteration, when all ranks know of it; in an
evaluation, which changes nothing, at once.
"""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

from fastreid.engine.hooks import EvalHook
from fastreid.engine.train_loop import TrainerBase
from fastreid.utils import comm
from fastreid.utils.events import EventStorage
from torch import nn

from plugins.engine.checkpoint import Checkpointer, RandomState
from plugins.engine.distributed import lost_rank
from plugins.engine.divergence import failure_of
from plugins.engine.hooks import PeriodicWriter
from plugins.engine.interruption import (
    INTERRUPTED,
    KEY,
    Interruption,
    agreed_signal,
    gather_buffers,
    read_meters,
    restore_buffers,
    restore_meters,
)
from plugins.engine.steps import Step
from plugins.errors import (
    DISK_FULL,
    IN_FILE,
    InputError,
    explained,
    message_of,
    worker_failure,
)
from plugins.interrupts import Interrupted, StopSignals

# As fastreid's own loop, whose lines these are.
logger = logging.getLogger(TrainerBase.__module__)

# Seconds to wait for a signal after another rank has gone: the one who started them may send it.
LAST_WORD = 5.0


class StoppableLoop(TrainerBase):
    """Extend fastreid's loop, so that it can begin in the middle of an epoch.

    Attributes:
        start_epoch: epoch to begin with.
        start_iter: iteration to begin with, in that epoch.
        max_epoch: number of epochs.
        max_iter: number of iterations.
        iters_per_epoch: iterations of an epoch.
    """

    start_epoch: int
    start_iter: int
    max_epoch: int
    max_iter: int
    iters_per_epoch: int
    checkpointer: Checkpointer
    model: nn.Module
    deployed: nn.Module
    _random_state: RandomState
    _trainer: Step
    _signals: StopSignals | None = None  # while the loop runs
    _interruption: Interruption | None = None  # what the run goes on from
    _epochs_done = False
    # What a user calls after a signal, for the message that says how to go on.
    resumed_by = "the same command with --resume"

    def run_epochs(self) -> None:
        """Run the hooks and the iterations of all epochs that are left.

        Raises:
            Interrupted: a signal asked for it; what goes on from there is saved.
            RunFailed: a loss is not finite.
        """
        logger.info("Starting training from epoch %d", self.start_epoch)
        self.iter = self.start_iter
        with StopSignals() as self._signals, EventStorage(self.start_iter) as self.storage:
            try:
                self.before_train()
                self._restore()
                for epoch in range(self.start_epoch, self.max_epoch):
                    self.epoch = epoch
                    self._run_epoch()
                self._epochs_done = True
            except Interrupted as stop:
                # Hooks take a training in its last iteration for one that has ended.
                self.iter = min(self.iter, self.max_iter - 1)
                logger.info("Interrupted by %s: %s", stop, stop.kept)
                raise
            except FloatingPointError as error:
                failure = failure_of(error, self._trainer, Path(self.checkpointer.save_dir))
                logger.error("%s", failure, extra=IN_FILE)
                raise failure from error
            except Exception as error:
                if killed := worker_failure(error):
                    logger.error("%s", killed, extra=IN_FILE)
                    raise killed from error
                if isinstance(error, InputError):
                    logger.error("%s", message_of(error), extra=IN_FILE)
                elif lost_rank(error):
                    logger.error("Another rank has ended, or the connection to it: %s", error)
                elif isinstance(error, OSError) and error.errno in DISK_FULL:
                    logger.error("The disk is full: %s", error, extra=IN_FILE)
                elif fault := explained(error):
                    logger.error("%s", fault, exc_info=True, extra=IN_FILE)
                else:
                    logger.exception("Exception during training:")
                raise
            finally:
                self._trainer.end_batches()
                self.after_train()
        self._signals = None

    def evaluate_or_stop(self, evaluate: Callable[[], dict]) -> dict:
        """Evaluate, or stop for a signal; every rank must call this.

        Raises:
            Interrupted: a signal asked for it.
        """
        if self._signals is None:
            return evaluate()
        self.stop_if_asked(evaluating=True)
        self._random_state.capture()  # an interrupted evaluation begins anew
        try:
            with self._signals.raising():
                return evaluate()
        except Interrupted as stop:
            number: int | None = stop.number
        except Exception as error:
            if not (lost_rank(error) and self._signals.event.wait(LAST_WORD)):
                raise
            number = self._signals.signal
        assert number is not None
        raise Interrupted(number, self._keep(evaluating=True, buffers=[]))

    def stop_if_asked(self, evaluating: bool = False) -> None:
        """Save and raise Interrupted if any rank received a signal; every rank must call this.

        Args:
            evaluating: the next thing to do is the evaluation of the epoch that ends.
        """
        assert self._signals is not None, "the loop does not run"
        number = agreed_signal(self._signals.signal)
        if number is not None:
            self._random_state.capture()
            buffers = gather_buffers(self.model, self.deployed)
            kept = self._keep(evaluating, buffers)
            # What started the ranks may end those that are left when the first one ends.
            comm.synchronize()
            raise Interrupted(number, kept)

    def go_on_from(self, interruption: Interruption, path: str) -> None:
        """Begin where a training was interrupted; its checkpoint is loaded already.

        Raises:
            InputError: the epochs of this run have another length.
        """
        interruption.check(path, self.iters_per_epoch, self.max_epoch)
        self._interruption, self.start_iter = interruption, interruption.iteration
        # It was called; torch's schedulers warn if it was not.
        cast(Any, self._trainer.optimizer)._opt_called = True
        restore_buffers(interruption.buffers, self.model, self.deployed)

    def _restore(self) -> None:
        """Continue the log where it was left."""
        if self._interruption is not None:
            restore_meters(self._interruption.meters, self.storage)
            self.storage.iter = self.start_iter - 1  # of the last iteration that was run
            for writer in self._writer_hooks():
                writer.written = self._interruption.written

    def _run_epoch(self) -> None:
        interruption, self._interruption = self._interruption, None
        self.before_epoch()
        if interruption is not None and interruption.evaluating:
            (index,) = [i for i, hook in enumerate(self._hooks) if isinstance(hook, EvalHook)]
            for hook in self._hooks[index:]:
                hook.after_epoch()
            return
        while self.iter < (self.epoch + 1) * self.iters_per_epoch:
            self.before_step()
            self.run_step()
            self.after_step()
            self.iter += 1
            self.stop_if_asked()
        self.after_epoch()

    def _keep(self, evaluating: bool, buffers: list) -> str:
        """Save the state for a resumed run; return the words that say so."""
        done = f"iteration {self.iter} of {self.max_iter}"
        if self._epochs_done:  # the last epoch's checkpoint is there
            return f"all {self.max_epoch} epochs are done; {self.resumed_by} evaluates"
        interruption = Interruption(
            iteration=self.iter,
            iters_per_epoch=self.iters_per_epoch,
            evaluating=evaluating,
            meters=read_meters(self.storage),
            written=max((hook.written for hook in self._writer_hooks()), default=-1),
            buffers=buffers,
        )
        state = {KEY: interruption.state_dict()}
        self.checkpointer.save(INTERRUPTED, epoch=self.epoch - 1, metric=-1.0, **state)
        path = Path(self.checkpointer.save_dir, f"{INTERRUPTED}.pth")
        return f"saved {path} after {done}; {self.resumed_by} goes on from there"

    def _writer_hooks(self) -> list[PeriodicWriter]:
        """List the writer hooks; the main process has one."""
        return [hook for hook in self._hooks if isinstance(hook, PeriodicWriter)]
