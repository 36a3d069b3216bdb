"""Adversarial training as a user runs it: killed and resumed, and on two processes."""

import signal
import subprocess
import time
from pathlib import Path

import pytest
import torch
from fastreid.utils import comm

from plugins.config import setup_cfg
from plugins.data.synthetic import MARKET1501, SyntheticSettings, render_layout
from plugins.engine import Trainer
from tests.engine.small import ROOT, command, environment, options, train
from tests.engine.test_distributed import in_two_processes
from tests.engine.test_resume import assert_same, checkpoint

CONFIG = ROOT / "configs/Defense/synthetic/adv_train.yml"
SMALL = {
    "DEFENSE__STEPS": 1,
    "DEFENSE__WARMUP_EPOCHS": 1,
    "DATALOADER__NUM_INSTANCE": 2,
    "SOLVER__IMS_PER_BATCH": 8,
    "SOLVER__MAX_EPOCH": 2,
    "TEST__EVAL_PERIOD": 2,
}


@pytest.fixture(scope="module")
def market(tmp_path_factory) -> Path:
    """A FASTREID_DATASETS folder with a small rendered Market-1501 in it."""
    root = tmp_path_factory.mktemp("market")
    settings = SyntheticSettings(train_ids=4, test_ids=3, height=32, width=16, max_frames=12)
    render_layout(MARKET1501, root / "Market-1501-v15.09.15", settings)
    return root


def test_killed_and_resumed_is_bit_identical(market, tmp_path):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    done = train(datasets=market, output=whole, config=CONFIG, **SMALL)
    assert done.returncode == 0, done.stderr
    running = subprocess.Popen(
        command(output=killed, config=CONFIG, **SMALL),
        env=environment(market),
        stdout=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 300
    while not (killed / "last_checkpoint").exists() and time.monotonic() < deadline:
        assert running.poll() is None, "ended before it could be killed"
        time.sleep(0.01)
    running.send_signal(signal.SIGKILL)
    running.wait()
    resumed = train("--resume", datasets=market, output=killed, config=CONFIG, **SMALL)
    assert resumed.returncode == 0, resumed.stderr
    assert "epochs are done" in resumed.stdout
    expected, found = checkpoint(whole), checkpoint(killed)
    for key in ("model", "optimizer", "lr_sched", "sampler", "random_state"):
        assert_same(expected[key], found[key])
    assert '"loss_cls_attacked"' in (whole / "metrics.json").read_text()


def train_and_save(datasets: str, folder: Path) -> None:
    import os

    os.environ["FASTREID_DATASETS"] = datasets
    torch.manual_seed(comm.get_rank())
    cfg = setup_cfg(str(CONFIG), options(folder, **SMALL, SEED=0))
    trainer = Trainer(cfg)
    crafted = []
    craft = trainer._trainer.craft
    trainer._trainer.craft = lambda *args: crafted.append(craft(*args)) or crafted[-1]
    trainer.train()
    torch.save(
        (trainer.model.state_dict(), crafted[-1]["img_paths"]), folder / str(comm.get_rank())
    )


def test_weights_of_two_processes_are_equal_though_their_batches_are_not(market, tmp_path):
    in_two_processes(train_and_save, str(market), tmp_path)
    (first, paths), (second, others) = (torch.load(tmp_path / str(rank)) for rank in (0, 1))
    assert [name for name, value in first.items() if not torch.equal(value, second[name])] == []
    assert paths != others
