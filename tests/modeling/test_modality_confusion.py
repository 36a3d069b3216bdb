"""On features as real ones are: a large common mean, an offset of the modality, small rests."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from plugins.modeling.losses import ModalityConfusion
from tests.helpers.small_models import small_cfg

DIM = 16


def draws(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def inputs(clips=64, seed=1):
    """Inputs of an encoder (B, D), 20 from the origin, whose modalities are 1 apart; modalities."""
    modalities = torch.arange(clips) % 2
    offset = F.normalize(draws(DIM, seed=9), dim=0)
    features = 20 * F.normalize(torch.ones(DIM), dim=0) + 0.3 * draws(clips, DIM, seed=seed)
    return features + modalities[:, None] * offset, modalities


def told_by_a_probe(features, modalities):
    """Accuracy of a linear classifier of the modality, trained anew on half of the clips."""
    features = features.detach() - features.detach().mean(dim=0)
    half = len(features) // 2
    probe = nn.Linear(DIM, 2)
    optimizer = torch.optim.Adam(probe.parameters(), lr=0.05)
    for _ in range(200):
        optimizer.zero_grad()
        F.cross_entropy(probe(features[:half]), modalities[:half]).backward()
        optimizer.step()
    return (probe(features[half:]).argmax(dim=1) == modalities[half:]).float().mean().item()


def build():
    torch.manual_seed(0)
    return ModalityConfusion(small_cfg("MODEL.BACKBONE.FEAT_DIM", DIM))


@pytest.mark.slow
def test_features_that_learn_to_confuse_no_longer_tell_the_modality():
    accuracies = {}
    for weight in (0.0, 1.0):
        loss = build()
        torch.manual_seed(1)
        encoder = nn.Linear(DIM, DIM)
        nn.init.eye_(encoder.weight)
        optimizer = torch.optim.Adam([*encoder.parameters(), *loss.parameters()], lr=0.01)
        for step in range(300):
            batch, modalities = inputs(seed=step)
            features = encoder(batch)
            kept = (features - batch).square().mean()  # what identity asks for
            optimizer.zero_grad()
            confusion = loss({"features": features}, None, modalities)
            (kept + weight * confusion).backward()
            optimizer.step()
        batch, modalities = inputs(clips=400, seed=1000)
        accuracies[weight] = told_by_a_probe(encoder(batch), modalities)
    assert accuracies[0.0] > 0.9
    assert accuracies[1.0] < 0.7


def test_the_value_is_the_classifiers_cross_entropy_and_the_gap_to_the_uniform_distribution():
    loss, (features, modalities) = build(), inputs()
    centered = features - features.mean(dim=0)
    logits = loss.classifier(centered / centered.square().mean().sqrt())
    gap = F.kl_div(logits.log_softmax(dim=1), torch.full_like(logits, 0.5), reduction="batchmean")
    expected = loss.scale * (F.cross_entropy(logits, modalities) + gap)
    torch.testing.assert_close(loss({"features": features}, None, modalities), expected)


def test_each_side_learns_from_its_own_term_alone():
    loss, (features, modalities) = build(), inputs()
    features.requires_grad_()
    loss({"features": features}, None, modalities).backward()
    found = [weight.grad.clone() for weight in loss.parameters()]
    found_features = features.grad.clone()
    loss.zero_grad()
    features.grad = None
    centered = features - features.detach().mean(dim=0)
    standard = centered / centered.detach().square().mean().sqrt()
    told = loss.scale * F.cross_entropy(loss.classifier(standard.detach()), modalities)
    for gradient, weight in zip(
        found, torch.autograd.grad(told, list(loss.parameters())), strict=True
    ):
        torch.testing.assert_close(gradient, weight)
    gap = -loss.classifier(standard).log_softmax(dim=1).mean() - math.log(2)
    (of_features,) = torch.autograd.grad(loss.scale * gap, features)
    torch.testing.assert_close(found_features, of_features)


@pytest.mark.parametrize("modality", [0, 1])
def test_a_batch_of_one_modality_or_of_one_clip_is_finite(modality):
    loss, (features, _) = build(), inputs(clips=3)
    for rows in (features, features[:1]):
        value = loss({"features": rows}, None, torch.full((len(rows),), modality))
        assert value.isfinite()


@pytest.mark.parametrize(("side", "length"), [("before", 16), ("after", 6)])
def test_the_classifier_reads_features_of_the_side_of_the_neck_that_losses_see(side, length):
    opts = ("MODEL.BACKBONE.FEAT_DIM", DIM, "MODEL.HEADS.EMBEDDING_DIM", 6)
    loss = ModalityConfusion(small_cfg(*opts, "MODEL.HEADS.NECK_FEAT", side))
    assert loss.classifier[0].in_features == length
