import io

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from plugins.attacks.guides import Guides
from plugins.defense.centroids import CentroidBank, batch_centroids, farthest_negative

BATCHES = [[0, 0, 3, 3, 5], [3, 5, 5, 5, 1], [0, 1, 1, 0, 3], [1, 1, 1, 1, 1]]


def features_of(seed: int, count: int = 5, dim: int = 3) -> torch.Tensor:
    return torch.randn(count, dim, generator=torch.Generator().manual_seed(seed))


def filled(bank: CentroidBank, numbers=(0, 1, 2, 3)) -> CentroidBank:
    for number in numbers:
        bank.update(features_of(number), torch.tensor(BATCHES[number]))
    return bank


@settings(max_examples=40, deadline=None)
@given(pids=st.lists(st.integers(0, 4), min_size=1, max_size=8), seed=st.integers(0, 1000))
def test_batch_centroids_equal_a_loop_and_those_of_the_attacks(pids, seed):
    features, pids = features_of(seed, len(pids)), torch.tensor(pids)
    centroids, people = batch_centroids(features, pids)
    assert people.tolist() == sorted(set(pids.tolist()))
    for centroid, person in zip(centroids, people.tolist(), strict=True):
        own = [features[row] for row in range(len(pids)) if pids[row] == person]
        torch.testing.assert_close(centroid, sum(own) / len(own))
    guides = Guides.among(features, pids, metric="euclidean", source="batch").centroids
    torch.testing.assert_close(centroids, guides.gallery)
    assert torch.equal(people, guides.gallery_pids)


@settings(max_examples=40, deadline=None)
@given(pids=st.lists(st.integers(0, 4), min_size=1, max_size=8), seed=st.integers(0, 1000))
def test_farthest_negative_equals_a_loop(pids, seed):
    features, pids = features_of(seed, len(pids)), torch.tensor(pids)
    centroids, people = batch_centroids(features, pids)
    found = farthest_negative(features, pids, centroids, people)
    for row, person in enumerate(pids.tolist()):
        reach = {
            other: (features[row] - centroid).norm().item()
            for other, centroid in zip(people.tolist(), centroids, strict=True)
            if other != person
        }
        if reach:
            chosen = found[row].item()
            assert chosen != person
            assert reach[chosen] == pytest.approx(max(reach.values()), rel=1e-5)
        else:
            assert found[row] == person


def test_the_first_of_equally_far_people_is_taken():
    centroids, people = torch.tensor([[1.0], [-1.0], [0.0]]), torch.tensor([2, 4, 7])
    assert farthest_negative(torch.zeros(1, 1), torch.tensor([7]), centroids, people).tolist() == [
        2
    ]


def test_against_an_empty_bank_everyone_keeps_their_own_class():
    pids = torch.tensor([1, 0])
    assert torch.equal(
        farthest_negative(features_of(0, 2), pids, *CentroidBank(4, 3, 0.9).centroids()), pids
    )


def test_a_bank_equals_a_loop_and_leaves_out_who_was_never_seen():
    bank = filled(CentroidBank(classes=7, dim=3, momentum=0.75))
    slow: dict[int, torch.Tensor] = {}
    for number, pids in enumerate(BATCHES):
        features = features_of(number).double()
        for person in set(pids):
            own = torch.stack([f for f, pid in zip(features, pids, strict=True) if pid == person])
            mean = own.mean(dim=0)
            slow[person] = 0.75 * slow[person] + 0.25 * mean if person in slow else mean
    centroids, people = bank.centroids()
    assert people.tolist() == sorted(slow) == [0, 1, 3, 5]
    expected = torch.stack([slow[person] for person in people.tolist()])
    torch.testing.assert_close(centroids.double(), expected, atol=1e-6, rtol=1e-5)


def test_a_resumed_bank_is_bit_identical():
    whole = filled(CentroidBank(7, 3, 0.9))
    file = io.BytesIO()
    torch.save(filled(CentroidBank(7, 3, 0.9), [0, 1]).state_dict(), file)
    file.seek(0)
    resumed = CentroidBank(7, 3, 0.9)
    resumed.load_state_dict(torch.load(file, weights_only=True))
    filled(resumed, [2, 3])
    for name, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name


def test_neither_gradients_nor_half_precision_reach_the_centroids():
    features, pids = features_of(0).requires_grad_(), torch.tensor(BATCHES[0])
    plain, _ = batch_centroids(features, pids)
    with torch.autocast("cpu", torch.bfloat16):
        mixed, _ = batch_centroids(features, pids)
    assert not plain.requires_grad
    assert torch.equal(plain, mixed)
