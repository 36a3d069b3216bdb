"""Averaged weights: what is averaged, what a checkpoint holds, and that training is the same."""

import argparse
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from fastreid.engine import hooks
from fastreid.engine.train_loop import HookBase
from fastreid.utils import comm
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from plugins.config import setup_cfg
from plugins.engine import Trainer
from plugins.engine.averaging import WeightAverage, build_average
from plugins.engine.checkpoint import Checkpointer
from plugins.engine.defaults import setup_run
from plugins.errors import InputError
from tests.helpers.checkpoints import assert_same, checkpoint
from tests.helpers.small_runs import CONFIG, options, train_and_kill
from tests.helpers.two_processes import in_two_processes

DECAY = 0.7
SHORT = {"SOLVER__MAX_EPOCH": 2, "TEST__EVAL_PERIOD": 2, "SEED": 0}
AVERAGED = {**SHORT, "SOLVER__EMA_DECAY": DECAY}


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))
        self.register_buffer("ids", torch.arange(50))


def closed_form(history: list[np.ndarray], decay: float) -> np.ndarray:
    """d^n w_0 + (1 - d) sum d^(n - i) w_i, in float64."""
    last = len(history) - 1
    total = decay**last * history[0]
    for update, value in enumerate(history[1:], start=1):
        total = total + (1 - decay) * decay ** (last - update) * value
    return total


def numbers(model: nn.Module) -> dict[str, np.ndarray]:
    return {name: value.double().numpy() for name, value in model.state_dict().items()}


def assert_averaged(found: dict, history: list[dict], decay: float) -> None:
    for name, value in found.items():
        past = [step[name] for step in history]
        if value.is_floating_point():
            expected = closed_form(past, decay)
            np.testing.assert_allclose(value.double(), expected, rtol=1e-4, atol=1e-6)
        else:
            np.testing.assert_array_equal(value.double(), past[-1])


class TestAverage:
    @settings(max_examples=20, deadline=None)
    @given(decay=st.floats(0.01, 0.999), updates=st.integers(1, 6), seed=st.integers(0, 99))
    def test_weights_and_statistics_are_the_closed_form_and_whole_numbers_are_copied(
        self, decay, updates, seed
    ):
        torch.manual_seed(seed)
        net = Net()
        average = WeightAverage(net, decay)
        optimizer = torch.optim.SGD(net.parameters(), lr=0.01)
        history = []
        for _ in range(updates):
            optimizer.zero_grad()
            net.layers(torch.randn(5, 3)).square().sum().backward()
            optimizer.step()
            average.update()
            history.append(numbers(net))
        assert_averaged(average.model.state_dict(), history, decay)

    def test_none_by_default(self):
        assert build_average(setup_cfg(), Net()) is None


class Record(HookBase):
    """Keeps the live network's weights after each update."""

    def __init__(self) -> None:
        self.history: list[dict] = []

    def after_step(self) -> None:
        self.history.append(numbers(self.trainer.model))


def start(output: Path, resume: bool = False, **changes) -> Trainer:
    """A small run in this process, up to where training begins."""
    torch.set_num_threads(1)
    cfg = setup_cfg(str(CONFIG), options(output, **changes))
    setup_run(cfg, argparse.Namespace(eval_only=False))
    trainer = Trainer(cfg)
    trainer.resume_or_load(resume)
    return trainer


@pytest.fixture(scope="module", autouse=True)
def in_datasets(datasets):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FASTREID_DATASETS", str(datasets))
        yield


@pytest.fixture(scope="module")
def plain(tmp_path_factory) -> Path:
    output = tmp_path_factory.mktemp("plain")
    start(output, **SHORT).train()
    return output


@pytest.fixture(scope="module")
def averaged(tmp_path_factory) -> tuple[Path, list[dict], dict]:
    """Folder of a run with averaged weights, its live weights by update, its results."""
    output, record = tmp_path_factory.mktemp("averaged"), Record()
    trainer = start(output, **AVERAGED)
    trainer.register_hooks([record])
    return output, record.history, trainer.train()


@pytest.mark.slow
def test_the_checkpoints_model_is_the_average_of_every_update(averaged):
    output, history, _ = averaged
    saved = checkpoint(output)
    assert saved["live"]["updates"] == len(history) > 2
    assert_averaged(saved["model"], history, DECAY)


@pytest.mark.slow
def test_averaging_changes_nothing_but_what_is_saved_as_the_model(plain, averaged):
    expected, found = checkpoint(plain), checkpoint(averaged[0])
    assert found.keys() - expected.keys() == {"live"}
    assert_same(expected["model"], found["live"]["model"])
    for key in ("optimizer", "adversary_optimizer", "lr_sched", "sampler", "random_state"):
        assert_same(expected[key], found[key])


@pytest.mark.slow
def test_the_averaged_network_is_what_was_evaluated_and_what_any_reader_gets(averaged):
    output, _, results = averaged
    cfg = setup_cfg(str(output / "config.yaml"))
    model = Trainer.build_model(cfg)
    Checkpointer(model).load(str(output / "model_final.pth"), checkpointables=[])
    assert Trainer.test(cfg, model) == results
    model.load_state_dict(checkpoint(output)["live"]["model"])
    assert Trainer.test(cfg, model) != results


@pytest.mark.slow
def test_killed_and_resumed_is_bit_identical(averaged, datasets, tmp_path):
    train_and_kill(datasets=datasets, output=tmp_path, **AVERAGED)
    resumed = start(tmp_path, resume=True, **AVERAGED)
    assert resumed.start_epoch == 1
    resumed.train()
    expected, found = checkpoint(averaged[0]), checkpoint(tmp_path)
    for key in ("model", "live", "optimizer", "adversary_optimizer", "sampler", "random_state"):
        assert_same(expected[key], found[key])


@pytest.mark.slow
def test_a_run_with_an_average_is_not_resumed_without_one_nor_the_other_way_round(plain, averaged):
    with pytest.raises(InputError, match=r"with averaged weights; .*EMA_DECAY above 0"):
        start(averaged[0], resume=True, **SHORT)
    with pytest.raises(InputError, match=r"without averaged weights; .*EMA_DECAY 0"):
        start(plain, resume=True, **AVERAGED)


@pytest.mark.slow
def test_training_can_start_from_averaged_weights_with_and_without_an_average(averaged, tmp_path):
    weights = averaged[0] / "model_final.pth"
    for changes in (SHORT, AVERAGED):
        trainer = start(tmp_path, MODEL__WEIGHTS=weights, **changes)
        assert_same(checkpoint(averaged[0])["model"], dict(trainer.model.state_dict()))


@pytest.mark.slow
def test_precise_statistics_are_those_of_the_deployed_network(tmp_path):
    changes = {
        "TEST__PRECISE_BN__ENABLED": True,
        "TEST__PRECISE_BN__DATASET": "HITSZVCM",
        "TEST__PRECISE_BN__NUM_ITER": 1,
    }
    trainer = start(tmp_path, **AVERAGED, **changes)
    (hook,) = [hook for hook in trainer._hooks if isinstance(hook, hooks.PreciseBN)]
    assert trainer.deployed is not trainer.model
    assert hook._model is trainer.deployed
    before, live = numbers(trainer.deployed), numbers(trainer.model)
    hook.update_stats()
    after = numbers(trainer.deployed)
    moved = {name for name in before if not np.array_equal(before[name], after[name])}
    statistics = {name for name in before if ".running_" in name}
    assert statistics <= moved
    assert all("num_batches_tracked" in name for name in moved - statistics)
    np.testing.assert_equal(numbers(trainer.model), live)


def train_and_save(datasets: str, folder: Path) -> None:
    os.environ["FASTREID_DATASETS"] = datasets
    torch.manual_seed(comm.get_rank())
    cfg = setup_cfg(str(CONFIG), options(folder, **{**AVERAGED, "SOLVER__MAX_EPOCH": 1}))
    trainer = Trainer(cfg)
    trainer.train()
    networks = trainer.deployed.state_dict(), trainer.model.state_dict()
    torch.save(networks, folder / f"rank{comm.get_rank()}.pth")


@pytest.mark.slow
def test_averages_of_two_processes_are_equal_and_saved(datasets, tmp_path):
    in_two_processes(train_and_save, str(datasets), tmp_path)
    (first, live), (second, _) = (torch.load(tmp_path / f"rank{rank}.pth") for rank in (0, 1))
    different = [name for name, value in first.items() if not torch.equal(value, second[name])]
    assert different == []
    assert_same(dict(first), checkpoint(tmp_path)["model"])
    assert any(not torch.equal(value, live[name]) for name, value in first.items())
