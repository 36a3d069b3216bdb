"""Bootstrap, collapse, chance and area, each against a slow or known answer."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from plugins.robustness.statistics import (
    area_under,
    bootstrap_interval,
    chance_of_rank_1,
    effective_rank,
    interval_of_mean,
    mean_pairwise_cosine,
    share_by,
    wilson_interval,
)


def test_the_interval_over_queries_is_scipys():
    values = torch.rand(60, generator=torch.Generator().manual_seed(0)).double()
    found = bootstrap_interval(values, torch.arange(60))
    expected = stats.bootstrap(
        (values.numpy(),), statistic=lambda v, axis: v.mean(axis=axis), method="percentile",
        n_resamples=5000, rng=0,
    ).confidence_interval  # fmt: skip
    assert found == pytest.approx(expected, abs=0.01)


def test_people_who_are_all_alike_widen_the_interval_by_the_square_root_of_their_queries():
    one_each = (torch.arange(50) % 2).double()
    low, high = bootstrap_interval(
        one_each.repeat_interleave(4), torch.arange(50).repeat_interleave(4)
    )
    narrow = bootstrap_interval(one_each.repeat_interleave(4), torch.arange(200))
    assert (high - low) / (narrow[1] - narrow[0]) == pytest.approx(2.0, rel=0.15)
    assert (low, high) == bootstrap_interval(one_each, torch.arange(50))


@settings(max_examples=30)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=20), st.integers(1, 5))
def test_the_interval_lies_within_the_values(values, people):
    values = torch.tensor(values, dtype=torch.float64)
    low, high = bootstrap_interval(values, torch.arange(len(values)) % people)
    assert values.min() - 1e-12 <= low <= high <= values.max() + 1e-12


def test_of_one_person_or_none_there_is_no_interval():
    assert bootstrap_interval(torch.tensor([0.0, 1.0]), torch.zeros(2)) == (0.5, 0.5)
    assert all(math.isnan(bound) for bound in bootstrap_interval(torch.empty(0), torch.empty(0)))


@pytest.mark.parametrize(("hits", "people"), [(0, 1), (1, 1), (0, 4), (3, 4), (100, 200)])
def test_wilsons_interval_is_scipys(hits, people):
    expected = stats.binomtest(hits, people).proportion_ci(method="wilson")
    assert wilson_interval(hits / people, people) == pytest.approx(expected, abs=1e-9)


def test_effective_rank_counts_directions():
    generator = torch.Generator().manual_seed(0)
    plane = torch.randn(500, 2, generator=generator) @ torch.randn(2, 30, generator=generator)
    assert 1.5 < effective_rank(plane) <= 2.0001
    cross = torch.cat([torch.eye(7), -torch.eye(7)])
    assert effective_rank(cross) == pytest.approx(7)
    assert effective_rank(torch.full((9, 5), 0.1)) == 0.0


def test_mean_pairwise_cosine_is_that_of_the_pairs():
    features = torch.randn(9, 4, generator=torch.Generator().manual_seed(0)).double()
    pairs = [
        torch.cosine_similarity(features[i], features[j], dim=0)
        for i in range(9) for j in range(9) if i != j
    ]  # fmt: skip
    assert mean_pairwise_cosine(features) == pytest.approx(float(torch.stack(pairs).mean()))
    assert mean_pairwise_cosine(torch.ones(4, 3)) == pytest.approx(1.0)


def test_chance_is_what_random_lists_find():
    positives = torch.tensor([[1, 0, 0, 0], [1, 1, 0, 0], [0, 0, 0, 0]]).bool()
    valid = torch.tensor([[1, 1, 1, 1], [1, 1, 1, 0], [1, 1, 1, 1]]).bool()
    generator = torch.Generator().manual_seed(0)
    found = []
    for row in (0, 1):
        seen = valid[row].nonzero().flatten()
        first = seen[torch.randint(len(seen), (4000,), generator=generator)]
        found.append(positives[row, first].double().mean())
    expected = float(torch.stack(found).mean())
    assert chance_of_rank_1(positives, valid) == pytest.approx(expected, abs=0.02)


def test_area_of_a_flat_curve_is_its_height():
    assert area_under([(0, 3.0), (1, 3.0), (8, 3.0)]) == 3.0


def test_shares_by_group():
    groups, hits = torch.tensor([5, 2, 5, 5]), torch.tensor([True, False, False, True])
    assert share_by(groups, hits) == {2: (0.0, 1), 5: (pytest.approx(2 / 3), 3)}


@pytest.mark.slow
def test_an_interval_has_width_where_all_people_are_alike():
    values, people = torch.zeros(4), torch.tensor([0, 0, 1, 2])
    assert bootstrap_interval(values, people) == (0.0, 0.0)
    assert interval_of_mean(values, people) == wilson_interval(0.0, 3)
    low, high = interval_of_mean(values + 1, people)
    assert (low, high) == pytest.approx((1 - wilson_interval(0.0, 3)[1], 1.0))
    values[0] = 1
    assert interval_of_mean(values, people) == bootstrap_interval(values, people)
