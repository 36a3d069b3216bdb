"""DDDefense as a user runs it: killed and resumed, and on two processes."""

from pathlib import Path

import pytest
import torch
from fastreid.utils import comm

from tests.helpers.defense_runs import assert_resumes
from tests.helpers.defense_toys import GAME, META, dd_step, pair_of, tiny_batch
from tests.helpers.small_runs import ROOT
from tests.helpers.two_processes import in_two_processes

pytestmark = pytest.mark.slow

CONFIG = ROOT / "configs/Defense/synthetic/dddefense.yml"


def test_killed_and_resumed_is_bit_identical(market, tmp_path):
    state = ("discriminator", "centroid_bank")
    saved, metrics = assert_resumes(
        market, tmp_path, CONFIG, *state, DEFENSE__CENTROIDS__SOURCE="bank"
    )
    assert saved["centroid_bank"]["seen"].all()
    assert saved["discriminator"]["optimizer"]["state"], "the discriminator was never stepped"
    for name in ("loss_cls_attacked", "loss_encoder_meta_test", "discriminator/loss", "meta/moved"):
        assert f'"{name}"' in metrics


def gradients_of(numbers: list[int]) -> tuple[list, dict]:
    """Of an update on batches with these numbers; and the discriminator after its turn."""
    torch.manual_seed(comm.get_rank())  # of the discriminator's first weights
    step = dd_step(*GAME, *META)
    # Else a batch's halves would depend on the rank or place that it has.
    step.generator = lambda index, purpose: torch.Generator().manual_seed(purpose)
    pairs = [
        pair_of(batch, {**batch, "images": 255 - batch["images"]})
        for batch in map(tiny_batch, numbers)
    ]
    step.backward(pairs, step.optimizer)
    return [p.grad for p in step.model.parameters()], step.discriminator.network.state_dict()


def save_a_rank(folder: Path) -> None:
    rank = comm.get_rank()
    torch.save(gradients_of([rank]), folder / f"{rank}.pth")


def test_two_processes_are_one_that_accumulates(tmp_path):
    in_two_processes(save_a_rank, tmp_path)
    first, second = (torch.load(tmp_path / f"{rank}.pth") for rank in (0, 1))
    for one, other in zip(first[0], second[0], strict=True):
        assert torch.equal(one, other)
    torch.testing.assert_close(first, gradients_of([0, 1]), atol=1e-6, rtol=1e-4)
