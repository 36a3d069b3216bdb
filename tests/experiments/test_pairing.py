"""Runs side by side: the same queries whatever their order, and other ones refused by name."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from plugins.errors import InputError
from plugins.evaluation import Evaluation, QueryResults
from plugins.experiments import DatasetResults, by_dataset, compare
from tests.helpers.query_rows import chosen, rows_of


def results(rows: list[QueryResults], label: str = "A") -> DatasetResults:
    (found,) = by_dataset(label, Evaluation(rows)).values()
    return found


def slowly(ours: list[list[QueryResults]], theirs: list[list[QueryResults]], metric) -> float:
    """Mean over pairs, directions, trials and queries, one after the other."""
    pairs = []
    for first, second in zip(ours, theirs, strict=True):
        directions = []
        for row, other in zip(first, second, strict=True):
            trials = []
            for trial in set(row.trial.tolist()):
                gains = []
                for n in range(len(row.path)):
                    if row.trial[n] == trial and row.positives[n]:
                        (m,) = (
                            m
                            for m in range(len(other.path))
                            if (other.trial[m], other.path[m]) == (trial, row.path[n])
                        )
                        gains.append(row.values(metric)[n] - other.values(metric)[m])
                trials.append(sum(gains) / len(gains))
            directions.append(sum(trials) / len(trials))
        pairs.append(sum(directions) / len(directions))
    return sum(pairs) / len(pairs)


@settings(max_examples=30)
@given(
    seed=st.integers(0, 999),
    pairs=st.integers(1, 3),
    metric=st.sampled_from(["mAP", "Rank-1", "Rank-5", "mINP", "metric"]),
    trials=st.integers(1, 3),
)
def test_the_mean_is_that_of_loops_over_queries_in_any_order(seed, pairs, metric, trials):
    generator = np.random.default_rng(seed)

    def run(number):
        rows = []
        for row in rows_of(number):
            trial = np.arange(18) % trials
            row = replace(row, trial=trial)
            rows.append(chosen(row, generator.permutation(18)))
        return rows

    ours = [run(10 * seed + n) for n in range(pairs)]
    theirs = [run(10 * seed + 5 + n) for n in range(pairs)]
    found, queries = compare(list(map(results, ours)), list(map(results, theirs)), metric)
    assert found.mean == pytest.approx(slowly(ours, theirs, metric), abs=1e-9)
    assert (found.seeds, found.people, queries) == (pairs, 6, 34)
    one, queries = compare(list(map(results, ours)), list(map(results, theirs)), f"V2I/{metric}")
    expected = slowly([rows[1:] for rows in ours], [rows[1:] for rows in theirs], metric)
    assert one.mean == pytest.approx(expected, abs=1e-9) and queries == 17


def test_the_mean_is_the_difference_of_the_tables():
    ours, theirs = rows_of(1), rows_of(2)
    for metric in ("mAP", "Rank-10"):
        found, _ = compare([results(ours)], [results(theirs)], f"I2V/{metric}")
        assert found.mean == pytest.approx(ours[0].block()[metric] - theirs[0].block()[metric])


def test_a_site_is_the_first_folder_of_a_query():
    rows = [
        replace(row, path=np.array([f"{n % 3}/{p}" for n, p in enumerate(row.path)]))
        for row in rows_of(1)
    ]
    others = [replace(row, path=first.path) for row, first in zip(rows_of(2), rows, strict=True)]
    found, _ = compare([results(rows)], [results(others)], "mAP", unit="site")
    by_person, _ = compare([results(rows)], [results(others)], "mAP")
    assert (found.people, by_person.people) == (3, 6)
    assert found.mean == pytest.approx(by_person.mean)


def changed(row: QueryResults, name: str, at: int, value) -> QueryResults:
    values = getattr(row, name)
    values = values.astype("U99" if values.dtype.kind == "U" else values.dtype)
    values[at] = value
    return replace(row, **{name: values})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda row: chosen(row, slice(2, None)),
            "A and B cannot be paired on HITSZVCM/I2V: different queries: 2 of 18 only in the "
            "former, the first I2V/0.jpg",
        ),
        (
            lambda row: changed(row, "path", 3, "I2V/other.jpg"),
            "1 of 18 only in the former, the first I2V/3.jpg; 1 of 18 only in the latter, the "
            "first I2V/other.jpg",
        ),
        (
            lambda row: changed(row, "trial", 3, 1),
            "1 of 18 only in the latter, the first I2V/3.jpg of trial 2",
        ),
        (
            lambda row: changed(row, "person", 3, "9"),
            "person of 1 of 18 queries, the first I2V/3.jpg: 1 and 9",
        ),
        (
            lambda row: changed(row, "positives", 3, 7),
            "positives of 1 of 18 queries, the first I2V/3.jpg: 4 and 7",
        ),
    ],
)
def test_other_queries_are_refused_in_one_line_that_names_the_first(change, message):
    first, second = rows_of(1)
    with pytest.raises(InputError) as error:
        compare([results([first, second])], [results([change(first), second], "B")], "mAP")
    assert message in str(error.value) and "\n" not in str(error.value)


def test_where_a_seed_has_other_queries_its_people_are_its_own():
    """Students t over the seeds' means, whatever their people."""
    ours, theirs = ([rows_of(n), rows_of(n + 1), rows_of(n + 2)] for n in (1, 11))
    for side in (ours, theirs):
        side[1] = [chosen(side[1][0], slice(1, None)), side[1][1]]
    found, queries = compare([*map(results, ours)], [*map(results, theirs)], "I2V/mAP")
    means = [a[0].block()["mAP"] - b[0].block()["mAP"] for a, b in zip(ours, theirs, strict=True)]
    expected = stats.ttest_1samp(means, 0)
    assert not found.crossed
    assert (found.mean, found.p) == pytest.approx((np.mean(means), expected.pvalue))
    assert found.interval == pytest.approx(tuple(expected.confidence_interval(0.95)))
    assert found.resampled_error == pytest.approx(found.error, rel=0.1)
    assert (found.people, queries) == (18, 17 + 16 + 17)


@pytest.mark.parametrize(
    ("metric", "message"),
    [
        ("I2V/mAp", "'I2V/mAp'; expected METRIC or DIRECTION/METRIC, with one of mAP"),
        ("IV/mAP", "A: HITSZVCM has no row 'IV'; known: I2V, V2I"),
    ],
)
def test_a_metric_that_is_not_there_is_named(metric, message):
    with pytest.raises(InputError, match=message):
        compare([results(rows_of(1))], [results(rows_of(2))], metric)


@pytest.mark.slow
def test_people_who_were_numbers_before_are_the_same_people():
    """So results from before and after a set kept its own names can be paired, seed by seed."""
    ours, theirs = (rows_of(seed) for seed in (1, 2))
    numbers = {name: str(n) for n, name in enumerate(sorted({*ours[0].person.tolist()})[::-1])}

    def renamed(rows):
        return [
            replace(row, person=np.array([numbers[name] for name in row.person])) for row in rows
        ]

    expected = compare([results(ours)] * 2, [results(theirs)] * 2, "mAP")
    found = compare([results(ours), results(renamed(ours))], [results(theirs)] * 2, "mAP")
    assert found == expected
    merged = [replace(row, person=np.full(len(row.person), "one")) for row in theirs]
    with pytest.raises(InputError, match="person of "):
        compare([results(ours)], [results(merged)], "mAP")
