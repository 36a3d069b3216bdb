import io
from dataclasses import fields

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from plugins.attacks import PerturbationSet, ThreatModel
from plugins.attacks.projections import to_uint8
from plugins.config import setup_cfg
from plugins.errors import InputError
from tests.helpers.attack_toys import clips

# Rounding of float32 sums up to 255.
ROUNDING = 1e-4

threats = st.builds(
    ThreatModel,
    norm=st.sampled_from(["linf", "l2"]),
    eps=st.sampled_from([0.0, 0.5, 3.0, 8.0, 300.0]),
    frames=st.sampled_from(["dense", "shared", "sparse", "smooth"]),
    sparse_frames=st.integers(1, 4),
    smooth_tau=st.sampled_from([0.0, 1.0, 2.5]),
    infrared=st.sampled_from(["free", "tied"]),
)


def batch_of(seed, several):
    """4 clips in 4 rows, or in 2; white and black pixels among them."""
    batch = clips(people=2, seed=seed)
    images = batch["images"].clone()
    images[..., 0, :] = 255
    images[..., 1, :] = 0
    rows = torch.tensor([3, 4, 3, 4]) if several else batch["rows"]
    return {**batch, "images": images, "rows": rows}


def through_png(images):
    """uint8 clips written to a PNG file, one frame under the other, and read again."""
    file = io.BytesIO()
    sheet = images.permute(0, 1, 3, 4, 2).flatten(0, 2).numpy()
    Image.fromarray(sheet).save(file, format="png")
    clips, frames, _, height, width = images.shape
    read = torch.from_numpy(np.array(Image.open(file))).view(clips, frames, height, width, 3)
    return read.permute(0, 1, 4, 2, 3).float()


def assert_within(threat, region, images, rounding=ROUNDING):
    """The budget by hand, over lists of rows."""
    delta = images - region.clean
    assert images.min() >= 0 and images.max() <= 255
    if threat.norm == "linf":
        assert delta.abs().max() <= threat.eps + rounding
    else:
        for row in range(len(region.rows)):
            assert delta[region.groups == row].norm() <= threat.eps * (1 + 1e-5) + rounding


def assert_structured(threat, batch, region, images):
    delta = images - region.clean
    if threat.frames == "shared":
        assert (delta - delta[:, :1]).abs().max() <= ROUNDING
    if threat.frames == "smooth":
        assert (delta.diff(dim=1).abs() <= threat.smooth_tau + ROUNDING).all()
    if threat.frames == "sparse":
        touched = (delta.abs().amax(dim=(2, 3, 4)) > 0).sum(dim=1)
        assert (touched <= threat.sparse_frames).all()
    if threat.infrared == "tied":
        infrared = delta[batch["modalities"] == 1]
        assert (infrared - infrared[:, :, :1]).abs().max() <= ROUNDING


@pytest.mark.slow
@settings(deadline=None, max_examples=500)
@given(threats, st.integers(0, 2**31 - 1), st.booleans())
def test_every_point_lies_within_budget_and_range_also_as_a_png(threat, seed, several):
    batch = batch_of(seed % 100, several)
    region = PerturbationSet(threat, batch)
    generator = torch.Generator().manual_seed(seed)
    gradient = torch.randn(region.clean.shape, generator=generator)
    if not region.frames_selected:
        region = region.select_frames(gradient)
    far = region.clean + 40 * torch.randn(region.clean.shape, generator=generator)
    step = region.project(
        region.random_point(seed, 0) + threat.eps * region.steepest_direction(gradient)
    )
    for images in (region.random_point(seed, 1), region.project(far), step):
        assert_within(threat, region, images)
        assert_structured(threat, batch, region, images)
        torch.testing.assert_close(region.project(images), images, atol=5e-4, rtol=0)
        assert_within(threat, region, through_png(to_uint8(images, region.clean)))
    assert torch.equal(region.project(region.clean), region.clean)


@pytest.mark.parametrize("eps", [2.5, 8.0])
def test_linf_is_a_clamp(eps):
    batch = batch_of(0, False)
    region = PerturbationSet(ThreatModel(eps=eps), batch)
    far = batch["images"] + 30 * torch.randn(batch["images"].shape)
    expected = torch.minimum(torch.maximum(far, batch["images"] - eps), batch["images"] + eps)
    torch.testing.assert_close(region.project(far), expected.clamp(0, 255))


def test_pixels_are_clipped_to_0_and_255_not_to_the_range_of_the_batch():
    images = torch.full((1, 3, 2, 2), 100.0)
    images[..., 0] = 120
    region = PerturbationSet(ThreatModel(eps=8), {"images": images})
    assert region.project(region.clean + 50).max() == 128
    assert region.project(region.clean - 50).min() == 92


def test_normalized_images_are_refused():
    with pytest.raises(InputError, match=r"expected \[0, 255\], as they are before normalization"):
        PerturbationSet(ThreatModel(), {"images": torch.randn(2, 3, 4, 2)})


def test_images_are_clips_of_one_frame():
    assert PerturbationSet(ThreatModel(), {"images": torch.zeros(2, 3, 4, 2)}).clean.shape == (
        2,
        1,
        3,
        4,
        2,
    )


def test_tied_gradients_point_where_the_sum_over_channels_does():
    batch = batch_of(0, False)
    region = PerturbationSet(ThreatModel(infrared="tied"), batch)
    gradient = torch.randn(region.clean.shape)
    steps = region.steepest_direction(gradient)
    infrared = batch["modalities"] == 1
    expected = gradient[infrared].sum(dim=2, keepdim=True).sign().expand(-1, -1, 3, -1, -1)
    assert torch.equal(steps[infrared], expected)
    assert torch.equal(steps[~infrared], gradient[~infrared].sign())


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("frames", ["dense", "shared"])
@pytest.mark.parametrize("infrared", ["free", "tied"])
def test_no_direction_of_length_1_rises_more_than_the_steepest(norm, frames, infrared):
    region = PerturbationSet(ThreatModel(norm, 8.0, frames, infrared=infrared), batch_of(0, True))
    generator = torch.Generator().manual_seed(0)
    gradient = torch.randn(region.clean.shape, generator=generator)

    def rise(direction):
        rises = (gradient * direction).flatten(1).sum(dim=1)
        return torch.zeros(2).index_add(0, region.groups, rises)

    most = rise(region.steepest_direction(gradient))
    for _ in range(50):
        other = region.average_tied(torch.randn(region.clean.shape, generator=generator))
        other = (
            other.sign() if norm == "linf" else other / region.expand_rows(region.row_norms(other))
        )
        assert (rise(other) <= most + 1e-4).all()


def test_sparse_attacks_the_frames_with_the_largest_gradient():
    region = PerturbationSet(ThreatModel(frames="sparse", sparse_frames=2), batch_of(0, False))
    gradient = torch.ones_like(region.clean) * torch.tensor([3.0, 1.0, 2.0]).view(1, 3, 1, 1, 1)
    assert region.select_frames(gradient).frames.tolist() == [[True, False, True]] * 4


def test_given_frames_are_kept():
    frames = torch.tensor([[False, True, False]] * 4)
    region = PerturbationSet(ThreatModel(frames="sparse"), batch_of(0, False), frames)
    assert region.frames_selected
    moved = (region.random_point(0, 0) - region.clean).abs().amax(dim=(2, 3, 4)) > 0
    assert torch.equal(moved, frames)


def test_a_random_start_fills_the_budget_and_depends_on_row_seed_and_restart_alone():
    batch = batch_of(0, False)
    region = PerturbationSet(ThreatModel(eps=8), batch)
    start = region.random_point(5, 0)
    alone = PerturbationSet(ThreatModel(eps=8), {k: v[2:3] for k, v in batch.items()})
    assert torch.equal(alone.random_point(5, 0), start[2:3])
    assert not torch.equal(region.random_point(6, 0), start)
    assert not torch.equal(region.random_point(5, 1), start)
    inner = (batch["images"] > 8) & (batch["images"] < 247)
    delta = (start - batch["images"])[inner].abs()
    assert 3 < delta.mean() < 5  # of a uniform draw 4
    ball = (
        PerturbationSet(ThreatModel(norm="l2", eps=8), batch).random_point(5, 0) - batch["images"]
    )
    assert (ball.flatten(1).norm(dim=1) > 6).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"norm": "l1"}, "ATTACK.NORM: 'l1'; expected linf or l2"),
        ({"frames": "all"}, "ATTACK.FRAMES: 'all'; expected dense, shared, sparse or smooth"),
        ({"infrared": "gray"}, "ATTACK.INFRARED: 'gray'; expected free or tied"),
        ({"infrared": "access"}, "ATTACK.INFRARED: 'access'; expected free or tied"),
        ({"eps": -1.0}, "ATTACK.EPS: -1.0; expected 0 or more"),
        ({"eps": float("nan")}, "ATTACK.EPS: nan; expected a finite number"),
        ({"sparse_frames": 0}, "ATTACK.SPARSE_FRAMES: 0; expected 1 or more"),
        ({"smooth_tau": -0.5}, "ATTACK.SMOOTH_TAU: -0.5; expected 0 or more"),
    ],
)
def test_a_threat_that_does_not_exist_names_its_key(change, message):
    with pytest.raises(InputError, match=message):
        ThreatModel(**change)


def test_the_defaults_of_the_config_are_those_of_the_class():
    assert ThreatModel.from_config(setup_cfg()) == ThreatModel()
    assert {field.name.upper() for field in fields(ThreatModel)} <= set(setup_cfg().ATTACK)


@pytest.mark.parametrize(
    ("words", "infrared"),
    [
        ("", "free"),
        ("ATTACK.ACCESS files", "free"),
        ("ATTACK.ACCESS camera", "tied"),
        ("ATTACK.ACCESS camera ATTACK.INFRARED free", "free"),
        ("ATTACK.ACCESS files ATTACK.INFRARED tied", "tied"),
    ],
)
def test_what_the_attacker_reaches_decides_how_infrared_frames_change(words, infrared):
    assert ThreatModel.from_config(setup_cfg(opts=words.split())).infrared == infrared
