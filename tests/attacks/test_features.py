"""The model as attacks see it: the evaluator's features, and nothing left behind."""

import copy
import random
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from fastreid.evaluation import inference_on_dataset

from plugins.attacks import Adapter, attacking
from plugins.compat import protect_input
from plugins.evaluation import VVIEvaluator
from plugins.evaluation.views import viewed
from plugins.protocol import Direction, Trial
from tests.helpers.attack_models import (
    QUICK,
    batch_for,
    built,
    differing_entries,
    everything,
)
from tests.helpers.small_models import copied


def ranked(model, cfg, batch):
    """The features that the evaluator ranks, by the way that the trainer takes."""
    number = int(batch["rows"].max()) + 1
    halves = np.split(np.arange(number), 2)
    data = SimpleNamespace(
        query=halves[0],
        gallery=halves[1],
        directions=lambda: {"Q2G": Direction((Trial(*halves),))},
    )
    evaluator = VVIEvaluator(cfg, data)
    model = protect_input(copy.deepcopy(model))
    wrapped = viewed(model, cfg)
    loader = torch.utils.data.DataLoader([copied(batch)], batch_size=None)
    inference_on_dataset(wrapped, loader, evaluator)
    return evaluator.collected.features


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "flip", "clips", "metric"),
    [
        *[
            (name, flip, clips, "cosine")
            for name in QUICK
            for flip in (False, True)
            for clips in (1, 2)
        ],
        *[(name, True, 2, "euclidean") for name in QUICK],
        ("MGN", False, 1, "cosine"),
    ],
)
def test_features_are_those_that_the_evaluator_ranks(name, flip, clips, metric):
    options = {"TEST.FLIP.ENABLED": flip, "TEST.CLIPS": clips, "TEST.METRIC": metric}
    model, cfg = built(name, *(word for pair in options.items() for word in pair))
    batch = batch_for(name, clips)
    expected = ranked(model, cfg, batch)
    features = Adapter(model, cfg).features(batch)
    assert features.requires_grad is False and features.shape == expected.shape
    torch.testing.assert_close(features, expected, atol=1e-6, rtol=1e-5)
    batch["images"].requires_grad_()
    attacked = Adapter(model, cfg).features(batch)
    torch.testing.assert_close(attacked.detach(), expected, atol=1e-6, rtol=1e-5)
    (gradient,) = torch.autograd.grad(attacked[0, 0], batch["images"])
    reached = gradient.flatten(1).abs().amax(dim=1) > 0
    assert torch.equal(reached, batch["rows"] == 0)


# The temporal parts compute in float32, where a small step drowns in rounding; the features of an
# image bend within a large one.
@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "dtype", "reach"),
    [(name, torch.float32, 0.5) for name in QUICK if name != "Baseline"]
    + [("Baseline", torch.float64, 0.02)],
)
def test_the_gradient_is_the_slope_along_random_directions(name, dtype, reach):
    model, cfg = built(name)
    adapter, batch = Adapter(model.to(dtype), cfg), batch_for(name)
    generator = torch.Generator().manual_seed(0)
    images = batch["images"].to(dtype).requires_grad_()
    shape = adapter({**batch, "images": images}).shape
    weights = torch.randn(shape, generator=generator)

    def value(images):
        return (adapter({**batch, "images": images}) * weights).double().sum()

    (gradient,) = torch.autograd.grad(value(images), images)
    for _ in range(5):
        direction = torch.randn(images.shape, generator=generator).sign() * gradient.abs()
        step = reach * direction / direction.abs().max()
        with torch.no_grad():
            rise = (value(images + step) - value(images - step)).item()
        assert rise == pytest.approx(2 * (gradient * step).sum().item(), rel=0.05, abs=4e-4 * reach)


def test_several_batches_give_the_features_of_one():
    model, cfg = built("VVIBaseline", "TEST.CLIPS", 2)
    batch = batch_for("VVIBaseline", clips=2)
    whole = Adapter(model, cfg)(batch)
    halves = [
        Adapter(model, cfg)({k: v[part] for k, v in batch.items()})
        for part in (slice(0, 4), slice(4, 8))
    ]
    torch.testing.assert_close(torch.cat(halves), whole, atol=1e-6, rtol=1e-5)


class Interruption(Exception):
    pass


@pytest.mark.parametrize("interrupted", [False, True])
def test_the_model_is_left_as_it_was_found(interrupted):
    model, cfg = built("Baseline")
    model.heads.eval()  # a mode of each kind
    model.backbone.conv1.weight.requires_grad_(False)
    model.heads.weight.grad = torch.ones_like(model.heads.weight)
    batch = batch_for("Baseline")
    clean, before = copied(batch), everything(model)
    try:
        with attacking(model):
            assert not any(module.training for module in model.modules())
            assert not any(parameter.requires_grad for parameter in model.parameters())
            Adapter(model, cfg)(batch)
            model.backbone.bn1.running_mean += 1
            torch.rand(3), np.random.rand(3), random.random()
            if interrupted:
                raise Interruption
    except Interruption:
        pass
    assert everything(model) == before
    assert differing_entries(clean, batch) == []


def test_statistics_of_the_batch_are_not_used_while_the_images_are_made():
    model, cfg = built("VVIBaseline")
    batch = batch_for("VVIBaseline")
    alone = {key: value[:1] for key, value in batch.items()}
    together = Adapter(model.train(), cfg)(batch)[:1]
    torch.testing.assert_close(Adapter(model.train(), cfg)(alone), together, atol=1e-6, rtol=1e-5)


@pytest.mark.slow
def test_no_gradient_of_a_parameter_is_allocated_or_followed():
    model, cfg = built("VVIBaseline")
    batch = batch_for("VVIBaseline")
    features = Adapter(model, cfg)({**batch, "images": batch["images"].requires_grad_()})
    leaves, waiting = set(), [features.grad_fn]
    while waiting:
        node = waiting.pop()
        if hasattr(node, "variable"):
            leaves.add(node.variable.data_ptr())
        waiting += [parent for parent, _ in node.next_functions if parent is not None]
    parameters = {parameter.data_ptr() for parameter in model.parameters()}
    assert len(leaves) == 1 and not leaves & parameters
