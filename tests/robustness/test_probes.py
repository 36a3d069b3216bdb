"""A patch, another light, a smaller gallery, the budget of the other norm."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from plugins.attacks import Recipe, ThreatModel
from plugins.attacks.objectives import rank_margin
from plugins.attacks.per_query import RankMargin
from plugins.robustness.probes import (
    MAX_FACTOR,
    IlluminationShift,
    Patch,
    SmallGallery,
    equal_volume_radius,
    square_mask,
)
from tests.helpers.attack_toys import clips, features_of, guides_of
from tests.helpers.retrieval_toys import guides_of as drawn_guides

RECIPE = Recipe("apgd", steps=10, random_start=True)


def test_the_balls_have_the_same_volume():
    # The square of side 6 and the cube of side 2, by the formulas of school.
    assert math.pi * equal_volume_radius(3.0, 2) ** 2 == pytest.approx(36)
    assert 4 / 3 * math.pi * equal_volume_radius(1.0, 3) ** 3 == pytest.approx(8)
    many = 3 * 256 * 128
    assert equal_volume_radius(8.0, many) / (8 * math.sqrt(many)) == pytest.approx(
        math.sqrt(2 / (math.pi * math.e)), rel=1e-4
    )


@pytest.mark.parametrize("infrared", ["free", "tied"])
def test_a_patch_changes_its_square_only_and_beats_the_clean_images(infrared):
    batch = clips()
    guides = guides_of(batch)
    outcome = Patch(RECIPE, infrared=infrared).run(features_of, batch, guides)
    delta = outcome.batch["images"] - batch["images"]
    mask = square_mask(*delta.shape[-2:]).bool()
    assert mask.sum() == 1 and (delta[..., ~mask] == 0).all()
    assert delta.abs().max() > 30  # the square has no other budget than the range of pixels
    assert outcome.batch["images"].min() >= 0 and outcome.batch["images"].max() <= 255
    assert (outcome.margin >= rank_margin(guides.clean, guides)).all()
    if infrared == "tied":
        tied = delta[batch["modalities"] == 1]
        torch.testing.assert_close(tied, tied[:, :, :1].expand_as(tied), atol=1e-3, rtol=0)


@pytest.mark.parametrize(("height", "width", "side"), [(64, 32, 10), (4, 2, 1), (30, 2, 2)])
def test_the_square_is_in_the_middle_and_covers_a_twentieth(height, width, side):
    mask = square_mask(height, width)
    assert mask.sum() == side**2
    above, left = (mask.any(dim=axis).nonzero().min() for axis in (1, 0))
    below, right = (mask.any(dim=axis).nonzero().max() for axis in (1, 0))
    assert 0 <= (height - 1 - below) - above <= 1 and 0 <= (width - 1 - right) - left <= 1


def test_a_light_multiplies_channels_and_the_worst_is_kept():
    batch = clips()
    batch["images"] = batch["images"] / 2  # so that nothing is clipped
    guides = guides_of(batch)
    margins = []
    for draws in (0, 1, 8):
        outcome = IlluminationShift(draws).run(features_of, batch, guides)
        margins.append(outcome.margin)
    assert torch.equal(margins[0], rank_margin(guides.clean, guides))
    assert (margins[1] >= margins[0]).all() and (margins[2] >= margins[1]).all()
    assert (margins[2] > margins[0]).any() and not outcome.zero_gradient.any()
    factors = (outcome.batch["images"] / batch["images"]).transpose(1, 2).flatten(2)  # (B, 3, P)
    torch.testing.assert_close(factors, factors[..., :1].expand_as(factors))
    assert factors.min() >= 1 / MAX_FACTOR and factors.max() <= MAX_FACTOR
    infrared = factors[batch["modalities"] == 1]
    torch.testing.assert_close(infrared, infrared[:, :1].expand_as(infrared))
    assert not torch.allclose(factors, factors[:, :1].expand_as(factors))


@pytest.mark.slow
@given(seed=st.integers(0, 2**20))
def test_a_smaller_gallery_keeps_the_positives_and_a_share_of_the_others(seed):
    features, guides = drawn_guides(seed=seed)
    attack = RankMargin(ThreatModel(), RECIPE, seed)
    rows = torch.arange(len(features))
    half, quarter = (SmallGallery(attack, share).set_target(guides, rows) for share in (0.5, 0.25))
    for small in (half, quarter):
        assert torch.equal(small.positives, guides.positives)
        assert not (small.valid & ~guides.valid).any()
    assert not (quarter.negatives & ~half.negatives).any()
    whole = SmallGallery(attack, 1.0).set_target(guides, rows)
    assert torch.equal(whole.valid, guides.valid)
    # Fewer others never make Rank-1 fail where it did not.
    some = half.negatives.any(dim=1) & half.positives.any(dim=1)
    gaps = rank_margin(features, half) - rank_margin(features, guides)
    assert (gaps[some] <= 0).all()


@pytest.mark.slow
def test_half_of_many_is_about_half():
    _, guides = drawn_guides(items=4000)
    attack = SmallGallery(RankMargin(ThreatModel(), RECIPE), 0.5)
    kept = attack.set_target(guides, torch.arange(6)).negatives.sum() / guides.negatives.sum()
    assert float(kept) == pytest.approx(0.5, abs=0.05)
