"""Differences of people and seeds: against slow sums, against scipy, and against known truths."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from plugins.experiments.paired import holm, paired_difference, resampled_error

# Standard deviations in percent points of (seeds, people, rest), and the number of people.
SETTINGS = {
    "people": (0.1, 6.0, 2.0, 100),
    "even": (0.8, 6.0, 6.0, 60),
    "rest": (0.3, 1.0, 10.0, 60),
    "seeds": (3.0, 6.0, 6.0, 100),
}


def drawn(generator, setting: str, seeds: int, mean: float = 0.0) -> np.ndarray:
    """(P, S) differences of crossed people and seeds."""
    of_seeds, of_people, rest, people = SETTINGS[setting]
    return (
        mean
        + generator.normal(0, of_seeds, (1, seeds))
        + generator.normal(0, of_people, (people, 1))
        + generator.normal(0, rest, (people, seeds))
    )


@settings(max_examples=40)
@given(seed=st.integers(0, 999), people=st.integers(2, 9), seeds=st.integers(2, 5))
def test_the_variance_is_that_of_a_two_way_analysis_by_loops(seed, people, seeds):
    values = np.random.default_rng(seed).normal(size=(people, seeds))
    found = paired_difference(values, np.full(people, 3.0))
    mean = sum(map(sum, values)) / (people * seeds)
    of_people = [sum(row) / seeds for row in values]
    of_seeds = [sum(values[p][s] for p in range(people)) / people for s in range(seeds)]
    person = sum((each - mean) ** 2 for each in of_people) / (people - 1)
    seed_ = sum((each - mean) ** 2 for each in of_seeds) / (seeds - 1)
    rest = sum(
        (values[p][s] - of_people[p] - of_seeds[s] + mean) ** 2
        for p in range(people)
        for s in range(seeds)
    ) / ((people - 1) * (seeds - 1))
    assert found.mean == pytest.approx(mean)
    assert found.seed_part == pytest.approx(seed_ / seeds)
    expected = max(person / people - rest / (seeds * people), 0)
    assert found.person_part == pytest.approx(expected, abs=1e-12)
    assert found.people_freedom == pytest.approx(people - 1)
    assert found.error == pytest.approx(math.sqrt(found.seed_part + found.person_part))


@pytest.mark.parametrize("seeds", range(2, 9))
@pytest.mark.parametrize("setting", SETTINGS)
def test_a_95_percent_interval_holds_95_times_in_100(setting, seeds):
    """People have different numbers of queries; the truth is 1."""
    generator = np.random.default_rng(100 * seeds + len(setting))
    times, held = 1000, 0
    for _ in range(times):
        values = drawn(generator, setting, seeds, mean=1.0)
        found = components(values, generator.integers(1, 7, len(values)))
        low, high = found.interval
        held += low <= 1.0 <= high
    # With two seeds it is 97.8 at most, and with three 97.1, see plugins.experiments.paired.
    highest = {2: 0.978, 3: 0.971}.get(seeds, 0.97)
    chance = 3 * math.sqrt(0.05 * 0.95 / times)
    assert 0.935 - chance <= held / times <= highest + chance


def components(values, weights):
    """A difference without its second road, which takes most of the time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("plugins.experiments.paired.resampled_error", lambda *_: math.nan)
        return paired_difference(values, weights.astype(float))


@pytest.mark.parametrize("naive", ["queries", "people", "normal"])
def test_intervals_that_forget_people_or_seeds_or_that_these_are_few_would_be_found_out(naive):
    generator = np.random.default_rng(0)
    held, times = 0, 500
    for _ in range(times):
        values = drawn(generator, "seeds", 3)
        errors = {
            "queries": values.std() / math.sqrt(values.size),
            "people": values.mean(axis=1).std() / math.sqrt(len(values)),
            "normal": components(values, np.ones(len(values))).error,
        }
        held += abs(values.mean()) <= 1.96 * errors[naive]
    assert held / times < 0.9


@pytest.mark.parametrize("setting", SETTINGS)
def test_both_roads_agree_on_the_standard_error(setting):
    generator = np.random.default_rng(1)
    values = drawn(generator, setting, 8)
    weights = generator.integers(1, 7, len(values)).astype(float)
    found = paired_difference(values, weights)
    assert found.resampled_error == pytest.approx(found.error, rel=0.1)
    assert found.resampled_interval == pytest.approx(found.interval, abs=0.2 * found.error + 0.1)


def test_the_second_road_is_calibrated_too():
    generator = np.random.default_rng(2)
    held, times = 0, 150
    for _ in range(times):
        low, high = paired_difference(
            drawn(generator, "even", 4), np.ones(SETTINGS["even"][3])
        ).resampled_interval
        held += low <= 0 <= high
    assert 0.95 - 3 * math.sqrt(0.05 * 0.95 / times) <= held / times


@pytest.mark.parametrize("seeds", [1, 3])
def test_few_people_do_not_narrow_the_second_road(seeds):
    values = np.random.default_rng(6).normal(size=(4, seeds))
    found = paired_difference(values, np.ones(4))
    assert found.resampled_error == pytest.approx(found.error, rel=0.1)


@settings(max_examples=40)
@given(seed=st.integers(0, 999), seeds=st.integers(1, 6), mean=st.floats(-3, 3))
def test_the_p_value_is_below_5_percent_where_the_interval_leaves_out_0(seed, seeds, mean):
    found = components(mean + np.random.default_rng(seed).normal(size=(9, seeds)), np.arange(1, 10))
    low, high = found.interval
    assert (found.p < 0.05) == (not low <= 0 <= high)
    assert 0 <= found.p <= 1


def test_one_seed_is_students_test_over_people():
    values = np.random.default_rng(3).normal(0.4, 1, size=(30, 1))
    found = components(values, np.ones(30))
    expected = stats.ttest_1samp(values[:, 0], 0)
    assert found.p == pytest.approx(expected.pvalue, rel=1e-9)
    assert found.interval == pytest.approx(tuple(expected.confidence_interval(0.95)))
    assert math.isnan(found.seed_part)


@pytest.mark.slow
@pytest.mark.parametrize(("setting", "seeds"), [("even", 5), ("even", 8), ("seeds", 8)])
def test_the_detectable_difference_is_shown_4_times_in_5(setting, seeds):
    people = SETTINGS[setting][3]
    generator = np.random.default_rng(4)
    sizes = [components(drawn(generator, setting, seeds), np.ones(people)) for _ in range(200)]
    truth = float(np.median([each.detectable for each in sizes]))
    shown = [
        components(drawn(generator, setting, seeds, truth), np.ones(people)).p < 0.05
        for _ in range(400)
    ]
    assert np.mean(shown) == pytest.approx(0.8, abs=0.1)


def test_a_person_with_more_queries_weighs_more():
    values = np.array([[1.0, 1.2], [3.0, 2.8], [5.0, 5.4]])
    found = paired_difference(values, np.array([2.0, 1.0, 1.0]))
    assert found.mean == pytest.approx((2 * 1.1 + 2.9 + 5.2) / 4)
    assert found.people_freedom == pytest.approx(16 / 6 - 1)


def test_runs_that_are_equal_differ_by_0_for_certain():
    found = paired_difference(np.zeros((4, 3)), np.ones(4))
    assert (found.mean, *found.interval, found.p, found.detectable) == (0, 0, 0, 1, 0)
    always = paired_difference(np.full((4, 3), 2.0), np.ones(4))
    assert always.interval == (2, 2) and always.p == 0


def test_of_one_person_nothing_is_told_of_others():
    found = paired_difference(np.array([[1.0, 2.0]]), np.ones(1))
    assert found.mean == 1.5
    assert all(map(math.isnan, (*found.interval, *found.resampled_interval, found.p)))


def test_the_second_road_draws_the_same_each_time():
    values = np.random.default_rng(5).normal(size=(7, 3))
    weights = np.full(7, 1 / 7)
    assert resampled_error(values, weights) == resampled_error(values, weights)


@pytest.mark.slow
@given(st.lists(st.floats(0, 1), max_size=6))
def test_holm_rejects_what_the_step_down_procedure_rejects(values):
    corrected = holm(values)
    rejected, left = set(), sorted(range(len(values)), key=values.__getitem__)
    while left and values[left[0]] <= 0.05 / len(left):
        rejected.add(left.pop(0))
    near = any(abs(value - 0.05) < 1e-9 for value in corrected)
    assert near or {n for n, value in enumerate(corrected) if value <= 0.05} == rejected
    assert all(value <= after <= 1 for value, after in zip(values, corrected, strict=True))
