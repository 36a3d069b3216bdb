import itertools

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from plugins.modeling.temporal import TemporalMean
from plugins.modeling.temporal.base import CenteredPart
from plugins.modeling.temporal.modality_norm import ModalityNorm
from plugins.registry import TEMPORAL, known
from tests.helpers.small_models import awaken, maps_of, small_cfg

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
STARTS_AS_MEAN = ["STIG", "TemporalAttention", "TemporalLSTM", "TemporalTransformer"]
KEEPS_STILL_CLIPS = [
    "TemporalAttention",
    "TemporalGeM",
    "TemporalMax",
    "TemporalMean",
    "TemporalShift",
]

every = pytest.mark.parametrize("name", known(TEMPORAL))


def fresh(name, *opts):
    torch.manual_seed(0)
    return TEMPORAL.get(name)(small_cfg("MODEL.BACKBONE.FEAT_DIM", CHANNELS, *opts))


def trunk_maps(clips=2, frames=3, seed=0):
    """Not negative, as the trunk's last ReLU leaves them."""
    return maps_of(clips, frames, channels=CHANNELS, seed=seed).abs()


def run(aggregate, maps, modalities=None):
    """The appearance and, behind it, the relation if the part has one; of clips of both kinds."""
    if not isinstance(aggregate, CenteredPart):
        return aggregate(maps)
    return aggregate(maps, torch.arange(len(maps)) % 2 if modalities is None else modalities)


def settled(name, size=0.3):
    """A part that has left its initialization, in evaluation mode, with recorded statistics."""
    aggregate = awaken(fresh(name), size=size)
    run(aggregate, trunk_maps(clips=8))
    return aggregate.eval()


def padded(maps, count):
    return torch.cat([maps, maps[:, -1:].expand(-1, count, -1, -1, -1)], dim=1)


@every
def test_every_aggregation_takes_clips_of_any_length_with_the_same_weights(name):
    aggregate = awaken(fresh(name))
    for frames in (3, 1, 20):
        features = run(aggregate, trunk_maps(frames=frames))
        assert features.shape == (2, CHANNELS + getattr(aggregate, "relation_dim", 0))
        assert features.dtype == torch.float32
        assert features.isfinite().all()


@every
def test_a_test_batch_of_one_clip_equals_the_large_batch(name):
    aggregate, maps = settled(name), trunk_maps(clips=32, seed=1)
    kinds = torch.arange(32) % 2
    together = run(aggregate, maps, kinds)
    alone = torch.cat([run(aggregate, maps[i : i + 1], kinds[i : i + 1]) for i in range(32)])
    # Of length 1, as they are compared.
    torch.testing.assert_close(F.normalize(together), F.normalize(alone), rtol=0, atol=1e-5)


@every
@pytest.mark.parametrize("modality", [0, 1])
def test_batches_of_one_modality_and_of_one_clip_train(name, modality):
    for clips in (4, 1):
        aggregate, maps = awaken(fresh(name)), trunk_maps(clips=clips).requires_grad_()
        features = run(aggregate, maps, torch.full((clips,), modality))
        features.square().sum().backward()
        assert features.isfinite().all() and maps.grad.isfinite().all()


@every
def test_half_precision_maps_give_float32_features_under_autocast(name):
    aggregate = awaken(fresh(name))
    maps = trunk_maps().bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        features = run(aggregate, maps)
    assert features.dtype == torch.float32
    torch.testing.assert_close(features, run(aggregate, maps.float()))


@every
def test_the_order_of_frames_counts_where_it_should_and_nowhere_else(name):
    aggregate = settled(name)
    maps = trunk_maps()
    feature = run(aggregate, maps)
    for order in itertools.permutations(range(3)):
        if order == (0, 1, 2):
            continue
        counts = not torch.allclose(run(aggregate, maps[:, list(order)]), feature, atol=1e-5)
        assert counts == ORDER_COUNTS[name], order


@every
def test_gradients_reach_every_parameter_and_every_frame(name):
    aggregate = awaken(fresh(name))
    maps = trunk_maps().requires_grad_()
    run(aggregate, maps).square().sum().backward()
    trained = [(n, p) for n, p in aggregate.named_parameters() if p.requires_grad]
    silent = [n for n, p in trained if not p.grad.abs().sum() > 0]
    assert silent == []
    assert maps.grad.isfinite().all()
    assert maps.grad.abs().sum(dim=(0, 2, 3, 4)).gt(0).all()


@every
def test_gradients_in_evaluation_mode_are_those_of_training(name):
    # Gradient attacks need them; but for the statistics nothing differs in the two modes.
    aggregate = settled(name)
    maps = trunk_maps().requires_grad_()
    gradients = []
    for mode in (True, False):
        aggregate.train(mode)
        for norm in (part for part in aggregate.modules() if isinstance(part, ModalityNorm)):
            norm.eval()
        features = run(aggregate, maps)
        gradients.append(torch.autograd.grad(features.square().sum(), maps)[0])
    torch.testing.assert_close(*gradients)


@every
@pytest.mark.gpu  # cuDNN is what is asked about
def test_gradients_in_evaluation_mode_on_cuda_are_those_on_a_cpu(name):
    aggregate = awaken(fresh(name)).eval()
    on_cpu, on_cuda = trunk_maps().requires_grad_(), trunk_maps().cuda().requires_grad_()
    run(aggregate, on_cpu).sum().backward()
    run(aggregate.cuda(), on_cuda).sum().backward()
    torch.testing.assert_close(on_cuda.grad.cpu(), on_cpu.grad, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("name", STARTS_AS_MEAN)
@pytest.mark.parametrize("frames", [1, 5])
def test_at_initialization_the_learned_residuals_are_the_temporal_mean(name, frames):
    maps = trunk_maps(frames=frames)
    features = run(fresh(name), maps)[:, :CHANNELS]
    torch.testing.assert_close(features, TemporalMean()(maps))


@pytest.mark.parametrize("name", STARTS_AS_MEAN)
def test_one_update_moves_what_starts_as_the_mean(name):
    aggregate, maps = fresh(name), trunk_maps()
    before = run(aggregate, maps)[:, :CHANNELS]
    optimizer = torch.optim.SGD(aggregate.parameters(), lr=0.1)
    nn.functional.mse_loss(before, torch.zeros_like(before)).backward()
    optimizer.step()
    assert not torch.allclose(run(aggregate, maps)[:, :CHANNELS], before)


@pytest.mark.parametrize("name", KEEPS_STILL_CLIPS)
@pytest.mark.parametrize("frames", [1, 5])
def test_one_frame_repeated_is_that_frame(name, frames):
    frame = trunk_maps(frames=1)
    feature = run(awaken(fresh(name)), frame.expand(-1, frames, -1, -1, -1))
    torch.testing.assert_close(feature, frame[:, 0].mean(dim=(2, 3)))


@pytest.mark.parametrize("name", KEEPS_STILL_CLIPS)
def test_padding_moves_the_feature_towards_the_last_frame_and_never_beyond_the_clip(name):
    # Little awake: attention that ignores the last frame needs more than 300 copies of it.
    aggregate, maps = settled(name, size=0.1), trunk_maps()
    frames = maps.mean(dim=(3, 4))
    features = [run(aggregate, padded(maps, count)) for count in (0, 1, 4, 300)]
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
    aggregate, maps = settled(name), trunk_maps()
    assert run(aggregate, padded(maps, 4)).isfinite().all()
    assert not torch.allclose(run(aggregate, padded(maps, 1)), run(aggregate, maps))
