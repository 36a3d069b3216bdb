import copy

import pytest
import torch
from fastreid.layers.batch_norm import get_norm
from fastreid.utils import comm
from torch import nn

from plugins.modeling.batch_statistics import BatchStatistics, over_ranks
from tests.helpers.small_models import differing, state
from tests.helpers.two_processes import in_two_processes


def net_of(norm="BN"):
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(3, 4, 3), get_norm(norm, 4), nn.ReLU(), nn.Conv2d(4, 4, 3), get_norm(norm, 4)
    )
    for part in net:
        if isinstance(part, nn.BatchNorm2d):
            nn.init.normal_(part.weight)
            nn.init.normal_(part.running_mean)
    return net


def images(seed=0, shift=0.0):
    return torch.randn(4, 3, 8, 6, generator=torch.Generator().manual_seed(seed)) + shift


@pytest.mark.parametrize("norm", ["BN", "GhostBN"])
def test_the_same_batch_comes_out_the_same_and_another_one_by_the_first_one_s_statistics(norm):
    net = net_of(norm)
    statistics = BatchStatistics(net)
    with statistics.recorded():
        clean = net(images())
    with statistics.used():
        torch.testing.assert_close(net(images()), clean)
    with statistics.used():
        other = net(images(1))

    # By hand: each norm with the mean and variance of what the first batch sent into it.
    def normalized(norm, x, first):
        mean = first.mean((0, 2, 3), keepdim=True)
        variance = first.var((0, 2, 3), keepdim=True, correction=0)
        weight, bias = (p[:, None, None] for p in (norm.weight, norm.bias))
        return (x - mean) / (variance + norm.eps).sqrt() * weight + bias

    first, second = (net[0](images(seed)) for seed in (0, 1))
    first, second = normalized(net[1], first, first), normalized(net[1], second, first)
    first, second = (net[3](x.relu()) for x in (first, second))
    torch.testing.assert_close(other, normalized(net[4], second, first))


def test_recording_is_seen_by_nobody_and_use_changes_nothing():
    net, plain = net_of(), net_of()
    statistics = BatchStatistics(net)
    with statistics.recorded():
        recorded = net(images())
    assert torch.equal(recorded, plain(images()))
    assert differing(state(plain), state(net)) == []
    before = state(net)
    with statistics.used():
        net(images(1))
        assert not any(norm.training for norm in statistics.norms)
    assert differing(before, state(net)) == []
    assert all(norm.training and norm.track_running_stats for norm in statistics.norms)
    assert torch.equal(net(images(1)), plain(images(1)))


def test_what_a_batch_shares_arrives_only_by_the_statistics_of_another():
    net = net_of()
    statistics = BatchStatistics(net)
    with torch.no_grad(), statistics.recorded():
        clean = net(images())
    with torch.no_grad():
        assert (net(images(shift=0.5)) - clean).abs().max() < 1e-4
        with statistics.used():
            assert (net(images(shift=0.5)) - clean).abs().max() > 0.1


def test_the_statistics_are_constants_and_everything_else_has_its_gradient():
    net = net_of()
    statistics = BatchStatistics(net)
    with statistics.recorded():
        net(images())
    point = images().requires_grad_(True)
    with statistics.used():
        net(point)[0].sum().backward()
    assert point.grad[0].any() and not point.grad[1:].any(), "rows do not depend on each other"
    assert all(p.grad is not None for p in net.parameters())


def test_each_call_has_statistics_of_its_own():
    norm = nn.BatchNorm1d(3)
    statistics = BatchStatistics(norm)
    first, second = torch.randn(5, 3), 4 + 2 * torch.randn(5, 3)
    with statistics.recorded():
        expected = norm(first), norm(second)
    for _ in range(2):
        with statistics.used():
            torch.testing.assert_close((norm(first), norm(second)), expected)
    with (
        statistics.used(),
        pytest.raises(AssertionError, match=r"call 3 of a BatchNorm1d, .* had 2"),
    ):
        for _ in range(3):
            norm(first)
    assert norm.training, "put back after an exception too"


def test_a_norm_in_evaluation_mode_stays_as_it_is():
    net = net_of()
    net[1].eval()
    statistics = BatchStatistics(net)
    with statistics.recorded():
        clean = net(images())
    with statistics.used():
        torch.testing.assert_close(net(images()), clean)
        assert not net[1].training and net[1].track_running_stats


class PerRowNorm(nn.BatchNorm1d):
    """Takes more than its input, and says itself what it normalizes by."""

    def forward(self, inputs, kinds):
        mean, variance = self.running_mean, self.running_var
        if self.training:
            mean, variance = self.input_statistics(inputs, kinds)
        return (inputs - mean[kinds]) / (variance[kinds] + self.eps).sqrt()

    def input_statistics(self, inputs, kinds):
        groups = [inputs[kinds == kind] for kind in (0, 1)]
        return tuple(
            torch.stack([f(group) for group in groups])
            for f in (lambda g: g.mean(0), lambda g: g.var(0, correction=0))
        )


def test_a_norm_that_says_what_it_normalizes_by_is_asked():
    norm, kinds = PerRowNorm(3), torch.tensor([0, 1, 0, 1, 1])
    first, second = torch.randn(5, 3), torch.randn(5, 3)
    statistics = BatchStatistics(norm)
    with statistics.recorded():
        expected = norm(first, kinds)
    with statistics.used():
        torch.testing.assert_close(norm(first, kinds), expected)
    with statistics.used():
        mean, variance = norm.input_statistics(first, kinds)
        by_hand = (second - mean[kinds]) / (variance[kinds] + norm.eps).sqrt()
        torch.testing.assert_close(norm(second, kinds), by_hand)


def gather(folder):
    rank = comm.get_rank()
    values = 1000 + torch.randn(5 + 3 * rank, 4, generator=torch.Generator().manual_seed(rank))
    variance, mean = torch.var_mean(values, dim=0, correction=0)
    torch.save((values, over_ranks(mean, variance, len(values))), folder / f"{rank}.pth")


@pytest.mark.slow
def test_statistics_over_ranks_are_those_of_all_their_values(tmp_path):
    in_two_processes(gather, tmp_path)
    (first, found), (second, same) = (torch.load(tmp_path / f"{rank}.pth") for rank in (0, 1))
    values = torch.cat([first, second]).double()
    torch.testing.assert_close(found[0].double(), values.mean(0), rtol=1e-6, atol=0)
    torch.testing.assert_close(found[1].double(), values.var(0, correction=0), rtol=1e-3, atol=0)
    assert all(torch.equal(a, b) for a, b in zip(found, same, strict=True))


def test_nothing_is_shared_with_a_copy():
    net = net_of()
    statistics = BatchStatistics(net)
    with statistics.recorded():
        net(images())
    with statistics.used():
        net(images(1))
    copied = copy.deepcopy(net)
    assert torch.equal(copied(images(2)), net(images(2)))
