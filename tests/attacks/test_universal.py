from itertools import chain, repeat

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from plugins.attacks.guides import Guides
from plugins.attacks.objectives import farthest_negative, nearest_push_pull, self_metric
from plugins.attacks.universal import (
    UniversalRecipe,
    add_delta,
    alternate,
    cmps,
    muap,
    uap,
    universal_delta,
)

MEAN, STD = 120.0, 58.0


def features_of(batch):
    """A fixed linear map of normalized pixels, mean over the frames."""
    images = batch["images"]
    frames = images if images.dim() == 5 else images[:, None]
    generator = torch.Generator().manual_seed(0)
    weights = torch.randn(frames[0, 0].numel(), 6, generator=generator)
    return ((frames - MEAN) / STD).mean(dim=1).flatten(1) @ weights


def guided_batch(seed, clips=True, modality=0, rows=8):
    """A (batch, guides) of 4 people; an infrared batch is gray and guided by visible features."""
    generator = torch.Generator().manual_seed(seed)
    shape = (rows, 3, 3, 8, 4) if clips else (rows, 3, 8, 4)
    pids = torch.arange(rows) % 4
    looks = 255 * torch.rand(4, *shape[1:], generator=torch.Generator().manual_seed(1))
    images = [
        (looks[pids] + 20 * torch.randn(shape, generator=generator)).clamp(0, 255) for _ in range(2)
    ]
    if modality:
        images[0] = images[0].mean(dim=-3, keepdim=True).expand(shape)
    batch = {"images": images[0], "modalities": torch.full((rows,), modality)}
    cameras = torch.zeros(rows), torch.ones(rows)
    guides = Guides.from_features(
        features_of(batch),
        features_of({"images": images[1]}),
        pids,
        pids,
        *cameras,
        metric="cosine",
    )
    return batch, guides


def some(count=12, **options):
    return [guided_batch(seed, **options) for seed in range(count)]


@settings(max_examples=40, deadline=None)
@given(
    eps=st.floats(0.5, 300),
    share=st.floats(0.05, 5),
    momentum=st.sampled_from([0.0, 1.0]),
    clips=st.booleans(),
    per_frame=st.booleans(),
)
def test_the_delta_stays_within_eps_and_the_images_in_range(eps, share, momentum, clips, per_frame):
    recipe = UniversalRecipe(eps, share * eps, momentum, gray=0.5, per_frame=per_frame)
    batches = some(2, clips=clips)

    delta = universal_delta(features_of, batches, self_metric, recipe, seed=0)

    assert delta.shape == ((3, 3, 8, 4) if clips and per_frame else (3, 8, 4))
    assert delta.abs().max() <= eps and not delta.requires_grad
    batch = batches[0][0]
    attacked = add_delta(batch, delta)["images"]
    assert attacked.min() >= 0 and attacked.max() <= 255
    assert (attacked - batch["images"]).abs().max() <= eps * (1 + 1e-6) + 1e-4


def test_the_budget_is_of_pixels_not_of_normalized_values():
    """A delta trained behind the normalisation moves pixels by eps / 58 only, or by 58 eps."""
    batches = some(1) * 20

    delta = universal_delta(features_of, batches, self_metric, uap(8.0), seed=0)

    moved = (add_delta(batches[0][0], delta)["images"] - batches[0][0]["images"]).abs()
    assert float(moved.median()) == pytest.approx(8, abs=0.1)


@pytest.mark.parametrize("recipe", [uap(8.0), muap(8.0), cmps(8.0)])
@pytest.mark.parametrize("objective", [self_metric, farthest_negative])
def test_one_delta_works_on_images_that_it_has_not_met(recipe, objective):
    delta = universal_delta(features_of, some(40), objective, recipe, seed=0)
    batch, guides = guided_batch(1000)
    noise = 8 * torch.randn(delta.shape, generator=torch.Generator().manual_seed(0)).sign()

    values = [
        objective(features_of(add_delta(batch, change)), guides).mean()
        for change in (torch.zeros(3, 8, 4), noise, delta)
    ]

    assert values[2] > values[1] + 0.02 and values[2] > values[0] + 0.02


def test_it_is_one_signed_step_a_batch():
    """Against the loop written out, with momentum over gradients of mean size 1."""
    batches = some(3)
    recipe = UniversalRecipe(eps=6.0, step_size=1.0, momentum=0.5)
    generator = torch.Generator().manual_seed(4)
    expected = 6 * (2 * torch.rand(3, 8, 4, generator=generator) - 1)
    kept = torch.zeros(3, 8, 4)
    for batch, guides in batches:
        expected.requires_grad_()
        images = (batch["images"] + expected).clamp(0, 255)
        self_metric(features_of({"images": images}), guides).sum().backward()
        kept = 0.5 * kept + expected.grad / expected.grad.abs().mean()
        expected = (expected.detach() + kept.sign()).clamp(-6, 6)

    torch.testing.assert_close(
        universal_delta(features_of, batches, self_metric, recipe, seed=4), expected
    )


def test_the_seed_decides_and_no_batch_is_edited():
    batches = some(4)
    before = [batch["images"].clone() for batch, _ in batches]

    first, again, other = (
        universal_delta(features_of, batches, self_metric, cmps(8.0), seed) for seed in (0, 0, 1)
    )

    assert torch.equal(first, again) and not torch.equal(first, other)
    for (batch, _), images in zip(batches, before, strict=True):
        assert torch.equal(batch["images"], images)


def test_cmps_takes_turns_and_misleads_both_modalities():
    visible, infrared = some(20), some(20, modality=1)
    towards_centroids = [
        [(batch, guides.centroids) for batch, guides in side] for side in (visible, infrared)
    ]
    batches = list(alternate(*towards_centroids))
    assert [int(batch["modalities"][0]) for batch, _ in batches] == [0, 1] * 20
    assert {guides.source for _, guides in batches} == {"centroids of gallery"}

    epochs = chain.from_iterable(repeat(batches, 3))
    delta = universal_delta(features_of, epochs, nearest_push_pull, cmps(8.0), seed=0)

    for batch, guides in (guided_batch(1000), guided_batch(1000, modality=1)):
        clean = nearest_push_pull(features_of(batch), guides)
        attacked = nearest_push_pull(features_of(add_delta(batch, delta)), guides)
        assert attacked.mean() > clean.mean()


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_rows_are_shown_grey_while_the_delta_is_sought(share):
    shown = []

    def watched(batch):
        shown.append(batch["images"].detach())
        return features_of(batch)

    batches = some(2)
    universal_delta(watched, batches, self_metric, UniversalRecipe(0.0, 0.0, gray=share), seed=0)

    for images, (batch, _) in zip(shown, batches, strict=True):
        assert torch.equal(images, images[:, :, :1].expand_as(images)) == bool(share)
        assert torch.equal(images, batch["images"]) != bool(share)


def test_recipes_have_the_published_steps():
    assert (uap(8.0).step_size, uap(8.0).momentum) == (0.8, 0.0)
    assert (muap(8.0).step_size, muap(8.0).momentum) == (0.8, 1.0)
    assert (cmps(12.0).step_size, cmps(12.0).gray, cmps(12.0).momentum) == (1.0, 0.2, 1.0)


def test_no_batch_is_an_error():
    with pytest.raises(AssertionError, match="no batch"):
        universal_delta(features_of, [], self_metric, uap(8.0), seed=0)
