import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from plugins.modeling.losses.alignment import (
    center_alignment,
    cross_modal_alignment,
    separation,
    standardized,
)

# (person, modality) of each clip; often a person or a modality is missing.
LABELS = st.lists(st.tuples(st.integers(0, 2), st.integers(0, 1)), min_size=1, max_size=8)
LABELLED = [cross_modal_alignment, center_alignment]


def features_of(count, dim=5, seed=0):
    return torch.randn(count, dim, generator=torch.Generator().manual_seed(seed))


def columns(labels):
    return (torch.tensor(column) for column in zip(*labels, strict=True))


def slow_alignment(features, targets, modalities):
    """The equation, anchor by anchor."""
    means = []
    for modality in (0, 1):
        losses = []
        for i in range(len(features)):
            if modalities[i] != modality:
                continue
            distances = {True: [], False: []}
            for j in range(len(features)):
                if modalities[j] != modality:
                    cosine = F.cosine_similarity(features[i], features[j], dim=0).item()
                    distances[bool(targets[i] == targets[j])].append((1 - cosine) / 2)
            if distances[True] and distances[False]:
                p, n = (sum(d) / len(d) for d in (distances[True], distances[False]))
                losses.append(math.log(1 + math.exp(-(n - p))))
        if losses:
            means.append(sum(losses) / len(losses))
    return sum(means) / len(means) if means else 0.0


@settings(max_examples=60, deadline=None)
@given(labels=LABELS, seed=st.integers(0, 1000))
def test_alignment_equals_its_equation(labels, seed):
    targets, modalities = columns(labels)
    features = features_of(len(labels), seed=seed)
    found = cross_modal_alignment(features, targets, modalities)
    assert found.item() == pytest.approx(
        slow_alignment(features.double(), targets, modalities), abs=1e-5
    )


@settings(max_examples=30, deadline=None)
@given(labels=LABELS, seed=st.integers(0, 1000), scale=st.floats(0.01, 100))
def test_alignment_reads_directions_and_knows_no_order_of_rows_or_modalities(labels, seed, scale):
    targets, modalities = columns(labels)
    features = features_of(len(labels), seed=seed)
    value = cross_modal_alignment(features, targets, modalities)
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))
    shuffled = cross_modal_alignment(features[order], targets[order], modalities[order])
    torch.testing.assert_close(shuffled, value)
    torch.testing.assert_close(cross_modal_alignment(scale * features, targets, modalities), value)
    torch.testing.assert_close(cross_modal_alignment(features, targets, 1 - modalities), value)


def test_alignment_has_its_ends_where_people_coincide_or_are_swapped():
    targets, modalities = torch.tensor([0, 1, 0, 1]), torch.tensor([0, 0, 1, 1])
    together = torch.tensor([[1.0, 0], [-1, 0], [1, 0], [-1, 0]])
    aligned = cross_modal_alignment(together, targets, modalities)
    assert aligned.item() == pytest.approx(math.log(1 + math.exp(-1)))
    swapped = cross_modal_alignment(together[[0, 1, 3, 2]], targets, modalities)
    assert swapped.item() == pytest.approx(math.log(1 + math.e))


@pytest.mark.parametrize("loss", LABELLED)
@pytest.mark.parametrize(
    ("targets", "modalities"), [([0, 0, 1], [0, 0, 0]), ([0, 1], [0, 1]), ([0], [1])]
)
def test_without_pairs_across_modalities_it_is_a_zero_that_carries_a_graph(
    loss, targets, modalities
):
    features = features_of(len(targets)).requires_grad_()
    value = loss(features, torch.tensor(targets), torch.tensor(modalities))
    value.backward()
    assert value.item() == 0
    assert torch.equal(features.grad, torch.zeros_like(features))


@pytest.mark.parametrize("loss", LABELLED)
def test_an_update_brings_people_together_across_modalities(loss):
    """On features with the statistics of real ones: a large common mean, small differences."""
    targets, modalities = torch.arange(6).repeat(4), torch.arange(2).repeat_interleave(12)
    person, offset = features_of(6, 32, seed=1), features_of(2, 32, seed=2)
    features = 20 * F.normalize(torch.ones(32), dim=0) + person[targets] + offset[modalities]
    features = (features + 0.3 * features_of(24, 32, seed=3)).requires_grad_()

    def gap():
        distances = torch.cdist(features, features)
        across = modalities[:, None] != modalities
        same = targets[:, None] == targets
        return (distances[across & same].mean() / distances[across & ~same].mean()).item()

    before = gap()
    optimizer = torch.optim.Adam([features], lr=0.05)
    for _ in range(50):
        optimizer.zero_grad()
        loss(features, targets, modalities).backward()
        optimizer.step()
    assert gap() < before - 0.2


@pytest.mark.parametrize("loss", LABELLED)
def test_equal_and_vanishing_features_have_finite_gradients(loss):
    targets, modalities = torch.tensor([0, 1, 0, 1]), torch.tensor([0, 0, 1, 1])
    for features in (torch.ones(4, 3), torch.zeros(4, 3)):
        features.requires_grad_()
        loss(features, targets, modalities).backward()
        assert features.grad.isfinite().all()


@settings(max_examples=40, deadline=None)
@given(clips=st.integers(1, 4), frames=st.integers(1, 5), seed=st.integers(0, 1000))
def test_separation_is_the_mean_squared_cosine_of_different_vectors(clips, frames, seed):
    vectors = features_of(clips * frames, 4, seed).view(clips, frames, 4)
    squares = [
        F.cosine_similarity(vectors[b, i], vectors[b, j], dim=0).item() ** 2
        for b in range(clips)
        for i in range(frames)
        for j in range(frames)
        if i != j
    ]
    expected = sum(squares) / len(squares) if squares else 0.0
    assert separation(vectors).item() == pytest.approx(expected, abs=1e-5)


def test_separation_ends_at_orthogonal_and_at_equal_vectors():
    assert separation(torch.eye(4)[None]).item() == 0
    assert separation(torch.ones(2, 3, 5)).item() == pytest.approx(1)
    alone = torch.ones(2, 1, 5, requires_grad=True)
    separation(alone).backward()
    assert torch.equal(alone.grad, torch.zeros_like(alone))


def test_separation_spreads_frames_that_are_nearly_equal():
    frames = (torch.ones(2, 4, 16) + 0.1 * features_of(8, 16).view(2, 4, 16)).requires_grad_()
    before = separation(frames).item()
    optimizer = torch.optim.Adam([frames], lr=0.05)
    for _ in range(100):
        optimizer.zero_grad()
        separation(frames).backward()
        optimizer.step()
    assert before > 0.9
    assert separation(frames).item() < 0.05


@settings(max_examples=40, deadline=None)
@given(labels=LABELS, seed=st.integers(0, 1000))
def test_center_alignment_equals_a_loop_over_people(labels, seed):
    targets, modalities = columns(labels)
    features = features_of(len(labels), seed=seed)
    gaps = []
    for person in range(3):
        sides = [features[(targets == person) & (modalities == side)] for side in (0, 1)]
        if all(len(side) for side in sides):
            gaps.append((sides[0].mean(dim=0) - sides[1].mean(dim=0)).square().sum().item())
    expected = sum(gaps) / len(gaps) if gaps else 0.0
    found = center_alignment(features, targets, modalities).item()
    assert found == pytest.approx(expected, rel=1e-4, abs=1e-6)


def test_standardized_features_show_what_a_common_mean_hides():
    features = (100 + features_of(200, 8)).requires_grad_()
    found = standardized(features)
    torch.testing.assert_close(found.mean(dim=0), torch.zeros(8), atol=1e-4, rtol=0)
    assert found.std().item() == pytest.approx(1, abs=0.01)
    found.sum().backward()  # the mean takes no part, or this would cancel
    assert (features.grad > 0).all()
    torch.testing.assert_close(standardized(torch.ones(1, 4)), torch.zeros(1, 4))
