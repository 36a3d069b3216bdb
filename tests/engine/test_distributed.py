"""Two real gloo processes."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from fastreid.utils import comm
from torch import nn

from plugins.config import setup_cfg
from plugins.engine import Trainer, launch
from plugins.engine.distributed import average_buffers, average_gradients, broadcast_model
from plugins.engine.launch import world_size
from plugins.errors import InputError
from tests.helpers.small_runs import CONFIG, ROOT, command, environment, options, train
from tests.helpers.two_processes import in_two_processes

pytestmark = pytest.mark.slow


def exchange(folder: Path) -> None:
    rank = comm.get_rank()
    torch.manual_seed(rank)
    net = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3), nn.Linear(3, 1), nn.Linear(1, 1))
    broadcast_model(net)
    start = {name: value.clone() for name, value in net.state_dict().items()}
    net[1].running_mean.fill_(float(rank))
    net[0].weight.grad = torch.full((3, 3), float(rank + 1))
    if rank == 0:  # as for a modality that only one rank has seen
        net[2].weight.grad = torch.full((1, 3), 4.0)
    average_gradients(net.parameters())
    average_buffers(net)
    gradients = {name: p.grad for name, p in net.named_parameters()}
    torch.save((start, gradients, net[1].running_mean), folder / f"{rank}.pth")


def test_ranks_share_weights_gradients_and_statistics(tmp_path):
    in_two_processes(exchange, tmp_path)
    (start, gradients, mean), second = (torch.load(tmp_path / f"{rank}.pth") for rank in (0, 1))
    for name, value in start.items():
        assert torch.equal(value, second[0][name])
    for found, running_mean in ((gradients, mean), second[1:]):
        assert torch.equal(found["0.weight"], torch.full((3, 3), 1.5))
        assert torch.equal(found["2.weight"], torch.full((1, 3), 2.0))
        assert found["3.weight"] is None, "a tensor without a gradient anywhere must keep none"
        assert torch.equal(running_mean, torch.full((3,), 0.5))


def train_and_save(datasets: str, folder: Path, changes: dict) -> None:
    import os

    os.environ["FASTREID_DATASETS"] = datasets
    torch.manual_seed(comm.get_rank())
    changes = {"SOLVER__MAX_EPOCH": 2, "TEST__EVAL_PERIOD": 2, **changes}
    cfg = setup_cfg(str(CONFIG), options(folder, **changes))
    trainer = Trainer(cfg)
    trainer.train()
    torch.save(trainer.model.state_dict(), folder / f"rank{comm.get_rank()}.pth")


PRECISE_BN = {
    "TEST__PRECISE_BN__ENABLED": True,
    "TEST__PRECISE_BN__DATASET": "HITSZVCM",
    "TEST__PRECISE_BN__NUM_ITER": 2,
}


@pytest.mark.parametrize("changes", [{}, PRECISE_BN], ids=["", "precise_bn"])
def test_weights_of_both_ranks_are_equal_after_training(datasets, tmp_path, changes):
    in_two_processes(train_and_save, str(datasets), tmp_path, changes)
    first, second = (torch.load(tmp_path / f"rank{rank}.pth") for rank in (0, 1))
    different = [name for name, value in first.items() if not torch.equal(value, second[name])]
    assert different == []


def test_launched_by_torchrun(datasets, tmp_path):
    script = command(output=tmp_path, SOLVER__MAX_EPOCH=1, TEST__EVAL_PERIOD=1, SEED=-1)[1:]
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "torch.distributed.run",
            "--standalone",
            "--nproc-per-node=2",
            *script,
        ],
        env=environment(datasets),
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "model_final.pth").exists()
    logs = [(tmp_path / name).read_text() for name in ("log.txt", "log.txt.rank1")]
    assert "Rank 0 of 2 processes" in logs[0]
    seeds = [re.search(r"^  SEED: (\d+)$", log, re.M).group(1) for log in logs]
    assert seeds[0] == seeds[1], "each process drew a seed of its own"


def test_a_batch_that_the_processes_cannot_share_is_refused(datasets, tmp_path):
    failed = train("--num-gpus", "2", datasets=datasets, output=tmp_path, SOLVER__IMS_PER_BATCH=9)
    assert failed.returncode == 2
    assert failed.stderr.strip() == (
        "error: SOLVER.IMS_PER_BATCH: 9 cannot be shared by 2 processes; expected a multiple of 2"
    )


def test_the_environment_counts_processes_only_under_torchrun(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "4")
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    assert world_size(2, 1) == 2
    monkeypatch.setenv("LOCAL_RANK", "0")
    assert world_size(2, 1) == 4


@pytest.mark.skipif(torch.cuda.device_count() > 7, reason="has that many GPUs")
def test_more_processes_than_gpus_are_refused():
    with pytest.raises(InputError, match="--num-gpus 8: this machine has"):
        launch(print, 8, 1, 0, "tcp://127.0.0.1:1", "cuda", ())
