"""Adversarial training as a user runs it: killed and resumed, and on two processes."""

from pathlib import Path

import pytest
import torch
from fastreid.utils import comm

from plugins.config import setup_cfg
from plugins.engine import Trainer
from tests.helpers.defense_runs import SMALL, assert_resumes
from tests.helpers.small_runs import ROOT, options
from tests.helpers.two_processes import in_two_processes

pytestmark = pytest.mark.slow

CONFIG = ROOT / "configs/Defense/synthetic/adv_train.yml"


def test_killed_and_resumed_is_bit_identical(market, tmp_path):
    _, metrics = assert_resumes(market, tmp_path, CONFIG)
    assert '"loss_cls_attacked"' in metrics


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
