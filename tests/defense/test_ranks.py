"""Two real gloo processes hold one bank and one discriminator."""

from pathlib import Path

import pytest
import torch
from fastreid.utils import comm

from plugins.defense.centroids import CentroidBank
from plugins.defense.discriminator import Discriminator
from tests.helpers.two_processes import in_two_processes

pytestmark = pytest.mark.slow

BATCHES = [[0, 0, 3, 3], [3, 5, 5, 1], [0, 1, 1, 3], [1, 1, 1, 1]]


def features_of(number: int) -> torch.Tensor:
    return torch.randn(4, 6, generator=torch.Generator().manual_seed(number))


def train(seed: int, iterations: list[list[int]]) -> dict[str, torch.Tensor]:
    """State after iterations on the concatenation of the batches with these numbers."""
    torch.manual_seed(seed)
    bank, player = CentroidBank(7, 6, 0.9), Discriminator(6, hidden=8, lr=1e-2)
    for numbers in iterations:
        features = torch.cat([features_of(number) for number in numbers])
        bank.update(features, torch.tensor([pid for n in numbers for pid in BATCHES[n]]))
        player.step(features, 1 - features)
    return bank.state_dict() | player.network.state_dict()


def train_a_rank(folder: Path) -> None:
    rank = comm.get_rank()
    torch.save(train(rank, [[rank], [2 + rank]]), folder / f"{rank}.pth")


@pytest.fixture(scope="module")
def ranks(tmp_path_factory) -> list[dict[str, torch.Tensor]]:
    folder = tmp_path_factory.mktemp("ranks")
    in_two_processes(train_a_rank, folder)
    return [torch.load(folder / f"{rank}.pth") for rank in (0, 1)]


def test_both_ranks_end_with_the_same_bits(ranks):
    first, second = ranks
    assert [name for name in first if not torch.equal(first[name], second[name])] == []


def test_they_are_one_process_that_saw_both_their_batches(ranks):
    torch.testing.assert_close(ranks[0], train(0, [[0, 1], [2, 3]]))
