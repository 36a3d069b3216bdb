import itertools

import pytest
import torch
from torch import nn

from plugins.modeling.temporal import TemporalMean
from plugins.registry import TEMPORAL, known
from tests.modeling.samples import awaken, maps_of, small_cfg

CHANNELS = 32
# What each aggregation promises; a new one is tested as soon as it says what it promises.
ORDER_COUNTS = {
    "STIG": True,
    "TemporalAttention": False,
    "TemporalGeM": False,
    "TemporalLSTM": True,
    "TemporalMax": False,
    "TemporalMean": False,
    "TemporalShift": True,
    "TemporalTransformer": True,
}
STARTS_AS_MEAN = ["TemporalAttention", "TemporalLSTM", "TemporalTransformer"]
KEEPS_STILL_CLIPS = [
    "TemporalAttention",
    "TemporalGeM",
    "TemporalMax",
    "TemporalMean",
    "TemporalShift",
]

every = pytest.mark.parametrize("name", known(TEMPORAL))


def fresh(name):
    torch.manual_seed(0)
    return TEMPORAL.get(name)(small_cfg("MODEL.BACKBONE.FEAT_DIM", CHANNELS))


def trunk_maps(clips=2, frames=3):
    """Not negative, as the trunk's last ReLU leaves them."""
    return maps_of(clips, frames, channels=CHANNELS).abs()


def padded(maps, count):
    return torch.cat([maps, maps[:, -1:].expand(-1, count, -1, -1, -1)], dim=1)


@every
def test_every_aggregation_takes_clips_of_any_length_with_the_same_weights(name):
    aggregate = awaken(fresh(name))
    for frames in (3, 1, 20):
        features = aggregate(trunk_maps(frames=frames))
        assert features.shape == (2, CHANNELS)
        assert features.dtype == torch.float32
        assert features.isfinite().all()


@every
def test_clips_of_a_batch_do_not_see_each_other(name):
    aggregate = awaken(fresh(name)).eval()
    maps = trunk_maps(clips=3)
    alone = torch.cat([aggregate(clip[None]) for clip in maps])
    torch.testing.assert_close(aggregate(maps), alone)


@every
def test_half_precision_maps_give_float32_features_under_autocast(name):
    aggregate = awaken(fresh(name))
    maps = trunk_maps().bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        features = aggregate(maps)
    assert features.dtype == torch.float32
    torch.testing.assert_close(features, aggregate(maps.float()))


@every
def test_the_order_of_frames_counts_where_it_should_and_nowhere_else(name):
    aggregate = awaken(fresh(name))
    maps = trunk_maps()
    feature = aggregate(maps)
    for order in itertools.permutations(range(3)):
        if order == (0, 1, 2):
            continue
        counts = not torch.allclose(aggregate(maps[:, list(order)]), feature, atol=1e-5)
        assert counts == ORDER_COUNTS[name], order


@every
def test_gradients_reach_every_parameter_and_every_frame(name):
    aggregate = awaken(fresh(name))
    maps = trunk_maps().requires_grad_()
    aggregate(maps).square().sum().backward()
    silent = [n for n, p in aggregate.named_parameters() if not p.grad.abs().sum() > 0]
    assert silent == []
    assert maps.grad.isfinite().all()
    assert maps.grad.abs().sum(dim=(0, 2, 3, 4)).gt(0).all()


@every
def test_gradients_in_evaluation_mode_are_those_of_training(name):
    # Gradient attacks need them; nothing here behaves differently in the two modes.
    aggregate = awaken(fresh(name))
    maps = trunk_maps().requires_grad_()
    in_training, in_evaluation = (
        torch.autograd.grad(aggregate.train(mode)(maps).square().sum(), maps)[0]
        for mode in (True, False)
    )
    torch.testing.assert_close(in_evaluation, in_training)


@every
@pytest.mark.skipif(not torch.cuda.is_available(), reason="cuDNN is what is asked about")
def test_gradients_in_evaluation_mode_on_cuda_are_those_on_a_cpu(name):
    aggregate = awaken(fresh(name)).eval()
    on_cpu, on_cuda = trunk_maps().requires_grad_(), trunk_maps().cuda().requires_grad_()
    aggregate(on_cpu).sum().backward()
    aggregate.cuda()(on_cuda).sum().backward()
    torch.testing.assert_close(on_cuda.grad.cpu(), on_cpu.grad, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("name", STARTS_AS_MEAN)
@pytest.mark.parametrize("frames", [1, 5])
def test_at_initialisation_the_learned_residuals_are_the_temporal_mean(name, frames):
    maps = trunk_maps(frames=frames)
    torch.testing.assert_close(fresh(name)(maps), TemporalMean()(maps))


@pytest.mark.parametrize("name", STARTS_AS_MEAN)
def test_one_update_moves_what_starts_as_the_mean(name):
    aggregate, maps = fresh(name), trunk_maps()
    before = aggregate(maps)
    optimizer = torch.optim.SGD(aggregate.parameters(), lr=0.1)
    nn.functional.mse_loss(before, torch.zeros_like(before)).backward()
    optimizer.step()
    assert not torch.allclose(aggregate(maps), before)


@pytest.mark.parametrize("name", KEEPS_STILL_CLIPS)
@pytest.mark.parametrize("frames", [1, 5])
def test_one_frame_repeated_is_that_frame(name, frames):
    frame = trunk_maps(frames=1)
    feature = awaken(fresh(name))(frame.expand(-1, frames, -1, -1, -1))
    torch.testing.assert_close(feature, frame[:, 0].mean(dim=(2, 3)))


@pytest.mark.parametrize("name", KEEPS_STILL_CLIPS)
def test_padding_moves_the_feature_towards_the_last_frame_and_never_beyond_the_clip(name):
    aggregate, maps = awaken(fresh(name)), trunk_maps()
    frames = maps.mean(dim=(3, 4))
    features = [aggregate(padded(maps, count)) for count in (0, 1, 4, 300)]
    for feature in features:
        assert (feature >= frames.amin(dim=1) - 1e-5).all()
        assert (feature <= frames.amax(dim=1) + 1e-5).all()
    gaps = [(feature - frames[:, -1]).abs() for feature in features]
    for nearer, farther in zip(gaps[1:], gaps[:-1], strict=True):
        assert (nearer <= farther + 1e-5).all()
    if name == "TemporalMax":
        assert all(torch.equal(feature, features[0]) for feature in features)
    else:
        assert gaps[-1].sum() < 0.1 * gaps[0].sum()


@pytest.mark.parametrize("name", sorted(set(ORDER_COUNTS) - set(KEEPS_STILL_CLIPS)))
def test_where_order_is_learned_padding_is_a_longer_clip(name):
    aggregate, maps = awaken(fresh(name)), trunk_maps()
    assert aggregate(padded(maps, 4)).isfinite().all()
    assert not torch.allclose(aggregate(padded(maps, 1)), aggregate(maps))
