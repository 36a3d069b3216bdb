import pytest
import torch

from plugins.errors import InputError
from plugins.modeling.style_variation import StyleVariation, style_factors
from tests.helpers.small_models import small_cfg

MODALITIES = torch.tensor([0, 1, 0, 1])


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def clips(count=4, frames=3):
    return torch.randn(count, frames, 3, 5, 4, generator=seeded(1))


def test_factors_are_uniform_free_in_visible_clips_and_one_in_infrared_ones():
    modalities = torch.arange(4000) % 2
    factors = style_factors(modalities, 0.5, 1.5, generator=seeded())
    visible, infrared = factors[modalities == 0], factors[modalities == 1]
    assert torch.equal(infrared, infrared[:, :1].expand_as(infrared))
    assert torch.corrcoef(visible.T).fill_diagonal_(0).abs().max() < 0.1
    for drawn in (visible.flatten(), infrared[:, 0]):
        assert drawn.min() >= 0.5
        assert drawn.max() <= 1.5
        deciles = drawn.quantile(torch.linspace(0, 1, 11))
        torch.testing.assert_close(deciles, torch.linspace(0.5, 1.5, 11), atol=0.04, rtol=0)


def test_a_clip_is_changed_with_the_probability_that_is_set():
    factors = style_factors(torch.arange(2000) % 2, 0.5, 1.5, 0.3, generator=seeded())
    changed = (factors != 1).any(dim=1)
    assert changed.float().mean().item() == pytest.approx(0.3, abs=0.04)
    assert (style_factors(MODALITIES, 0.5, 1.5, 0.0) == 1).all()


def test_training_multiplies_all_frames_of_a_clip_by_the_factors_of_its_channels():
    variation, normalized = StyleVariation(low=0.5, high=1.5, probability=1.0), clips()
    torch.manual_seed(3)
    varied = variation(normalized, MODALITIES)
    torch.manual_seed(3)
    factors = style_factors(MODALITIES, 0.5, 1.5)
    for clip in range(4):
        for frame in range(3):
            for channel in range(3):
                by_hand = normalized[clip, frame, channel] * factors[clip, channel]
                assert torch.equal(varied[clip, frame, channel], by_hand)
    assert len(factors.unique(dim=0)) == 4


def test_evaluation_is_the_identity_and_draws_nothing():
    variation, normalized = StyleVariation(low=0.5, high=1.5, probability=1.0).eval(), clips()
    state = torch.get_rng_state()
    assert variation(normalized, MODALITIES) is normalized
    assert torch.equal(torch.get_rng_state(), state)


def test_the_draws_of_a_clip_do_not_depend_on_the_modalities_beside_it():
    alone = style_factors(torch.zeros(4).long(), 0.5, 1.5, generator=seeded())
    mixed = style_factors(MODALITIES, 0.5, 1.5, generator=seeded())
    assert torch.equal(alone[[0, 2]], mixed[[0, 2]])


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("RANGE", "[1.5, 0.5]"),
        ("RANGE", "[0.0, 1.0]"),
        ("RANGE", "[1.0]"),
        ("PROB", "1.5"),
        ("PROB", "-0.1"),
    ],
)
def test_a_range_or_probability_that_there_is_not_is_refused_by_its_key(key, value):
    with pytest.raises(InputError, match=rf"^INPUT\.STYLE_VARIATION\.{key}: "):
        StyleVariation(small_cfg(f"INPUT.STYLE_VARIATION.{key}", value))
