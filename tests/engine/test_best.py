"""model_best.pth: the weights of the best evaluation, whatever the two periods."""

import itertools
from pathlib import Path

import pytest
from fastreid.engine.hooks import EvalHook
from fastreid.engine.train_loop import TrainerBase
from torch import nn

from plugins.config import default_cfg
from plugins.engine.checkpoint import BestMetric, Checkpointer, read_checkpoint
from plugins.engine.hooks import PeriodicCheckpointer

ITERATIONS = 2  # of an epoch


class Counting(TrainerBase):
    """A loop whose one weight is the number of epochs begun; its evaluations find ``metrics``."""

    def __init__(self, folder: Path, epochs: int, evaluate: int, save: int, metrics) -> None:
        super().__init__()
        self.cfg, self.model, self._metrics = default_cfg(), nn.Linear(1, 1, bias=False), metrics
        self.epochs, self.best = epochs, BestMetric()
        self.max_iter, self.max_epoch = epochs * ITERATIONS, epochs
        self.checkpointer = Checkpointer(self.model, str(folder), best_metric=self.best)
        hook = PeriodicCheckpointer(self.checkpointer, save, self.best)
        self.register_hooks([EvalHook(evaluate, self.evaluate), hook])

    def run_step(self) -> None:
        self.model.weight.data.fill_(self.epoch + 1)

    def evaluate(self) -> dict:
        return {"metric": self._metrics[self.epoch]}

    def run(self, start: int = 0) -> None:
        self.train(start, self.epochs, ITERATIONS)


def saved(folder: Path, name: str = "model_best") -> tuple[float, int, float, float]:
    """Weight, epoch, metric and best metric of a checkpoint."""
    found = read_checkpoint(str(folder / f"{name}.pth"))
    weight = found["model"]["weight"].item()
    return weight, found["epoch"], found["metric"], found["best_metric"]["value"]


def best_evaluated(metrics: list[float], period: int) -> int:
    epochs = range(len(metrics))
    evaluated = [e for e in epochs if (e + 1) % period == 0 or e == len(metrics) - 1]
    return max(evaluated, key=lambda epoch: metrics[epoch])


@pytest.mark.parametrize(("evaluate", "save"), [*itertools.product((1, 2, 3, 4), repeat=2)])
@pytest.mark.parametrize("metrics", [(50, 90, 60, 55), (0, 20, 30, 40), (90, 80, 70, 60, 50)])
def test_the_best_model_is_the_best_one_evaluated(tmp_path, evaluate, save, metrics):
    Counting(tmp_path, len(metrics), evaluate, save, metrics).run()
    best = best_evaluated(metrics, evaluate)
    assert saved(tmp_path) == (best + 1, best, metrics[best], metrics[best])
    last = len(metrics) - 1
    assert saved(tmp_path, "model_final") == (last + 1, last, metrics[last], metrics[best])
    assert (tmp_path / "last_checkpoint").read_text() == "model_final.pth"
    periodic = {f"model_{e:04d}.pth" for e in range(last) if (e + 1) % save == 0}
    assert {path.name for path in tmp_path.glob("model_0*.pth")} == periodic


def test_a_checkpoint_does_not_bear_the_metric_of_another_epoch(tmp_path):
    Counting(tmp_path, epochs=5, evaluate=3, save=2, metrics=[10, 20, 30, 40, 50]).run()
    assert saved(tmp_path, "model_0003") == (4, 3, -1, 30)


def test_a_resumed_run_knows_the_best_metric(tmp_path):
    Counting(tmp_path, epochs=2, evaluate=1, save=4, metrics=[50, 90]).run()
    (tmp_path / "model_final.pth").unlink()
    resumed = Counting(tmp_path, epochs=4, evaluate=1, save=4, metrics=[0, 0, 60, 55])
    rest = resumed.checkpointer.load(str(tmp_path / "model_best.pth"))
    resumed.run(rest["epoch"] + 1)
    assert saved(tmp_path) == (2, 1, 90, 90)
    assert saved(tmp_path, "model_final") == (4, 3, 55, 90)


def test_a_run_that_breaks_off_saves_no_model_of_half_an_epoch(tmp_path):
    class Failing(Counting):
        def run_step(self) -> None:
            super().run_step()
            if self.iter == self.max_iter - 1:
                raise RuntimeError

    with pytest.raises(RuntimeError):
        Failing(tmp_path, epochs=4, evaluate=3, save=4, metrics=[10, 20, 30, 90]).run()
    assert saved(tmp_path) == (3, 2, 30, 30)
    assert not (tmp_path / "model_final.pth").exists()
