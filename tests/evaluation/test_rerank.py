"""Re-ranking against the paper's equations, against fastreid, and at its edges."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from fastreid.utils.compute_dist import build_dist, compute_jaccard_distance
from hypothesis import given, settings
from hypothesis import strategies as st

from plugins.errors import InputError
from plugins.evaluation import evaluate_distances, evaluate_ranking
from plugins.evaluation.distance import distances
from plugins.evaluation.ranks import sort_keys
from plugins.evaluation.rerank import rerank, search
from tests.helpers.sides import labeled, sides_of


def crowd(number, people, seed=0, length=8, spread=0.7):
    """Features around a center per person, and the persons."""
    generator = torch.Generator().manual_seed(seed)
    pids = torch.randint(people, (number,), generator=generator)
    centres = torch.randn(people, length, generator=generator)
    return centres[pids] + spread * torch.randn(number, length, generator=generator), pids


def by_the_equations(features, num_queries, k1, k2, lambda_value, metric):
    """(Q, G) of the paper's equations, one item at a time, sets as sets, all matrices dense."""
    plain = distances(features, features, metric).double().numpy()
    unit = F.normalize(features.double(), dim=1) if metric == "cosine" else features.double()
    squared = torch.cdist(unit, unit, compute_mode="donot_use_mm_for_euclid_dist").square().numpy()
    items = range(len(features))
    order = [sorted(items, key=lambda g, p=p: (g != p, plain[p, g], g))[:k1] for p in items]

    def near(p, k):  # Eq. 2; an item is its own first neighbor
        return set(order[p][:k])

    def mutual(p, k):  # Eq. 3
        return {g for g in near(p, k) if p in near(g, k)}

    encoded = np.zeros(squared.shape)
    for p in items:
        expanded = set(mutual(p, k1))
        for q in mutual(p, k1):  # Eq. 4
            half = mutual(q, round(k1 / 2) + 1)
            if 3 * len(half & mutual(p, k1)) > 2 * len(half):
                expanded |= half
        for g in expanded:  # Eq. 7
            encoded[p, g] = np.exp(-squared[p, g])
        encoded[p] /= encoded[p].sum()
    encoded = np.stack([encoded[order[p][:k2]].mean(axis=0) for p in items])  # Eq. 11
    minima = np.minimum(encoded[:, None], encoded).sum(axis=2)
    maxima = np.maximum(encoded[:, None], encoded).sum(axis=2)
    final = (1 - lambda_value) * (1 - minima / maxima) + lambda_value * plain  # Eq. 10, 12
    return final[:num_queries, num_queries:]


def close(found, expected):
    torch.testing.assert_close(found.double(), torch.as_tensor(expected), atol=2e-6, rtol=1e-5)


@pytest.mark.slow
@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    num_queries=st.integers(1, 12),
    num_gallery=st.integers(1, 28),
    k1=st.integers(1, 24),
    k2=st.integers(1, 8),
    lambda_value=st.sampled_from([0.0, 0.3, 1.0]),
    metric=st.sampled_from(["cosine", "euclidean"]),
    tied=st.booleans(),
)
def test_it_is_what_the_papers_equations_say(
    seed, num_queries, num_gallery, k1, k2, lambda_value, metric, tied
):
    features, _ = crowd(num_queries + num_gallery, people=4, seed=seed)
    if tied:
        features = features.round() + 0.25  # small whole numbers, so that many are equal
    parameters = {"k1": k1, "k2": k2, "lambda_value": lambda_value, "metric": metric}
    found = rerank(features[:num_queries], features[num_queries:], **parameters)
    assert found.shape == (num_queries, num_gallery)
    close(found, by_the_equations(features, num_queries, **parameters))


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
@pytest.mark.parametrize(("k1", "k2"), [(20, 6), (7, 1), (6, 3), (5, 5)])
def test_it_is_fastreids_jaccard_distance(metric, k1, k2):
    """fastreid's function on its CPU road, mixed as its evaluator mixes it."""
    features, _ = crowd(160, people=12)
    queries, gallery = features[:40], features[40:]
    unit = F.normalize(features, dim=1) if metric == "cosine" else features
    jaccard = compute_jaccard_distance(unit, k1=k1, k2=k2, search_option=3)[:40, 40:]
    expected = jaccard * (1 - 0.3) + build_dist(queries, gallery, metric) * 0.3
    found = rerank(queries, gallery, k1=k1, k2=k2, lambda_value=0.3, metric=metric)
    close(found, expected.astype(np.float64))


def test_the_whole_of_lambda_is_the_plain_distance_and_none_of_it_the_jaccard_distance():
    features, _ = crowd(60, people=5)
    queries, gallery = features[:20], features[20:]
    plain = rerank(queries, gallery, k1=8, k2=3, lambda_value=1.0)
    assert torch.equal(plain, distances(queries, gallery, "cosine"))
    jaccard = rerank(queries, gallery, k1=8, k2=3, lambda_value=0.0)
    assert jaccard.min() >= 0
    assert jaccard.max() == 1  # people without a common neighbor


def test_it_lifts_the_scores_of_people_who_form_groups():
    features, pids = crowd(300, people=15, spread=0.9)
    camids = torch.arange(300) % 6
    queries, gallery = features[:60], features[60:]
    labels = pids[:60], pids[60:], camids[:60], camids[60:]
    before = evaluate_ranking(*sides_of(queries, gallery, *labels))
    matrix = rerank(queries, gallery, k1=20, k2=6, lambda_value=0.3)
    after = evaluate_distances(matrix, *labeled(*labels))
    assert after.mean_average_precision > before.mean_average_precision + 0.05


def test_more_equal_features_than_neighbors_are_no_trouble():
    features = torch.ones(50, 4)
    found = rerank(features[:10], features[10:], k1=5, k2=2, lambda_value=0.3)
    assert found.isfinite().all()
    neighbors, _ = search((features[:10], features[10:]), 5, "cosine")
    assert neighbors[0].tolist() == [0, 1, 2, 3, 4]
    assert neighbors[7].tolist() == [7, 0, 1, 2, 3]


def test_items_with_the_same_neighbors_are_no_less_than_0_apart():
    """In float64 their minima add up to a little more than 1."""
    features = torch.randn(5, 8, generator=torch.Generator().manual_seed(0)).repeat(9, 1)
    found = rerank(features[:5], features[5:], k1=9, k2=9, lambda_value=0.0)
    assert found.min() == 0


def test_far_features_leave_no_row_of_weights_empty():
    features, _ = crowd(30, people=30)
    found = rerank(
        1e4 * features[:9], 1e4 * features[9:], k1=6, k2=3, lambda_value=0.0, metric="euclidean"
    )
    assert found.isfinite().all()


def test_threads_change_no_bit():
    features, _ = crowd(400, people=20, length=64)
    threads = torch.get_num_threads()
    found = []
    try:
        for number in (1, 2):
            torch.set_num_threads(number)
            found.append(rerank(features[:100], features[100:], k1=20, k2=6, lambda_value=0.3))
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(*found)


def test_features_are_left_as_they_were():
    features, _ = crowd(30, people=3)
    before = features.clone()
    rerank(features[:10], features[10:], k1=5, k2=2, lambda_value=0.3)
    assert torch.equal(features, before)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"k1": 0}, r"TEST\.RERANK\.K1: 0; expected 1 or more"),
        ({"k2": -1}, r"TEST\.RERANK\.K2: -1"),
        ({"lambda_value": 1.5}, r"TEST\.RERANK\.LAMBDA: 1\.5; expected 0 to 1"),
        ({"metric": "manhattan"}, r"TEST\.METRIC: 'manhattan'; expected cosine"),
    ],
)
def test_a_parameter_out_of_range_is_named(change, message):
    features = torch.randn(6, 4)
    parameters = {"k1": 3, "k2": 2, "lambda_value": 0.3} | change
    with pytest.raises(InputError, match=message):
        rerank(features[:2], features[2:], **parameters)


@pytest.mark.slow
@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    rows=st.integers(1, 30),
    num_queries=st.integers(0, 25),
    metric=st.sampled_from(["cosine", "euclidean"]),
)
def test_neighbors_do_not_depend_on_the_blocks(seed, rows, num_queries, metric):
    features, _ = crowd(60, people=4, length=3, seed=seed)
    features = features.round() + 0.25  # many are equal
    sides = features[:num_queries], features[num_queries:]
    matrix = distances(features, features, metric)
    matrix.fill_diagonal_(-torch.inf)
    expected = sort_keys(matrix).argsort(dim=1)[:, :7]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("plugins.evaluation.rerank.BLOCK_BYTES", 8 * 3 * rows)
        neighbors, plain = search(sides, 7, metric)
    assert torch.equal(torch.from_numpy(neighbors), expected)
    assert torch.equal(plain, matrix[:num_queries, num_queries:])
