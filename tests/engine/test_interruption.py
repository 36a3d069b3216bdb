"""Told to stop, a training saves where it is and goes on there, to the bit of one never stopped."""

import json
import multiprocessing
import os
import signal
from pathlib import Path

import pytest
import torch
from fastreid.utils import comm
from fastreid.utils.env import seed_all_rng

from plugins.config import setup_cfg
from plugins.engine import Trainer
from plugins.engine.trainer import load_model
from plugins.errors import InputError, RunFailed
from plugins.interrupts import Interrupted
from tests.helpers.checkpoints import assert_same, checkpoint
from tests.helpers.defense_runs import SMALL
from tests.helpers.small_runs import CONFIG, ROOT, options
from tests.helpers.two_processes import in_two_processes

pytestmark = pytest.mark.slow

TIMES = {"time", "data_time", "eta_seconds"}
FILE = "model_interrupted.pth"
VVI = {"SOLVER__EMA_DECAY": 0.9, "TEST__EVAL_PERIOD": 2, "SOLVER__CHECKPOINT_PERIOD": 2}
DEFENSE = SMALL | {
    "DATALOADER__NUM_WORKERS": 2,
    "DEFENSE__CENTROIDS__SOURCE": "bank",
    "SOLVER__ACCUMULATION": 3,
    "SOLVER__LOG_PERIOD": 2,
    "TEST__EVAL_PERIOD": 1,
}


class Told(Trainer):
    """Signals its own process in the middle of some iterations and evaluations."""

    at: frozenset = frozenset()
    number = signal.SIGTERM

    def run_step(self) -> None:
        if self.iter in self.at:
            os.kill(os.getpid(), self.number)
        super().run_step()

    def _test(self) -> dict:
        torch.rand(1), seed_all_rng(0)  # as an evaluation that draws, under attack
        if f"evaluation {self.iter}" in self.at:
            os.kill(os.getpid(), self.number)
        return super()._test()


def train(config: Path, folder: Path, resume: bool = False, at: tuple = (), **changes) -> Trainer:
    """Train to the end, or to a signal."""
    trainer_class = type("Once", (Told,), {"at": frozenset(at)})
    cfg = setup_cfg(str(config), options(folder, SEED=3, **changes))
    # A resumed run must not live by its seed.
    seed_all_rng((17 if resume else 3) + comm.get_rank())
    trainer = trainer_class(cfg)
    trainer.resume_or_load(resume)
    trainer.train()
    return trainer


def logged(folder: Path) -> list[dict]:
    """What metrics.json tells, without times."""
    lines = map(json.loads, (folder / "metrics.json").read_text().splitlines())
    lines = [{k: v for k, v in line.items() if k not in TIMES} for line in lines]
    return [line for line in lines if line.keys() != {"iteration"}]


def assert_same_runs(whole: Path, stopped: Path) -> None:
    names = sorted(path.name for path in whole.glob("model_*.pth"))
    assert sorted(path.name for path in stopped.glob("model_*.pth")) == names
    for name in names:
        expected, found = checkpoint(whole, name), checkpoint(stopped, name)
        assert expected.keys() == found.keys()
        del expected["config"], found["config"]  # each names its own folder
        assert_same(expected, found)
    assert (stopped / "last_checkpoint").read_text() == (whole / "last_checkpoint").read_text()
    assert logged(stopped) == logged(whole)


DDDEFENSE = ROOT / "configs/Defense/synthetic/dddefense.yml"
# Data, config, changes; where it is stopped: in an iteration, the last of an epoch, an evaluation.
CASES = {
    "sadstrm": ("datasets", CONFIG, VVI, (0, 2, 4, "evaluation 6", 8, "evaluation 9")),
    "dddefense": ("market", DDDEFENSE, DEFENSE, (1, 3, "evaluation 4", 5, "evaluation 8")),
}


@pytest.fixture(scope="module", params=CASES)
def case(request, tmp_path_factory):
    """The config, its changes, and the folder of a run that was never stopped."""
    data, config, changes, stops = CASES[request.param]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FASTREID_DATASETS", str(request.getfixturevalue(data)))
        folder = tmp_path_factory.mktemp("whole")
        trainer = train(config, folder, **changes)
        assert f"evaluation {trainer.max_iter}" == stops[-1]
        yield config, changes, stops, folder


def test_stopped_again_and_again_it_ends_as_one_never_stopped(case, tmp_path):
    config, changes, stops, whole = case
    before = set(multiprocessing.active_children())  # of other tests
    for number, stop in enumerate(stops):
        with pytest.raises(Interrupted) as stopped:
            train(config, tmp_path, resume=number > 0, at=(stop,), **changes)
        assert stopped.value.status == 143
        assert set(multiprocessing.active_children()) <= before, "workers outlive the loop"
        if (tmp_path / FILE).exists():
            assert (tmp_path / "last_checkpoint").read_text() == FILE
            assert f"saved {tmp_path / FILE} after iteration" in stopped.value.kept
        else:
            assert "epochs are done" in stopped.value.kept
    train(config, tmp_path, resume=True, **changes)
    assert_same_runs(whole, tmp_path)


def on_rank(datasets: str, folder: Path, resume: bool, at: tuple, number: int) -> None:
    """Trains; only rank 1 gets the signal."""
    os.environ["FASTREID_DATASETS"] = datasets
    Told.number = number
    short = {"SOLVER__MAX_EPOCH": 2, "SOLVER__STEPS": "[]", "SOLVER__EMA_DECAY": 0.9}
    at = at if comm.get_rank() == 1 else ()
    train(CONFIG, folder, resume=resume, at=at, TEST__EVAL_PERIOD=1, **short)


def test_ranks_stop_together_and_go_on_as_ranks_that_never_did(datasets, tmp_path):
    def train(name: str, resume: bool, *at: object, number: int = signal.SIGTERM) -> None:
        in_two_processes(on_rank, str(datasets), tmp_path / name, resume, at, number)

    train("whole", False)
    for resume, stop, ranks in ((False, 1, 2), (True, "evaluation 3", 0)):
        with pytest.raises(Interrupted) as stopped:
            train("stopped", resume, stop)
        assert (stopped.value.status, stopped.value.kept) == (143, "")  # rank 0 has said it
        saved = checkpoint(tmp_path / "stopped", FILE)["interruption"]
        assert saved["evaluating"] == (ranks == 0)
        assert len(saved["buffers"]) == ranks
        if ranks:  # each has seen other clips
            pairs = zip(*saved["buffers"], strict=True)
            assert not all(torch.equal(one, other) for one, other in pairs)
    train("stopped", True)
    assert_same_runs(tmp_path / "whole", tmp_path / "stopped")


def test_a_rank_that_is_killed_is_named(datasets, tmp_path):
    message = r"^rank 1 of 2 \(process \d+\) was killed by SIGKILL, .*; --resume goes on from"
    with pytest.raises(RunFailed, match=message) as failed:
        in_two_processes(on_rank, str(datasets), tmp_path, False, (1,), signal.SIGKILL)
    assert failed.value.status == 137


@pytest.fixture
def interrupted(datasets, tmp_path, monkeypatch):
    """The folder of a run that was stopped in the first iteration of its second epoch."""
    monkeypatch.setenv("FASTREID_DATASETS", str(datasets))
    with pytest.raises(Interrupted):
        train(CONFIG, tmp_path, at=(3,), **VVI)
    return tmp_path


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"SOLVER__ACCUMULATION": 3}, "after iteration 4: an epoch had 3 iterations and would now"),
        ({"SOLVER__MAX_EPOCH": 1, "SOLVER__STEPS": "[]"}, r"SOLVER\.MAX_EPOCH 1 ends at 3$"),
    ],
)
def test_what_does_not_fit_the_middle_of_an_epoch_is_refused(interrupted, changes, message):
    with pytest.raises(InputError, match=message):
        train(CONFIG, interrupted, resume=True, **VVI | changes)


def test_its_checkpoint_can_be_evaluated_and_started_from(interrupted):
    weights = interrupted / FILE
    changes = VVI | {"MODEL__WEIGHTS": weights}
    cfg = setup_cfg(str(CONFIG), options(interrupted / "other", **changes))
    trainer = Trainer(cfg)
    trainer.resume_or_load(resume=False)
    found, saved = trainer.model.state_dict(), checkpoint(interrupted, FILE)["model"]
    assert trainer.start_iter == 0
    assert all(torch.equal(value, found[name]) for name, value in saved.items())
    assert Trainer.test(trainer.cfg, load_model(trainer.cfg, str(weights)))["metric"] >= 0
