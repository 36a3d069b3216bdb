import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from plugins.errors import InputError
from plugins.modeling.losses import build_losses
from plugins.modeling.losses.functional import (
    confusion_loss,
    consistency_loss,
    cross_modal_triplet,
    mean_hinge,
    pairwise_distances,
    reversed_triplet,
)
from plugins.registry import LOSS, known
from tests.modeling.samples import small_cfg

KEYS = {
    "CircleLoss": "loss_circle",
    "Cosface": "loss_cosface",
    "CrossEntropyLoss": "loss_cls",
    "CrossModalTriplet": "loss_cross_modal_triplet",
    "TripletLoss": "loss_triplet",
}
SECTIONS = {
    "CircleLoss": "CIRCLE",
    "Cosface": "COSFACE",
    "CrossEntropyLoss": "CE",
    "CrossModalTriplet": "CROSS_MODAL_TRI",
    "TripletLoss": "TRI",
}


def outputs_of(count=8, seed=0):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(count, 4, generator=generator)
    return {
        "cls_outputs": logits.clone().requires_grad_(),
        "pred_class_logits": logits,
        "features": torch.randn(count, 5, generator=generator).requires_grad_(),
    }


TARGETS = torch.tensor([0, 1, 2, 3, 0, 1, 2, 3])
MODALITIES = torch.tensor([0, 0, 0, 0, 1, 1, 1, 1])


@pytest.mark.parametrize("name", known(LOSS))
def test_every_loss_is_a_scalar_with_a_finite_gradient(name):
    loss = LOSS.get(name)(small_cfg())
    outputs = outputs_of()
    value = loss(outputs, TARGETS, MODALITIES)
    value.backward()
    gradients = [v.grad for v in outputs.values() if v.grad is not None]
    assert value.shape == ()
    assert loss.key == KEYS[name]
    assert len(gradients) == 1
    assert gradients[0].isfinite().all()
    assert gradients[0].abs().sum() > 0


@pytest.mark.parametrize("name", known(LOSS))
def test_every_loss_is_weighted_by_its_scale(name):
    plain = LOSS.get(name)(small_cfg())
    tripled = LOSS.get(name)(small_cfg(f"MODEL.LOSSES.{SECTIONS[name]}.SCALE", 3.0))
    outputs = outputs_of()
    torch.testing.assert_close(
        tripled(outputs, TARGETS, MODALITIES), 3 * plain(outputs, TARGETS, MODALITIES)
    )


@pytest.mark.parametrize("name", known(LOSS))
def test_identical_features_and_single_modalities_have_finite_gradients(name):
    loss = LOSS.get(name)(small_cfg())
    outputs = outputs_of()
    outputs["features"] = torch.ones(8, 5, requires_grad=True)
    for modalities in (MODALITIES, torch.zeros(8).long()):
        value = loss(outputs, TARGETS, modalities)
        value.backward()
        assert value.isfinite()
    for value in outputs.values():
        assert value.grad is None or value.grad.isfinite().all()


def test_losses_are_built_in_the_order_of_the_config():
    cfg = small_cfg("MODEL.LOSSES.NAME", "('TripletLoss', 'CrossEntropyLoss')")
    assert [loss.key for loss in build_losses(cfg)] == ["loss_triplet", "loss_cls"]


def test_an_unknown_loss_lists_the_known_ones_nearest_first():
    cfg = small_cfg("MODEL.LOSSES.NAME", "('TripleLoss',)")
    with pytest.raises(InputError, match=r"MODEL.LOSSES.NAME: .*'TripleLoss'; known: TripletLoss"):
        build_losses(cfg)


def test_cross_entropy_equals_torchs_with_its_own_smoothing():
    # fastreid spreads epsilon over the other classes only, torch over all of them.
    loss = LOSS.get("CrossEntropyLoss")(small_cfg("MODEL.LOSSES.CE.EPSILON", 0.3))
    outputs = outputs_of()
    torchs = torch.nn.functional.cross_entropy(
        outputs["cls_outputs"], TARGETS, label_smoothing=0.3 * 4 / 3
    )
    torch.testing.assert_close(loss(outputs, TARGETS, MODALITIES), torchs)


def test_hard_triplet_equals_a_loop_over_all_pairs():
    cfg = small_cfg("MODEL.LOSSES.TRI.HARD_MINING", True)
    outputs = outputs_of()
    features = outputs["features"].detach().double()
    hinges = []
    for i in range(8):
        distances = [(features[i] - features[j]).norm().item() for j in range(8)]
        farthest = max(distances[j] for j in range(8) if TARGETS[j] == TARGETS[i])
        nearest = min(distances[j] for j in range(8) if TARGETS[j] != TARGETS[i])
        hinges.append(max(0.0, 0.3 + farthest - nearest))
    value = LOSS.get("TripletLoss")(cfg)(outputs, TARGETS, MODALITIES)
    assert value.item() == pytest.approx(sum(hinges) / 8, rel=1e-4)


def slow_cross_modal_triplet(features, targets, modalities, margin):
    hinges = []
    for i in range(len(features)):
        across = [j for j in range(len(features)) if modalities[j] != modalities[i]]
        positives = [j for j in across if targets[j] == targets[i]]
        negatives = [j for j in across if targets[j] != targets[i]]
        if positives and negatives:
            farthest = max((features[i] - features[j]).norm().item() for j in positives)
            nearest = min((features[i] - features[j]).norm().item() for j in negatives)
            hinges.append(max(0.0, margin + farthest - nearest))
    return sum(hinges) / len(hinges) if hinges else 0.0


@settings(max_examples=40, deadline=None)
@given(
    labels=st.lists(st.tuples(st.integers(0, 2), st.integers(0, 1)), min_size=1, max_size=7),
    seed=st.integers(0, 1000),
    margin=st.floats(0, 2),
)
def test_cross_modal_triplet_equals_a_loop_over_all_pairs(labels, seed, margin):
    targets, modalities = (torch.tensor(column) for column in zip(*labels, strict=True))
    features = torch.randn(len(labels), 3, generator=torch.Generator().manual_seed(seed))
    fast = cross_modal_triplet(features, targets, modalities, margin)
    slow = slow_cross_modal_triplet(features.double(), targets, modalities, margin)
    assert fast.item() == pytest.approx(slow, rel=1e-4, abs=1e-5)


@pytest.mark.parametrize(
    ("targets", "modalities"),
    [([0, 0, 1], [0, 0, 0]), ([0, 1], [0, 1]), ([0, 0], [0, 1]), ([0], [1])],
    ids=["one modality", "no positive", "no negative", "one clip"],
)
def test_cross_modal_triplet_without_pairs_is_a_zero_that_carries_a_graph(targets, modalities):
    features = torch.randn(len(targets), 3, requires_grad=True)
    loss = cross_modal_triplet(features, torch.tensor(targets), torch.tensor(modalities), 0.3)
    loss.backward()
    assert loss.item() == 0
    assert torch.equal(features.grad, torch.zeros_like(features))


def test_cross_modal_triplet_does_not_hide_nan():
    features = torch.full((4, 2), torch.nan)
    loss = cross_modal_triplet(features, TARGETS[[0, 1, 4, 5]], MODALITIES[[0, 1, 4, 5]], 0.3)
    assert loss.isnan()


def test_distances_of_near_features_far_from_the_origin_are_exact():
    # The usual |a|^2 + |b|^2 - 2ab loses all digits here in float32.
    rows = torch.full((1, 2048), 100.0)
    columns = rows + torch.tensor([[1e-3]])
    expected = (rows.double() - columns.double()).norm().item()
    assert pairwise_distances(rows, columns).item() == pytest.approx(expected, rel=1e-4)


def test_mean_hinge_ignores_invalid_anchors_whatever_their_value():
    gaps = torch.tensor([2.0, -1.0, torch.inf, torch.nan], requires_grad=True)
    loss = mean_hinge(gaps, torch.tensor([True, True, False, False]))
    loss.backward()
    assert loss.item() == 1
    assert gaps.grad.tolist() == [0.5, 0, 0, 0]


def test_confusion_is_least_for_uniform_predictions():
    assert confusion_loss(torch.zeros(2, 5), 4.0).item() == pytest.approx(math.log(5))
    logits = torch.randn(3, 5)
    by_hand = -sum((row / 4).softmax(0).log().mean() for row in logits) / 3
    assert confusion_loss(logits, 4.0).item() == pytest.approx(by_hand.item())
    assert confusion_loss(logits, 4.0) > math.log(5)


def slow_reversed_triplet(features, guides, targets, margin):
    hinges = []
    for i in range(len(features)):
        distances = [(features[i] - guide).norm().item() for guide in guides]
        same = [d for j, d in enumerate(distances) if targets[j] == targets[i] and j != i]
        other = [d for j, d in enumerate(distances) if targets[j] != targets[i]]
        if same and other:
            hinges.append(max(0.0, margin + min(other) - min(same)))
    return sum(hinges) / len(hinges) if hinges else 0.0


@settings(max_examples=40, deadline=None)
@given(
    targets=st.lists(st.integers(0, 2), min_size=1, max_size=7),
    seed=st.integers(0, 1000),
    margin=st.floats(0, 2),
)
def test_reversed_triplet_equals_a_loop_over_all_pairs(targets, seed, margin):
    generator = torch.Generator().manual_seed(seed)
    features, guides = torch.randn(2, len(targets), 3, generator=generator)
    fast = reversed_triplet(features, guides, torch.tensor(targets), margin)
    slow = slow_reversed_triplet(features.double(), guides.double(), targets, margin)
    assert fast.item() == pytest.approx(slow, rel=1e-4, abs=1e-5)


def test_minimising_the_reversed_triplet_moves_towards_the_other_person():
    guides = torch.tensor([[0.0, 0.0], [0.0, 1.0], [3.0, 0.0]])
    features = guides.clone().requires_grad_()
    reversed_triplet(features, guides, torch.tensor([0, 0, 1]), 0.3).backward()
    step = -features.grad[0]
    assert step[0] > 0  # to the other person, at (3, 0)
    assert step[1] < 0  # away from the same person, at (0, 1)


@pytest.mark.parametrize("targets", [[0, 1, 2], [0, 0, 0], [0]])
def test_reversed_triplet_without_neighbours_is_a_zero_that_carries_a_graph(targets):
    features = torch.randn(len(targets), 3, requires_grad=True)
    loss = reversed_triplet(features, torch.randn(len(targets), 3), torch.tensor(targets), 0.3)
    loss.backward()
    assert loss.item() == 0
    assert torch.equal(features.grad, torch.zeros_like(features))


def test_consistency_teaches_only_the_attacked_prediction():
    clean = torch.randn(3, 4, requires_grad=True)
    attacked = torch.randn(3, 4, requires_grad=True)
    consistency_loss(clean, attacked).backward()
    assert clean.grad is None
    assert attacked.grad.abs().sum() > 0
    assert consistency_loss(clean, clean).item() == pytest.approx(0, abs=1e-6)
