import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from plugins.modeling.self_attack.channel_statistics import (
    TINY_VARIANCE,
    ChannelStatistics,
    clip_statistics,
    floors,
    loss_slopes,
    restyle,
    within_person_deviation,
)

CLIPS, FRAMES, CHANNELS = 3, 2, 5


def maps_of(seed=0, shift=0.0):
    """As after a ReLU: a shift of 0 leaves half of the cells at 0, one of 9 none."""
    generator = torch.Generator().manual_seed(seed)
    return (torch.randn(CLIPS * FRAMES, CHANNELS, 4, 3, generator=generator) + shift).relu()


def statistics_of(seed, size=0.2):
    generator = torch.Generator().manual_seed(seed)
    return [size * torch.randn(CLIPS, CHANNELS, generator=generator) for _ in range(2)]


def test_statistics_are_those_of_all_frames_and_cells_of_a_clip():
    maps = maps_of()
    found = clip_statistics(maps, FRAMES)
    for clip in range(CLIPS):
        for channel in range(CHANNELS):
            own = slice(clip * FRAMES, (clip + 1) * FRAMES)
            cells = maps[own, channel].numpy().astype(np.float64).ravel()
            assert found.mean[clip, channel].item() == pytest.approx(cells.mean(), abs=1e-6)
            deviation = np.log(np.sqrt(cells.var() + TINY_VARIANCE))
            assert found.log_deviation[clip, channel].item() == pytest.approx(deviation, abs=1e-5)


def test_restyled_maps_have_the_wanted_statistics():
    maps = maps_of(shift=9.0)
    own = clip_statistics(maps, FRAMES)
    wanted = own.moved(*statistics_of(1))
    found = clip_statistics(restyle(maps, FRAMES, own, wanted), FRAMES)
    torch.testing.assert_close(found.mean, wanted.mean)
    torch.testing.assert_close(found.log_deviation, wanted.log_deviation, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_who_keeps_the_statistics_keeps_the_map_to_the_bit(dtype):
    maps = maps_of().to(dtype)
    own = clip_statistics(maps, FRAMES)
    assert torch.equal(restyle(maps, FRAMES, own, own), maps)
    assert torch.equal(
        restyle(maps, FRAMES, own, own.mixed(own.of([1, 2, 0]), torch.zeros(3))), maps
    )
    moved = restyle(maps, FRAMES, own, own.moved(*statistics_of(1)))
    assert moved.dtype == dtype and not torch.equal(moved, maps)


def test_after_a_relu_nothing_falls_below_0():
    maps = maps_of()
    own = clip_statistics(maps, FRAMES)
    darker = own.moved(torch.full((CLIPS, CHANNELS), -0.5), torch.zeros(CLIPS, CHANNELS))
    assert (maps.view(CLIPS, -1).mean(1) < 0.5).all()
    found = restyle(maps, FRAMES, own, darker)
    assert found.min() == 0 and found.any()


def test_where_the_layer_gives_negative_values_they_stay():
    maps = maps_of(shift=9.0) - 9  # as after a non-local block
    torch.testing.assert_close(floors(maps), maps.amin(dim=(0, 2, 3)))
    own = clip_statistics(maps, FRAMES)
    found = restyle(maps, FRAMES, own, own.moved(*statistics_of(1)))
    assert (found < 0).any()
    assert (found.amin(dim=(0, 2, 3)) >= floors(maps)).all()


def test_a_clip_that_stands_still_stands_still_and_motion_is_scaled_as_a_whole():
    # Statistics of single frames would make a still person move.
    still = maps_of(shift=9.0).unflatten(0, (CLIPS, FRAMES))
    still[:, 1] = still[:, 0]
    moving = maps_of(shift=9.0)
    for maps in (still.flatten(0, 1), moving):
        own = clip_statistics(maps, FRAMES)
        wanted = own.moved(*statistics_of(1))
        found = restyle(maps, FRAMES, own, wanted).unflatten(0, (CLIPS, FRAMES))
        scale = (wanted.log_deviation - own.log_deviation).exp()[..., None, None]
        before = maps.unflatten(0, (CLIPS, FRAMES))
        torch.testing.assert_close(
            found[:, 1] - found[:, 0], scale * (before[:, 1] - before[:, 0]), rtol=1e-4, atol=1e-5
        )


def test_mixing_moves_the_mean_linearly_and_the_deviation_by_equal_factors():
    own = ChannelStatistics(torch.tensor([[1.0]]), torch.tensor([[4.0]]).log())
    other = ChannelStatistics(torch.tensor([[3.0]]), torch.tensor([[16.0]]).log())
    half = own.mixed(other, torch.tensor([0.5]))
    assert half.mean.item() == 2 and half.log_deviation.exp().item() == pytest.approx(8)
    whole = own.mixed(other, torch.ones(1))
    assert whole.mean.item() == 3 and whole.log_deviation.exp().item() == pytest.approx(16)


def test_a_dead_channel_is_safe():
    maps = maps_of()
    maps[:, 0] = 0
    own = clip_statistics(maps, FRAMES)
    others = own.of(torch.tensor([1, 2, 0])).moved(*statistics_of(2, size=3.0))
    found = restyle(maps, FRAMES, own, others)
    assert found.isfinite().all()


def test_the_gradient_is_that_of_a_scale_and_a_shift_where_the_floor_is_not_reached():
    maps = maps_of().requires_grad_(True)
    own = clip_statistics(maps, FRAMES)
    wanted = own.moved(*statistics_of(1))
    found = restyle(maps, FRAMES, own, wanted)
    weights = maps_of(seed=3)
    (gradient,) = torch.autograd.grad((found * weights).sum(), maps)
    scale = (wanted.log_deviation - own.log_deviation).exp().repeat_interleave(FRAMES, 0)
    expected = weights * scale[..., None, None] * (found > 0)
    torch.testing.assert_close(gradient, expected)
    unchanged = restyle(maps, FRAMES, own, own)
    (gradient,) = torch.autograd.grad((unchanged * weights).sum(), maps)
    assert torch.equal(gradient, weights), "also of the cells at 0"


def losses_of_clips(maps):
    """A loss with a bend in every cell, one value per clip, in float64."""
    weights = maps_of(seed=5).double() - 0.5
    return (
        (weights * maps.double() + 0.1 * maps.double().square())
        .flatten(1)
        .sum(1)
        .view(CLIPS, FRAMES)
        .sum(1)
    )


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), shift=st.sampled_from([0.0, 1.0, 9.0, -1.0]))
def test_slopes_tell_what_a_small_step_changes_also_at_the_floor(seed, shift):
    maps = maps_of(seed, shift)
    maps = torch.where(maps > 0.05, maps, 0)  # what is nearer to the floor reaches it in the step
    own = clip_statistics(maps, FRAMES)
    point = maps.clone().requires_grad_(True)
    (gradient,) = torch.autograd.grad(losses_of_clips(point).sum(), point)
    slopes = loss_slopes(gradient, maps, FRAMES, own)
    way = statistics_of(seed + 1, size=1.0)
    step = 1e-3
    stepped = restyle(maps, FRAMES, own, own.moved(*(step * part for part in way)))
    measured = (losses_of_clips(stepped) - losses_of_clips(maps)) / step
    predicted = slopes.change(*way).sum(dim=1).double()
    scale = gradient.abs().sum().item()
    torch.testing.assert_close(predicted, measured, rtol=0, atol=3e-3 * scale)


def test_away_from_the_floor_slopes_are_the_gradient_of_mean_and_log_deviation():
    maps = maps_of(shift=9.0)
    own = clip_statistics(maps, FRAMES)
    mean, log_deviation = (part.clone().requires_grad_(True) for part in own)

    def frames(values):
        return values.repeat_interleave(FRAMES, 0)[..., None, None]

    centered = (maps - frames(own.mean)) * frames((log_deviation - own.log_deviation).exp())
    moved = centered + frames(mean)
    expected = torch.autograd.grad(losses_of_clips(moved).sum(), [mean, log_deviation])
    point = maps.clone().requires_grad_(True)
    (gradient,) = torch.autograd.grad(losses_of_clips(point).sum(), point)
    slopes = loss_slopes(gradient, maps, FRAMES, own)
    torch.testing.assert_close(slopes.mean, expected[0], rtol=1e-4, atol=1e-3)
    torch.testing.assert_close(slopes.log_deviation, expected[1], rtol=1e-3, atol=1e-3)


@given(st.lists(st.integers(0, 3), min_size=1, max_size=9))
def test_within_person_deviation_equals_a_loop_over_people(persons):
    values = torch.randn(len(persons), 4, generator=torch.Generator().manual_seed(len(persons)))
    groups = [values[[p == q for q in persons]].double() for p in set(persons)]
    squares = sum(((group - group.mean(0)) ** 2).sum(0) for group in groups)
    freedom = sum(len(group) - 1 for group in groups)
    expected = (squares / freedom).sqrt() if freedom else torch.zeros(4)
    found = within_person_deviation(values, torch.tensor(persons))
    torch.testing.assert_close(found.double(), expected.double(), rtol=1e-4, atol=1e-5)


def test_what_lies_between_people_is_not_within_a_person():
    persons = torch.tensor([0, 0, 1, 1])
    values = torch.tensor([[1.0], [3], [101], [103]])
    assert within_person_deviation(values, persons).item() == pytest.approx(2**0.5)
