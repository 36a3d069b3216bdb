import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize

from plugins.attacks.projections import row_norms, shrink, smooth, tighten, to_uint8, unit


def clips_of(number, frames, seed, scale=20.0):
    generator = torch.Generator().manual_seed(seed)
    return scale * torch.randn(number, frames, 3, 2, 2, generator=generator)


def test_norms_are_over_all_clips_of_a_row():
    clips, groups = clips_of(3, 2, seed=0), torch.tensor([1, 0, 1])
    for order in (1, 2):
        rows = [clips[1].flatten(), clips[[0, 2]].flatten()]
        expected = torch.stack([row.norm(order) for row in rows])
        torch.testing.assert_close(row_norms(clips, groups, 2, order), expected)
        torch.testing.assert_close(
            row_norms(unit(clips, groups, 2, order), groups, 2, order), torch.ones(2)
        )


def test_a_row_of_zeros_has_no_direction_and_stays_zero():
    zeros, groups = torch.zeros(2, 1, 3, 2, 2), torch.arange(2)
    assert torch.equal(unit(zeros, groups, 2, 2), zeros)
    assert torch.equal(shrink(zeros, groups, 2, 0.0), zeros)


def test_shrinking_leaves_what_is_inside_and_turns_nothing():
    clips, groups = clips_of(2, 1, seed=0), torch.arange(2)
    clips[1] *= 1e-3
    shrunk = shrink(clips, groups, 2, 5.0)
    torch.testing.assert_close(row_norms(shrunk, groups, 2, 2)[0], torch.tensor(5.0))
    assert torch.equal(shrunk[1], clips[1])
    torch.testing.assert_close(shrunk[0] / shrunk[0].norm(), clips[0] / clips[0].norm())


bounds = st.tuples(
    st.integers(1, 7), st.sampled_from([0.0, 0.5, 2.0, 30.0]), st.integers(0, 2**31 - 1)
)


def problem(frames, seed):
    clips = clips_of(1, frames, seed)
    generator = torch.Generator().manual_seed(seed + 1)
    low = -8 * torch.rand(clips.shape, generator=generator)
    high = 8 * torch.rand(clips.shape, generator=generator)
    return clips, low, high


@pytest.mark.slow
@settings(deadline=None, max_examples=100)
@given(bounds)
def test_smooth_clips_lie_within_the_bounds_and_close_to_each_other(drawn):
    frames, tau, seed = drawn
    clips, low, high = problem(frames, seed)
    found = smooth(clips, *tighten(low, high, tau), tau)
    assert (found >= low - 1e-5).all() and (found <= high + 1e-5).all()
    assert (found.diff(dim=1).abs() <= tau + 1e-5).all()
    again = smooth(found, *tighten(low, high, tau), tau)
    torch.testing.assert_close(again, found, atol=1e-4, rtol=0)


def test_smooth_clips_are_close_to_the_nearest_ones_of_a_general_solver():
    tau, steps = 2.0, np.diff(np.eye(6), axis=0)
    clips, low, high = problem(6, seed=3)
    found = smooth(clips, *tighten(low, high, tau), tau)
    for pixel in range(12):
        wanted = clips.flatten(2)[0].reshape(6, -1)[:, pixel].double().numpy()
        box = [b.reshape(6, -1)[:, pixel].double().numpy() for b in (low, high)]
        nearest = minimize(
            lambda x, y=wanted: ((x - y) ** 2).sum(),
            np.zeros(6),
            method="SLSQP",
            bounds=list(zip(*box, strict=True)),
            constraints=[
                {"type": "ineq", "fun": lambda x: tau - steps @ x},
                {"type": "ineq", "fun": lambda x: tau + steps @ x},
            ],
        )
        ours = np.linalg.norm(found.reshape(6, -1)[:, pixel].double().numpy() - wanted)
        assert ours <= 1.02 * np.sqrt(nearest.fun) + 1e-4


@pytest.mark.slow
def test_rounding_to_bytes_takes_no_pixel_further_away():
    generator = torch.Generator().manual_seed(0)
    clean = torch.randint(256, (1000,), generator=generator).float()
    images = (clean + 20 * torch.randn(1000, generator=generator)).clamp(0, 255)
    whole = to_uint8(images, clean)
    assert whole.dtype == torch.uint8
    assert ((whole.float() - clean).abs() <= (images - clean).abs()).all()
    assert ((whole.float() - images).abs() < 1).all()
