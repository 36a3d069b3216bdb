"""Thresholds and rates against every pair by hand, scikit-learn, and people drawn by hand."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_curve

from plugins.config import default_cfg
from plugins.errors import InputError
from plugins.evaluation import Side, VVIEvaluator, distances, results_table, verification
from plugins.evaluation.verification import (
    accept_rates,
    collect_pairs,
    find_threshold,
    number_people,
    rates_of_draws,
)
from plugins.protocol import Direction, Trial
from tests.helpers.evaluated import feed


def two_sides(seed, queries=12, items=30, people=5, pool=1000):
    """Unit features in a plane around each person's direction; few different ones make ties."""
    generator = torch.Generator().manual_seed(seed)

    def side(number):
        pids = torch.randint(people, (number,), generator=generator) * 7 + 3
        features = torch.randn(number, 4, generator=generator)
        features[:, 0] += pids
        features = torch.nn.functional.normalize(features, dim=1)
        if pool < 1000:
            features = (features * pool).round() / pool + 1e-3
        return Side(features, pids, torch.randint(1, 4, (number,), generator=generator))

    return side(queries), side(items)


def by_hand(query, gallery, junk, people=None, same=False):
    """Distances of all pairs of one and of two people; ``people`` may repeat somebody."""
    near = distances(query.features, gallery.features, "cosine")
    genuine, impostor = [], []
    drawn = people if people is not None else sorted({*query.pids.tolist(), *gallery.pids.tolist()})
    first, second = (
        list(enumerate(zip(side.pids.tolist(), side.camids.tolist(), strict=True)))
        for side in (query, gallery)
    )
    for q, (person, camera) in first:
        for g, (other, seen) in second:
            if junk == "camera" and (person, camera) == (other, seen):
                continue
            if same and g <= q:
                continue
            if person == other:
                genuine += [float(near[q, g])] * drawn.count(person)
            else:
                impostor += [float(near[q, g])] * (drawn.count(person) * drawn.count(other))
    return genuine, impostor


def threshold_by_hand(genuine, impostor, rate):
    """The largest of all distances such that few enough impostors are below it."""
    allowed = math.floor(round(rate * len(impostor), 6))
    fits = [t for t in impostor if sum(d < t for d in impostor) <= allowed]
    return max(fits), sum(d < max(fits) for d in genuine) / len(genuine)


@pytest.mark.slow
@given(
    seed=st.integers(0, 1000),
    rate=st.sampled_from([0.01, 0.1, 0.29, 0.5]),
    junk=st.sampled_from(["camera", "none"]),
    pool=st.sampled_from([2, 1000]),
)
@settings(max_examples=25)
def test_threshold_and_rates_are_those_of_all_pairs(seed, rate, junk, pool):
    query, gallery = two_sides(seed, pool=pool)
    genuine, impostor = by_hand(query, gallery, junk)
    found = find_threshold(query, gallery, rate, metric="cosine", junk=junk)
    threshold, true = threshold_by_hand(genuine, impostor, rate)
    assert found.threshold == threshold
    assert found.true_accept_rate == pytest.approx(true, abs=1e-12)
    false = sum(d < threshold for d in impostor) / len(impostor)
    assert found.false_accept_rate == pytest.approx(false, abs=1e-12)
    assert found.false_accept_rate <= rate
    assert (found.genuine, found.impostors) == (len(genuine), len(impostor))
    rates = accept_rates(query, gallery, metric="cosine", junk=junk, rates=[rate])
    (value,) = rates.values()
    assert value == pytest.approx(100 * true, abs=1e-9)


@pytest.mark.parametrize("junk", ["camera", "none"])
def test_of_items_with_themselves_each_pair_counts_once_and_none_with_itself(junk):
    items, _ = two_sides(5, 30)
    genuine, impostor = by_hand(items, items, junk, same=True)
    found = find_threshold(items, items, 0.05, metric="cosine", junk=junk, same=True)
    expected = threshold_by_hand(genuine, impostor, 0.05)
    assert (found.threshold, found.true_accept_rate) == pytest.approx(expected, abs=1e-12)
    assert (found.genuine, found.impostors) == (len(genuine), len(impostor))
    if junk == "none":
        assert len(genuine) + len(impostor) == 30 * 29 / 2


@pytest.mark.slow
def test_the_curve_is_scikit_learns():
    query, gallery = two_sides(0, 40, 60, people=8)
    genuine, impostor = by_hand(query, gallery, "camera")
    labels = [1] * len(genuine) + [0] * len(impostor)
    scores = [-d for d in genuine + impostor]
    false, true, _ = roc_curve(labels, scores, drop_intermediate=False)
    for rate in (0.01, 0.05, 0.2):
        found = find_threshold(query, gallery, rate, metric="cosine", junk="camera")
        assert found.true_accept_rate == pytest.approx(true[false <= rate].max(), abs=1e-12)


def test_a_draw_of_people_is_a_set_with_those_people_repeated():
    query, gallery = number_people(*two_sides(3, people=6))
    pairs = collect_pairs(query, gallery, metric="cosine", junk="camera", keep=10**6)
    generator = np.random.default_rng(0)
    draws = [generator.integers(6, size=6).tolist() for _ in range(20)]
    counts = torch.tensor([[draw.count(person) for person in range(6)] for draw in draws])
    counts = torch.cat([torch.ones(1, 6), counts]).double()
    rows = rates_of_draws(pairs, counts, 0.1)
    for draw, row in zip(draws, rows[1:].tolist(), strict=True):
        genuine, impostor = by_hand(query, gallery, "camera", draw)
        threshold, true = threshold_by_hand(genuine, impostor, 0.1)
        assert row[0] == threshold and row[1] == pytest.approx(true, abs=1e-12)
        false = sum(d < float(rows[0, 0]) for d in impostor) / len(impostor)
        assert row[2] == pytest.approx(false, abs=1e-12)


def test_keeping_few_pairs_changes_nothing(monkeypatch):
    query, gallery = two_sides(1, 30, 40, people=6)
    whole = find_threshold(query, gallery, 0.02, metric="cosine", junk="camera")
    monkeypatch.setattr(verification, "SPARE", 1)
    assert find_threshold(query, gallery, 0.02, metric="cosine", junk="camera") == whole
    low, high = whole.threshold_interval
    assert low <= whole.threshold <= high and low < high
    low, high = whole.true_accept_interval
    assert 0 <= low < high <= 1


def test_what_cannot_be_shown_is_refused():
    query, gallery = two_sides(0)
    with pytest.raises(InputError, match=r"rate 1e-06: there are \d+ pairs .* expected 1000000 or"):
        find_threshold(query, gallery, 1e-6, metric="cosine", junk="camera")
    with pytest.raises(InputError, match="rate 1: expected more than 0, below 1"):
        find_threshold(query, gallery, 1.0, metric="cosine", junk="camera")
    alone = Side(query.features, torch.arange(len(query)) + 900, query.camids)
    with pytest.raises(InputError, match="no query sees another item of its person"):
        find_threshold(alone, gallery, 0.1, metric="cosine", junk="camera")


@pytest.mark.slow
def test_test_roc_adds_the_rates_to_the_rows_that_are_not_reranked(caplog):
    query, gallery = two_sides(0, 40, 60, people=8)
    rows = np.arange(100)
    directions = {"Q2G": Direction((Trial(rows[:40], rows[40:]),))}
    data = SimpleNamespace(query=range(40), gallery=range(60), directions=lambda: directions)
    cfg = default_cfg()
    cfg.TEST.ROC.ENABLED = cfg.TEST.RERANK.ENABLED = True
    evaluator = VVIEvaluator(cfg, data)
    both = [torch.cat([getattr(query, n), getattr(gallery, n)]) for n in vars(query)]
    feed(evaluator, range(100), *both)
    results = evaluator.evaluate()
    genuine, impostor = by_hand(query, gallery, "camera")
    _, true = threshold_by_hand(genuine, impostor, 0.01)
    assert results["Q2G"]["TAR@FAR=1e-02"] == pytest.approx(100 * true)
    assert "TAR@FAR=1e-02" not in results["Q2G+rerank"]
    assert "TAR@FAR=1e-04" in results_table({"Set": results})
    (warned,) = [line for line in caplog.messages if "cannot show so small a rate" in line]
    assert warned.startswith("Q2G: TAR@FAR=1e-04: there are ")
    cfg.TEST.ROC.ENABLED = False
    plain = VVIEvaluator(cfg, data)
    feed(plain, range(100), *both)
    found = plain.evaluate()["Q2G"]
    kept = {name: value for name, value in results["Q2G"].items() if "TAR" not in name}
    assert found == kept
