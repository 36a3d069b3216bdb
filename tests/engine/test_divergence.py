"""A loss that is not finite: one line, the batch in a file, the last good checkpoint by name."""

import re
from pathlib import Path

import pytest
import torch
from fastreid.utils import comm

from plugins.config import setup_cfg
from plugins.engine import Trainer
from plugins.engine.divergence import last_good_checkpoint
from plugins.errors import RunFailed
from tests.helpers.small_runs import CONFIG, options, train
from tests.helpers.two_processes import in_two_processes

HUGE = {"SOLVER__OPT": "SGD", "SOLVER__BASE_LR": 1e30, "SOLVER__WARMUP_EPOCHS": 0}


@pytest.mark.slow
def test_a_rate_that_is_too_high_ends_in_one_line_and_leaves_its_batch(datasets, tmp_path):
    failed = train(datasets=datasets, output=tmp_path, **HUGE)
    assert failed.returncode == 1
    (line,) = [each for each in failed.stderr.splitlines() if each.startswith("error: ")]
    found = re.fullmatch(
        r"error: iteration (\d+): a loss is infinite or NaN: .*loss_cls (nan|inf).*; "
        r"the batch is saved in (\S+); there is no checkpoint before it",
        line,
    )
    assert found, line
    assert "Traceback" not in failed.stderr + failed.stdout
    assert line.removeprefix("error: ") in (tmp_path / "log.txt").read_text()
    saved = torch.load(found[3], weights_only=True)
    assert Path(found[3]).parent == tmp_path
    assert saved["iteration"] == int(found[1])
    assert not torch.tensor(saved["losses"]["loss_cls"]).isfinite()
    (batch,) = saved["batches"]
    assert batch["images"].shape == (8, 2, 3, 32, 16)
    assert len(batch["img_paths"]) == len(batch["targets"]) == len(batch["camids"]) == 8
    assert all(Path(path).is_file() for clip in batch["img_paths"] for path in clip)


class Poisoned(Trainer):
    """Its weights are lost in an iteration, on one rank or on all."""

    iteration, rank = 4, None

    def run_step(self) -> None:
        if self.iter == self.iteration and self.rank in (None, comm.get_rank()):
            with torch.no_grad():
                self.model.heads.weight.fill_(float("nan"))
        super().run_step()


@pytest.mark.slow
def test_the_last_good_checkpoint_is_named(datasets, tmp_path, monkeypatch):
    monkeypatch.setenv("FASTREID_DATASETS", str(datasets))
    trainer = Poisoned(setup_cfg(str(CONFIG), options(tmp_path)))
    with pytest.raises(RunFailed, match="the last good checkpoint is ") as failed:
        trainer.train()
    assert failed.value.status == 1
    assert str(failed.value).endswith(f"checkpoint is {tmp_path / 'model_0000.pth'}")
    assert (tmp_path / "diverged_0000004.pth").exists()


def test_a_checkpoint_with_weights_that_are_not_finite_is_not_good(tmp_path):
    good, bad, cut = (tmp_path / f"model_000{number}.pth" for number in range(3))
    torch.save({"model": {"w": torch.ones(2), "n": torch.tensor(1)}}, good)
    torch.save({"model": {"w": torch.tensor([1.0, float("inf")])}}, bad)
    cut.write_bytes(good.read_bytes()[:100])
    assert last_good_checkpoint(tmp_path) == good
    good.unlink()
    assert last_good_checkpoint(tmp_path) is None


@pytest.mark.slow
def test_a_large_batch_is_saved_without_its_images(datasets, tmp_path, monkeypatch):
    monkeypatch.setenv("FASTREID_DATASETS", str(datasets))
    monkeypatch.setattr("plugins.engine.divergence.LARGEST_BATCH", 1000)
    trainer = Poisoned(setup_cfg(str(CONFIG), options(tmp_path)))
    trainer.iteration = 0
    with pytest.raises(RunFailed):
        trainer.train()
    (batch,) = torch.load(tmp_path / "diverged_0000000.pth", weights_only=True)["batches"]
    assert "images" not in batch and len(batch["img_paths"]) == 8


def diverge(datasets: str, folder: Path) -> None:
    import os

    os.environ["FASTREID_DATASETS"] = datasets
    trainer = Poisoned(setup_cfg(str(CONFIG), options(folder)))
    trainer.rank, trainer.iteration = 1, 1
    with pytest.raises(RunFailed) as failed:
        trainer.train()
    told = f"{failed.value.reported} {failed.value}"
    (folder / f"rank{comm.get_rank()}.txt").write_text(told)


@pytest.mark.slow
def test_ranks_end_together_with_the_batch_of_the_one_that_diverged(datasets, tmp_path):
    in_two_processes(diverge, str(datasets), tmp_path)
    first, second = ((tmp_path / f"rank{rank}.txt").read_text() for rank in (0, 1))
    assert first.startswith("False iteration 1: a loss is infinite or NaN on rank 1: ")
    assert second == first.replace("False", "True", 1)
    assert [path.name for path in tmp_path.glob("diverged*")] == ["diverged_0000001_rank1.pth"]
