import pytest
import torch
from fastreid.layers import get_norm
from torch import nn

from plugins.modeling.freeze import frozen_parameters, frozen_statistics
from tests.helpers.small_models import differing, state


@pytest.mark.parametrize("norm", ["BN", "GhostBN", "FrozenBN", "GN"])
def test_statistics_are_kept_bit_for_bit_while_the_output_is_that_of_training(norm):
    torch.manual_seed(0)
    layer = get_norm(norm, 32)
    images = torch.randn(4, 32, 3, 3) * 2 + 1
    layer(images)  # statistics unlike the identity
    before = state(layer)
    with frozen_statistics(layer):
        frozen = layer(images)
    assert differing(before, state(layer)) == []
    torch.testing.assert_close(frozen, layer(images))


def test_statistics_are_recorded_again_afterwards_even_after_an_error():
    model = nn.Sequential(nn.BatchNorm1d(2), nn.BatchNorm1d(2, momentum=None))
    with pytest.raises(RuntimeError, match="stop"), frozen_statistics(model):
        raise RuntimeError("stop")
    model(torch.randn(3, 2))
    assert [norm.momentum for norm in model] == [0.1, None]
    assert [norm.num_batches_tracked.item() for norm in model] == [1, 1]
    assert model[0].running_mean.abs().sum() > 0


def test_a_norm_that_records_nothing_stays_so():
    norm = nn.BatchNorm1d(2, track_running_stats=False)
    with frozen_statistics(norm):
        pass
    assert not norm.track_running_stats


def test_gradients_pass_through_frozen_parameters_but_not_to_them():
    layer, inputs = nn.Linear(2, 1), torch.ones(1, 2, requires_grad=True)
    with frozen_parameters(layer.parameters()):
        loss = layer(inputs).sum()
    loss.backward()
    assert torch.equal(inputs.grad, layer.weight)
    assert layer.weight.grad is None


def test_only_what_was_trained_is_trained_again_even_after_an_error():
    layer = nn.Linear(2, 1)
    layer.bias.requires_grad_(False)
    with pytest.raises(RuntimeError, match="stop"), frozen_parameters(layer.parameters()):
        assert not layer.weight.requires_grad
        raise RuntimeError("stop")
    assert layer.weight.requires_grad
    assert not layer.bias.requires_grad
