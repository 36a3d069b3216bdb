"""Objectives: against loops over lists, finite differences, the evaluator, and known mistakes."""

import math
from dataclasses import replace
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from plugins.attacks import objectives
from plugins.attacks.guides import Guides
from plugins.evaluation import distances, evaluate_ranking, ranked_lists
from plugins.protocol import JUNK
from tests.helpers.brute_force import brute_force
from tests.helpers.retrieval_toys import METRICS, guides_of, search_of, seeds
from tests.helpers.sides import sides_of


def unit(vector):
    length = math.sqrt(sum(x * x for x in vector))
    return [x / length for x in vector]


def gap(a, b, metric):
    """Squared Euclidean distance of two lists, of length 1 for the cosine."""
    if metric == "cosine":
        a, b = unit(a), unit(b)
    return sum((x - y) ** 2 for x, y in zip(a, b, strict=True))


def distance(a, b, metric):
    return gap(a, b, metric) / 2 if metric == "cosine" else gap(a, b, metric)


class Row:
    """One attacked row as lists: feature f, clean, positives and negatives as (index, feature)."""

    def __init__(self, feature, guides, row):
        self.f, self.metric = feature.tolist(), guides.metric
        self.clean = guides.clean[row].tolist()
        self.reference = guides.reference[row].tolist()
        seen = guides.valid[row].tolist()
        same = [pid == guides.pids[row] for pid in guides.gallery_pids.tolist()]
        self.items = guides.gallery.tolist()
        self.pids = guides.gallery_pids.tolist()
        self.seen = [i for i, s in enumerate(seen) if s]
        self.positives = [i for i in self.seen if same[i]]
        self.negatives = [i for i in self.seen if not same[i]]
        self.chosen = [i for i, c in enumerate(guides.chosen[row].tolist()) if c]

    def gap(self, item):
        return gap(self.f, self.items[item], self.metric)

    def distance(self, item):
        return distance(self.f, self.items[item], self.metric)

    def has_both(self):
        return bool(self.positives and self.negatives)


def slow_self_metric(row):
    return gap(row.f, row.clean, row.metric)


def slow_local_transform(row):
    return gap(row.f, row.reference, row.metric)


def slow_targeted(row):
    return sum(x * y for x, y in zip(unit(row.f), unit(row.reference), strict=True))


def slow_odfa(row):
    return -sum((x + y) ** 2 for x, y in zip(unit(row.f), unit(row.clean), strict=True))


def slow_metric_guides(row):
    return sum(row.gap(item) for item in row.positives)


def slow_farthest_negative(row):
    if not row.has_both():
        return 0
    centroids = []
    for person in {row.pids[item] for item in row.negatives}:
        items = [f for f, pid in zip(row.items, row.pids, strict=True) if pid == person]
        if row.metric == "cosine":
            items = [unit(f) for f in items]
        centroids.append([sum(column) / len(items) for column in zip(*items, strict=True)])
    farthest = max(centroids, key=lambda centroid: gap(row.clean, centroid, row.metric))
    return slow_metric_guides(row) - gap(row.f, farthest, row.metric)


def slow_nearest_push_pull(row):
    if not row.has_both():
        return 0
    push = slow_metric_guides(row) / len(row.positives)
    return push - min(row.gap(item) for item in row.negatives)


def slow_rank_margin(row):
    if not row.has_both():
        return 0
    nearest = [min(row.distance(i) for i in items) for items in (row.positives, row.negatives)]
    return nearest[0] - nearest[1]


def slow_soft_ap(row, temperature=0.1):
    if not row.has_both():
        return 0
    clean = [distance(row.clean, row.items[i], row.metric) for i in row.seen]
    mean = sum(clean) / len(clean)
    spread = math.sqrt(sum((d - mean) ** 2 for d in clean) / len(clean))

    def before(j, i):
        return 1 / (1 + math.exp((row.distance(j) - row.distance(i)) / (temperature * spread)))

    total = 0
    for i in row.positives:
        hits = 1 + sum(before(j, i) for j in row.positives if j != i)
        rank = hits + sum(before(j, i) for j in row.negatives)
        total += hits / rank
    return -total / len(row.positives)


def slow_query_attack(row, promote):
    sign = 1 if promote else -1
    return -sum(
        max(0, sign * (row.distance(c) - row.distance(x))) for c in row.chosen for x in row.seen
    )


def slow_candidate_attack(row, others, promote):
    sign = 1 if promote else -1
    return -sum(max(0, sign * (row.distance(q) - d)) for q in row.chosen for d in others[q])


# From 0 to 12, so that some are below and some above the distances of either metric.
OTHERS = 12 * torch.rand(20, 7, generator=torch.Generator().manual_seed(5), dtype=torch.float64)

# Each objective as a user calls it, and its twin.
TWINS = {
    "self_metric": (objectives.self_metric, slow_self_metric),
    "local_transform": (objectives.local_transform, slow_local_transform),
    "targeted": (objectives.targeted, slow_targeted),
    "odfa": (objectives.odfa, slow_odfa),
    "metric_guides": (objectives.metric_guides, slow_metric_guides),
    "farthest_negative": (objectives.farthest_negative, slow_farthest_negative),
    "nearest_push_pull": (objectives.nearest_push_pull, slow_nearest_push_pull),
    "rank_margin": (objectives.rank_margin, slow_rank_margin),
    "soft_ap": (objectives.soft_ap, slow_soft_ap),
}
for sign, promote in (("+", True), ("-", False)):
    TWINS[f"QA{sign}"] = (
        partial(objectives.query_attack, promote=promote),
        partial(slow_query_attack, promote=promote),
    )
    TWINS[f"CA{sign}"] = (
        partial(objectives.candidate_attack, others=OTHERS, promote=promote),
        partial(slow_candidate_attack, others=OTHERS.tolist(), promote=promote),
    )

needs_a_positive = {"metric_guides", "farthest_negative", "nearest_push_pull"}
needs_a_positive |= {"rank_margin", "soft_ap"}
needs_a_negative = needs_a_positive - {"metric_guides"}


def complete(guides, seed=0):
    """The guides with a reference and chosen items."""
    generator = torch.Generator().manual_seed(seed)
    reference = torch.randn(guides.clean.shape, generator=generator).to(guides.clean)
    chosen = torch.rand(guides.valid.shape, generator=generator) < 0.2
    return replace(guides, reference=reference, chosen=chosen & guides.valid)


def test_every_objective_has_a_twin():
    named = {"query_attack": "QA+", "candidate_attack": "CA+"}
    expected = {named.get(name, name) for name in objectives.__all__} - {"success_at_k"}
    assert expected <= TWINS.keys()


@pytest.mark.parametrize("name", TWINS)
@settings(max_examples=20, deadline=None)
@given(seed=seeds, metric=st.sampled_from(METRICS), junk=st.sampled_from(list(JUNK)))
def test_objectives_are_their_loops(name, seed, metric, junk):
    features, guides = guides_of(seed, metric, junk, people=6, cameras=4)
    guides = complete(guides, seed)
    objective, slow = TWINS[name]

    values = objective(features, guides)

    rows = [Row(feature, guides, row) for row, feature in enumerate(features)]
    # rank_margin has the evaluator's distances, which are on a grid and then float32.
    tolerance = 1e-5 if name == "rank_margin" else 1e-9
    assert values.shape == (len(features),)
    for row, value in zip(rows, values.tolist(), strict=True):
        assert value == pytest.approx(slow(row), rel=tolerance, abs=tolerance)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("name", TWINS)
def test_gradients_are_finite_differences(name, metric):
    # Random features, so no tie and no kink within a step.
    features, guides = guides_of(3, metric)
    guides, objective = complete(guides), TWINS[name][0]
    # A step over which the float32 of rank_margin's values does not show.
    step, tolerance = (1e-3, 2e-3) if name == "rank_margin" else (1e-6, 1e-5)

    assert torch.autograd.gradcheck(
        lambda f: objective(f, guides),
        features.requires_grad_(),
        eps=step,
        atol=tolerance,
        rtol=tolerance,
    )
    assert torch.autograd.grad(objective(features, guides).sum(), features)[0].abs().sum() > 0


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("name", TWINS)
@pytest.mark.parametrize("feature", ["clean", "item", "zero", "all equal"])
def test_gradients_are_finite_at_the_edges(name, metric, feature):
    dtype = torch.float64 if name.startswith("CA") else torch.float32  # that of OTHERS
    _, guides = guides_of(1, metric, dtype=dtype)
    guides, objective = complete(guides), TWINS[name][0]
    if feature == "all equal":
        ones = torch.ones_like(guides.gallery)
        guides = replace(guides, gallery=ones, clean=ones[: len(guides.clean)])
    features = {
        "clean": guides.clean,
        "item": guides.gallery[: len(guides.clean)],
        "zero": torch.zeros_like(guides.clean),
        "all equal": guides.clean,
    }[feature]
    features = features.clone().requires_grad_()

    values = objective(features, guides)
    values.sum().backward()

    assert values.isfinite().all() and features.grad.isfinite().all()


@pytest.mark.parametrize("name", sorted(needs_a_positive))
@pytest.mark.parametrize("missing", ["positive", "negative", "everything"])
def test_a_row_without_its_guides_is_worth_zero_with_a_graph(name, missing):
    features, guides = guides_of(0, people=2)
    valid = guides.valid.clone()
    if missing != "negative":
        valid[2] &= guides.gallery_pids != guides.pids[2]
    if missing != "positive":
        valid[2] &= guides.gallery_pids == guides.pids[2]
    guides, objective = replace(guides, valid=valid), TWINS[name][0]
    features.requires_grad_()

    values = objective(features, guides)
    values.sum().backward()

    if missing != "negative" or name in needs_a_negative:
        assert values[2] == 0 and (features.grad[2] == 0).all()
    assert features.grad.isfinite().all() and features.grad.abs().sum() > 0


@pytest.mark.slow
@settings(max_examples=120, deadline=None)
@given(
    seed=seeds,
    metric=st.sampled_from(METRICS),
    junk=st.sampled_from(list(JUNK)),
    whole=st.booleans(),
    people=st.integers(1, 12),
    items=st.integers(1, 20),
)
def test_the_margin_is_above_zero_where_the_evaluator_says_that_rank_1_fails(
    seed, metric, junk, whole, people, items
):
    search = search_of(seed, items=items, length=3, people=people, cameras=4, whole=whole)
    rules = {"metric": metric, "junk": junk}

    failed = objectives.rank_margin(search[0], Guides.from_features(*search, **rules)) > 0

    queries, gallery, pids, gallery_pids, camids, gallery_camids = search
    first = ranked_lists(*sides_of(*search), length=1, **rules)[0][:, 0]
    valid = Guides.from_features(*search, **rules).positives.any(dim=1)
    assert torch.equal(failed, valid & (gallery_pids[first] != pids))
    if valid.any():
        found = float(evaluate_ranking(*sides_of(*search), **rules).cmc[0])
        assert found == pytest.approx(1 - float(failed[valid].double().mean()))
    for row in valid.nonzero().flatten():
        rows = slice(row, row + 1)
        one = (queries[rows], gallery, pids[rows], gallery_pids, camids[rows], gallery_camids)
        # A row alone: the grid of Euclidean features may be finer, but never splits equal features.
        margin = objectives.rank_margin(one[0], Guides.from_features(*one, **rules))
        assert bool(margin > 0) == (float(evaluate_ranking(*sides_of(*one), **rules).cmc[0]) == 0)


@pytest.mark.parametrize(("pids", "fails"), [([1, 0], False), ([0, 1], True)])
def test_the_gallerys_order_decides_a_tie(pids, fails):
    """A difference of distances alone is 0 both times, and calls both robust."""
    search = torch.ones(1, 4), torch.ones(2, 4), torch.ones(1), torch.tensor(pids)
    cameras = torch.zeros(1), torch.ones(2)

    margin = objectives.rank_margin(
        search[0], Guides.from_features(*search, *cameras, metric="cosine")
    )

    assert bool(margin > 0) == fails
    assert margin.abs() < 1e-30


@pytest.mark.parametrize("metric", METRICS)
def test_the_margin_is_the_evaluators_distances_to_the_last_bit(metric):
    search = search_of(0, rows=40, items=50, length=64)
    guides = Guides.from_features(*search, metric=metric)
    exact = distances(*search[:2], metric)

    margins = objectives.rank_margin(search[0].requires_grad_(), guides)

    nearest = [
        exact.masked_fill(~mask, torch.inf).amin(dim=1)
        for mask in (guides.positives, guides.negatives)
    ]
    assert torch.equal(margins, nearest[0] - nearest[1])


@settings(max_examples=40, deadline=None)
@given(seed=seeds, metric=st.sampled_from(METRICS), junk=st.sampled_from(list(JUNK)))
def test_soft_ap_becomes_the_ap(seed, metric, junk):
    queries, gallery, *labels = search_of(seed, cameras=4)
    search = queries.double(), gallery.double(), *labels
    guides = Guides.from_features(*search, metric=metric, junk=junk)
    rows = guides.positives.any(dim=1) & guides.negatives.any(dim=1)
    matrix = distances(*search[:2], metric).tolist()
    _, precisions, _, _ = brute_force(matrix, *[label.tolist() for label in labels], junk=junk)

    values = [objectives.soft_ap(guides.clean, guides, t) for t in (1.0, 1e-7)]

    for row in rows.nonzero().flatten().tolist():
        assert -values[1][row] == pytest.approx(precisions[row], abs=1e-3)
        assert -1 <= values[0][row] < 0


def test_soft_ap_means_the_same_at_any_scale_of_euclidean_features():
    """With a temperature in plain distance units the sigmoids saturate: no gradient is left."""
    features, guides = guides_of(0, "euclidean")
    large = replace(guides, clean=1000 * guides.clean, gallery=1000 * guides.gallery)
    small, scaled = (
        objectives.soft_ap(features, guides),
        objectives.soft_ap(1000 * features, large),
    )

    torch.testing.assert_close(small, scaled)


@settings(max_examples=30, deadline=None)
@given(seed=seeds, k=st.integers(1, 25), junk=st.sampled_from(list(JUNK)))
def test_success_at_k_counts_places_in_the_list(seed, k, junk):
    search = search_of(seed, whole=True, cameras=4)
    guides = complete(Guides.from_features(*search, metric="euclidean", junk=junk), seed)
    matrix = distances(*search[:2], "euclidean")
    *_, lists = brute_force(matrix.tolist(), *[label.tolist() for label in search[2:]], junk=junk)

    up, down = (
        objectives.success_at_k(matrix, guides.chosen, ~guides.valid, k, promote=promote)
        for promote in (True, False)
    )

    for row, order in enumerate(lists):
        chosen = guides.chosen[row].nonzero().flatten().tolist()
        if not chosen:
            assert up[row].isnan() and down[row].isnan()
            continue
        within = sum(item in order[:k] for item in chosen) / len(chosen)
        assert (float(up[row]), float(down[row])) == pytest.approx((within, 1 - within))


def climbed(objective, features, guides, steps=300, rate=0.05):
    """Plain gradient ascent on the features themselves."""
    for _ in range(steps):
        features = features.detach().requires_grad_()
        gradient = torch.autograd.grad(objective(features, guides).sum(), features)[0]
        features = features.detach() + rate * F.normalize(gradient, dim=1)
    return features


@pytest.mark.parametrize("metric", METRICS)
def test_odfa_turns_the_feature_round(metric):
    """With the sign flipped, as in public code, the climb ends where it began, at cosine 1."""
    _, guides = guides_of(0, metric)
    noise = torch.randn(guides.clean.shape, generator=torch.Generator().manual_seed(0))
    start = guides.clean + 0.1 * noise

    turned = climbed(objectives.odfa, start, guides)
    flipped = climbed(lambda f, g: -objectives.odfa(f, g), start, guides)

    assert (F.cosine_similarity(turned, guides.clean) < -0.99).all()
    assert (F.cosine_similarity(flipped, guides.clean) > 0.99).all()


@pytest.mark.parametrize("name", ["self_metric", "odfa"])
@pytest.mark.parametrize("metric", METRICS)
def test_objectives_of_the_clean_feature_alone_need_a_random_start(name, metric):
    _, guides = guides_of(0, metric)
    features = guides.clean.clone().requires_grad_()

    TWINS[name][0](features, guides).sum().backward()

    assert features.grad.abs().max() < 1e-12


@pytest.mark.parametrize(("name", "promote"), [("QA+", True), ("QA-", False)])
def test_a_query_attack_moves_its_chosen_item_to_the_end_it_wants(name, promote):
    features, guides = guides_of(0, length=8, rows=3)
    middle = distances(features, guides.gallery, "cosine").masked_fill(~guides.valid, 9).argsort()
    chosen = torch.zeros_like(guides.valid).scatter(1, middle[:, 5:6], True)
    guides = replace(guides, chosen=chosen)

    moved = climbed(TWINS[name][0], features, guides)

    matrix = distances(moved, guides.gallery, "cosine")
    k = 1 if promote else 12
    success = objectives.success_at_k(matrix, chosen, ~guides.valid, k, promote=promote)
    assert (success == 1).all()


@pytest.mark.slow
def test_the_margin_breaks_rank_1_more_often_than_the_farthest_negative():
    """What the field's attack overlooks: at the same small step the nearest other is enough."""
    search = search_of(0, rows=200, items=300, length=16, people=20)
    pids, gallery_pids = search[2], search[3]
    centres = torch.randn(20, 16, generator=torch.Generator().manual_seed(7))
    queries, gallery = 0.5 * search[0] + centres[pids], 0.5 * search[1] + centres[gallery_pids]
    guides = Guides.from_features(queries, gallery, *search[2:], metric="cosine")

    broken = {}
    for name in ("farthest_negative", "rank_margin"):
        features = climbed(TWINS[name][0], queries, guides, steps=20, rate=0.08)
        broken[name] = int((objectives.rank_margin(features, guides) > 0).sum())

    assert broken["rank_margin"] > 1.2 * broken["farthest_negative"]
