"""The two judges and what they accept."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from plugins.balancing.classifier import hold_out, train_camera_classifier
from plugins.balancing.filters import (
    CandidateFilter,
    Verdict,
    margin_quantile,
    mean_features,
    person_margins,
    person_ranks,
)
from plugins.errors import InputError
from tests.helpers.balancing_toys import CAMERAS, PEOPLE, picture


def slow_rank(feature, prototypes, person):
    def cosine(other):
        dot = sum(a * b for a, b in zip(feature, other, strict=True))
        return dot / (math.hypot(*feature) * math.hypot(*other))

    own = cosine(prototypes[person])
    return 1 + sum(
        cosine(other) >= own for place, other in enumerate(prototypes) if place != person
    )


@given(st.integers(0, 10**6), st.integers(2, 6))
def test_ranks_are_those_of_a_loop(seed, people):
    generator = torch.Generator().manual_seed(seed)
    features, prototypes = (
        torch.randn((n, 4), generator=generator, dtype=torch.float64) for n in (3, people)
    )
    for person in range(people):
        slow = [slow_rank(f, prototypes.tolist(), person) for f in features.tolist()]
        assert person_ranks(features, prototypes, person).tolist() == slow


def test_ties_and_nan_count_against_a_candidate():
    prototypes = torch.eye(3)
    features = torch.tensor([[1.0, 1.0, 0.0], [math.nan, 0.0, 0.0], [1.0, 0.0, 0.0]])
    assert person_ranks(features, prototypes, 0).tolist() == [2, 3, 1]


@given(st.integers(0, 10**6), st.integers(2, 6))
def test_margins_are_those_of_a_loop(seed, people):
    generator = torch.Generator().manual_seed(seed)
    features, prototypes = (
        torch.randn((n, 4), generator=generator, dtype=torch.float64) for n in (3, people)
    )
    cosine = torch.nn.functional.cosine_similarity
    for person in range(people):
        for feature, margin in zip(
            features, person_margins(features, prototypes, person), strict=True
        ):
            own, *others = (
                cosine(feature, prototypes[row], dim=0).item()
                for row in [person, *(row for row in range(people) if row != person)]
            )
            assert margin.item() == pytest.approx(own - max(others))


def test_the_least_margin_is_what_a_share_of_real_images_does_not_exceed():
    prototypes, people = torch.eye(2), ["ann", "bob"]
    angles = torch.tensor([0.0, 0.1, 0.2, 0.3, 0.4])
    features = torch.stack([angles.cos(), angles.sin()], dim=1)
    margins = [math.cos(angle) - math.sin(angle) for angle in angles.tolist()]
    found = margin_quantile(features, ["ann"] * 5, prototypes, people, 0.25)
    assert found == pytest.approx(sorted(margins)[1])
    swapped = margin_quantile(features, ["bob"] * 5, prototypes, people, 0.25)
    assert swapped == pytest.approx(sorted(-margin for margin in margins)[1])
    assert margin_quantile(features, ["ann"] * 5, prototypes, people, 0) == -math.inf
    with pytest.raises(InputError, match=r"DATASETS\.BALANCE\.CLEAR: 1\.5; expected 0 to 1"):
        margin_quantile(features, ["ann"] * 5, prototypes, people, 1.5)


def test_a_candidate_that_is_not_clear_is_refused():
    prototypes = torch.eye(2)
    features = torch.tensor([[1.0, 0.0], [1.0, 0.9]])
    judges = CandidateFilter(
        lambda images: features,
        prototypes,
        ["ann", "bob"],
        lambda images: torch.ones(len(images), 1),
        ["1"],
        top=1,
        least_margin=0.5,
    )
    verdict = judges.judge(features, "ann", "1")
    assert verdict.person_rank.tolist() == [1, 1]
    assert verdict.accepted.tolist() == [True, False]


def test_prototypes_are_means_of_normalized_features():
    features = torch.tensor([[3.0, 4.0], [0.0, 2.0], [5.0, 0.0]])
    found = mean_features(features, ["b", "a", "b"], ["a", "b"])
    torch.testing.assert_close(found, torch.tensor([[0.0, 1.0], [0.8, 0.4]]))


def test_the_best_is_accepted_first_ranked_and_of_these_the_surest():
    verdict = Verdict(
        torch.tensor([2, 1, 1, 1]),
        torch.tensor([0.9, 0.6, 0.8, 0.99]),
        torch.tensor([True, True, True, False]),
    )
    assert verdict.best() == 2
    assert verdict._replace(accepted=torch.zeros(4, dtype=torch.bool)).best() is None


def test_only_the_right_person_under_the_right_camera_passes():
    def colors(half):
        return lambda images: images[:, :, half].float().mean(dim=(2, 3))

    people = list(PEOPLE)
    lower, upper = colors(slice(4, None)), colors(slice(None, 4))
    prototypes = lower(torch.stack([picture(person, "1") for person in people]))
    judges = CandidateFilter(
        lower,
        prototypes,
        people,
        lambda images: torch.stack([upper(images)[:, 0], 255 - upper(images)[:, 0]], 1) / 255,
        list(CAMERAS),
        top=1,
    )
    pairs = [(person, camera) for person in people for camera in CAMERAS]
    images = torch.stack([picture(*pair) for pair in pairs])
    for pair in pairs:
        assert judges.judge(images, *pair).accepted.tolist() == [other == pair for other in pairs]


@pytest.mark.parametrize("top", [0, 3])
def test_a_limit_that_decides_nothing_is_refused(top):
    with pytest.raises(InputError, match=r"DATASETS\.BALANCE\.TOP"):
        CandidateFilter(None, None, list("abc"), None, [], top)


@pytest.mark.slow
def test_the_camera_classifier_knows_cameras_by_people_it_has_not_seen_there():
    pairs = [(person, camera) for person in PEOPLE for camera in CAMERAS] * 4
    images = torch.stack([picture(*pair, shade=row // 6) for row, pair in enumerate(pairs)])
    before = torch.random.get_rng_state()
    model, accuracy = train_camera_classifier(images, pairs, list(CAMERAS), 0, "cpu")
    assert accuracy == 1.0
    assert torch.equal(torch.random.get_rng_state(), before)
    found = model.probabilities(images)
    torch.testing.assert_close(found.sum(dim=1), torch.ones(len(pairs)))
    assert [list(CAMERAS)[place] for place in found.argmax(dim=1)] == [c for _, c in pairs]


@pytest.mark.slow
@given(st.sets(st.tuples(st.integers(0, 9), st.integers(0, 3)), min_size=1), st.integers(0, 99))
def test_each_camera_keeps_a_pair(pairs, seed):
    held = hold_out(sorted(pairs), seed)
    assert held <= pairs
    assert {camera for _, camera in pairs - held} == {camera for _, camera in pairs}
