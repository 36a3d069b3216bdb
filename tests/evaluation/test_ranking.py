"""Ranking: against the definition, fastreid and scikit-learn, and at its edges."""

import functools
import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from fastreid.evaluation.rank import evaluate_rank
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score

from plugins.errors import InputError
from plugins.evaluation.distance import distances
from plugins.evaluation.ranking import (
    evaluate_distances,
    evaluate_ranking,
    ranked_lists,
)
from plugins.evaluation.ranks import sort_keys
from plugins.protocol import CMC, JUNK, Direction, Trial
from tests.helpers.brute_force import brute_force
from tests.helpers.sides import labeled, sides_of


@st.composite
def problems(draw, levels=6):
    """A (Q, G) distance matrix with ``levels`` values, so mostly ties, and its four label vectors.

    With ``levels=None`` all distances differ.
    """
    seed = draw(st.integers(0, 2**32 - 1))
    num_queries, num_gallery = draw(st.integers(1, 6)), draw(st.integers(1, 40))
    num_persons, num_cameras = draw(st.integers(1, 5)), draw(st.integers(1, 4))
    random = np.random.default_rng(seed)
    size = num_queries * num_gallery
    values = random.permutation(size) if levels is None else random.integers(levels, size=size)
    matrix = values.reshape(num_queries, num_gallery).astype(np.float32) - 2
    labels = [
        random.integers(number, size=length)
        for number in (num_persons, num_cameras)
        for length in (num_queries, num_gallery)
    ]
    return matrix, labels


def tensors(arrays):
    return [torch.from_numpy(array) for array in arrays]


def same_person_and_camera(labels):
    query_pids, gallery_pids, query_camids, gallery_camids = labels
    person = query_pids[:, None] == gallery_pids
    return person & (query_camids[:, None] == gallery_camids)


def has_a_valid_query(labels):
    same_person = labels[0][:, None] == labels[1]
    return bool((same_person & ~same_person_and_camera(labels)).any())


@pytest.mark.slow
@settings(max_examples=400, deadline=None)
@given(
    problem=problems(),
    chunk=st.integers(1, 7),
    max_rank=st.integers(1, 50),
    junk=st.sampled_from(list(JUNK)),
    cmc=st.sampled_from(CMC),
)
def test_scores_follow_the_definition_with_ties_in_gallery_order(
    problem, chunk, max_rank, junk, cmc
):
    matrix, labels = problem
    rules = {"max_rank": max_rank, "junk": junk, "cmc": cmc}
    curve, precisions, penalties, _ = brute_force(matrix.tolist(), *labels, **rules)
    if set(precisions) == {None}:
        with pytest.raises(InputError, match=f"none of the {len(matrix)} queries"):
            evaluate_distances(torch.from_numpy(matrix), *labeled(*tensors(labels)), junk=junk)
        return

    result = evaluate_distances(
        torch.from_numpy(matrix), *labeled(*tensors(labels)), chunk=chunk, **rules
    )

    valid = [precision is not None for precision in precisions]
    assert result.valid.tolist() == valid
    assert result.num_valid == sum(valid)
    assert result.cmc.dtype == result.average_precision.dtype == torch.float64
    np.testing.assert_allclose(result.cmc, curve, rtol=1e-14)
    np.testing.assert_allclose(
        result.average_precision, np.array(precisions, dtype=float), rtol=1e-14
    )
    np.testing.assert_allclose(
        result.inverse_negative_penalty, np.array(penalties, dtype=float), rtol=1e-14
    )
    kept = [precision for precision in precisions if precision is not None]
    assert result.mean_average_precision == pytest.approx(np.mean(kept), rel=1e-13)


@pytest.mark.slow
@settings(max_examples=250, deadline=None)
@given(problem=problems(levels=None))
def test_scores_are_fastreids_without_ties(problem):
    matrix, labels = problem
    assume(has_a_valid_query(labels))
    # fastreid fails when a list without junk is shorter than its CMC.
    shortest = int((~same_person_and_camera(labels)).sum(axis=1).min())
    assume(shortest > 0)
    cmc, precisions, penalties = evaluate_rank(matrix, *labels, max_rank=shortest, use_cython=False)

    result = evaluate_distances(
        torch.from_numpy(matrix), *labeled(*tensors(labels)), max_rank=shortest
    )

    np.testing.assert_allclose(result.cmc, cmc, atol=1e-6)  # theirs is float32
    np.testing.assert_allclose(result.average_precision[result.valid], precisions, rtol=1e-12)
    np.testing.assert_allclose(result.inverse_negative_penalty[result.valid], penalties, rtol=1e-12)


def test_average_precision_is_scikit_learns():
    random = np.random.default_rng(0)
    matrix = torch.from_numpy(random.permutation(2000).reshape(4, 500).astype(np.float32))
    query_pids, gallery_pids = torch.arange(4), torch.from_numpy(random.integers(4, size=500))
    cameras = torch.zeros(4, dtype=torch.int64), torch.ones(500, dtype=torch.int64)

    result = evaluate_distances(matrix, *labeled(query_pids, gallery_pids, *cameras))

    expected = [
        average_precision_score(gallery_pids == pid, -row)
        for pid, row in zip(query_pids, matrix, strict=True)
    ]
    np.testing.assert_allclose(result.average_precision, expected, rtol=1e-12)


def random_set(num_queries=30, num_gallery=90, length=16, seed=0):
    """Features of six persons under four cameras, a quarter of the gallery repeated, and labels."""
    generator = torch.Generator().manual_seed(seed)
    sizes = (num_queries, num_gallery)
    pids = [torch.randint(6, (size,), generator=generator) for size in sizes]
    camids = [torch.randint(4, (size,), generator=generator) for size in sizes]
    queries, gallery = (torch.randn(size, length, generator=generator) for size in sizes)
    gallery[-(num_gallery // 4) :] = gallery[: num_gallery // 4]
    return queries, gallery, *pids, *camids


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
@pytest.mark.parametrize(("junk", "cmc"), [("camera", "item"), ("sysu", "identity")])
def test_scores_do_not_depend_on_the_chunk(metric, junk, cmc):
    arguments = random_set(num_gallery=400)  # some 50 positives, of a number that varies
    options = {"metric": metric, "junk": junk, "cmc": cmc}
    reference = evaluate_ranking(*sides_of(*arguments), **options)

    for chunk in (1, 7, 29, 30, 1000):
        result = evaluate_ranking(*sides_of(*arguments), **options, chunk=chunk)
        for name in ("cmc", "average_precision", "inverse_negative_penalty"):
            np.testing.assert_array_equal(getattr(result, name), getattr(reference, name))


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_features_and_their_distance_matrix_give_the_same_scores(metric):
    queries, gallery, *labels = random_set()

    of_features = evaluate_ranking(*sides_of(queries, gallery, *labels), metric=metric)
    of_matrix = evaluate_distances(distances(queries, gallery, metric), *labeled(*labels))

    np.testing.assert_array_equal(of_features.average_precision, of_matrix.average_precision)


def test_repeated_gallery_features_keep_the_order_of_the_gallery():
    gallery = torch.randn(1, 33, generator=torch.Generator().manual_seed(0)).repeat(50, 1)
    queries = torch.randn(9, 33, generator=torch.Generator().manual_seed(1))
    labels = torch.zeros(9), torch.arange(50) % 5, torch.zeros(9), torch.ones(50)

    indices, _ = ranked_lists(*sides_of(queries, gallery, *labels), length=50)
    result = evaluate_ranking(*sides_of(queries, gallery, *labels))

    assert torch.equal(indices, torch.arange(50).expand(9, 50))
    expected = np.mean([k / rank for k, rank in enumerate(range(1, 51, 5), start=1)])
    np.testing.assert_allclose(result.average_precision, expected)


def test_camera_3_of_sysu_sees_nobody_on_camera_2():
    """Query 0 loses its whole gallery, query 1 keeps what its own person and camera show."""
    gallery_pids, gallery_camids = torch.tensor([1, 1, 2]), torch.tensor([2, 2, 2])
    query_pids, query_camids = torch.tensor([1, 1, 2]), torch.tensor([3, 2, 6])

    result = evaluate_distances(
        torch.tensor([[0.0, 1.0, 2.0]] * 3),
        *labeled(query_pids, gallery_pids, query_camids, gallery_camids),
        junk="sysu",
        cmc="identity",
    )

    assert result.valid.tolist() == [False, True, True]
    assert result.cmc.tolist() == [0.5] + [1.0] * 19  # two people: the second query's comes second
    assert result.average_precision[1:].tolist() == [1, 1 / 3]  # items still count here
    assert result.inverse_negative_penalty[1:].tolist() == [1, 1 / 3]


def test_fewer_people_than_ranks_repeat_the_last_value_of_the_cmc_of_identities():
    pids = torch.arange(5)

    result = evaluate_distances(
        torch.arange(5.0).expand(5, 5),
        *labeled(pids, pids, torch.zeros(5), torch.ones(5)),
        cmc="identity",
    )

    np.testing.assert_allclose(result.cmc, [0.2, 0.4, 0.6, 0.8] + [1.0] * 16)


def test_a_data_set_may_name_every_rule_that_there_is_and_no_other():
    trials = (Trial(np.arange(1), np.arange(1, 2)),)
    for junk in JUNK:
        for cmc in CMC:
            Direction(trials, junk, cmc)
    for wrong in ({"junk": "market"}, {"cmc": "market"}):
        with pytest.raises(AssertionError, match="market"):
            Direction(trials, **wrong)
    with pytest.raises(AssertionError, match="trial"):
        Direction(())


@pytest.mark.parametrize(("option", "known"), [("junk", JUNK), ("cmc", CMC)])
def test_an_unknown_rule_is_answered_with_the_known_ones(option, known):
    one = torch.ones(1, dtype=torch.int64)

    with pytest.raises(InputError, match=", ".join(known)):
        evaluate_distances(torch.ones(1, 1), *labeled(one, one, one, one), **{option: "market"})


def test_a_short_gallery_repeats_the_last_value_of_the_cmc():
    matrix = torch.tensor([[0.0, 1.0], [1.0, 0.0]])

    result = evaluate_distances(
        matrix,
        *labeled(torch.zeros(2), torch.tensor([0, 1]), torch.zeros(2), torch.ones(2)),
        max_rank=20,
    )

    assert result.cmc.tolist() == [0.5] + [1.0] * 19


def test_a_gallery_of_one_is_ranked():
    one = torch.ones(1, dtype=torch.int64)

    result = evaluate_ranking(*sides_of(*torch.randn(2, 1, 4), one, one, one, 2 * one))

    assert (result.cmc == 1).all()
    assert result.mean_average_precision == result.mean_inverse_negative_penalty == 1


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
@pytest.mark.parametrize(("num_queries", "num_gallery"), [(0, 0), (0, 3), (3, 0), (3, 3)])
def test_no_valid_query_is_an_error_not_a_nan(num_queries, num_gallery, metric):
    queries, gallery = torch.ones(num_queries, 4), torch.ones(num_gallery, 4)
    pids_and_camids = [torch.zeros(num_queries), torch.zeros(num_gallery)] * 2

    with pytest.raises(InputError, match=f"none of the {num_queries} queries has a gallery item"):
        evaluate_ranking(*sides_of(queries, gallery, *pids_and_camids), metric=metric)


def test_a_nan_distance_is_an_error():
    matrix = torch.tensor([[0.0, float("nan")]])

    with pytest.raises(InputError, match="NaN"):
        labels = torch.zeros(1), torch.zeros(2), torch.zeros(1), torch.ones(2)
        evaluate_distances(matrix, *labeled(*labels))


@settings(max_examples=60, deadline=None)
@given(
    values=st.lists(st.floats(width=32, allow_nan=False) | st.sampled_from([0.0, -0.0]), min_size=1)
)
def test_sort_keys_sort_as_distance_then_index(values):
    keys = sort_keys(torch.tensor([values]))[0].tolist()

    expected = sorted(range(len(values)), key=lambda index: (values[index], index))
    assert sorted(range(len(values)), key=lambda index: keys[index]) == expected
    assert len(set(keys)) == len(keys)


@settings(max_examples=50, deadline=None)
@given(
    seed=st.integers(0, 2**16),
    length=st.integers(1, 30),
    chunk=st.integers(1, 5),
    junk=st.sampled_from(list(JUNK)),
)
def test_ranked_lists_are_the_nearest_items_without_junk(seed, length, chunk, junk):
    queries, gallery, *labels = random_set(num_queries=8, num_gallery=20, length=5, seed=seed)
    matrix = distances(queries, gallery, "cosine")
    *_, expected = brute_force(matrix.tolist(), *[label.tolist() for label in labels], junk=junk)

    sides = sides_of(queries, gallery, *labels)
    indices, values = ranked_lists(*sides, length=length, junk=junk, chunk=chunk)

    assert indices.shape == values.shape == (8, min(length, 20))
    for row, order in enumerate(expected):
        shown = order[:length]
        assert indices[row, : len(shown)].tolist() == shown
        assert torch.equal(values[row, : len(shown)], matrix[row, shown])
        assert (indices[row, len(shown) :] == -1).all()
        assert values[row, len(shown) :].isinf().all()


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"features": np.ones((3, 4))}, "features of the gallery are a ndarray; expected a torch."),
        ({"features": torch.ones(3)}, r"features of the gallery are of shape (3,); expected (N"),
        ({"features": torch.ones(3, 5)}, "have length 4, those of the gallery 5; expected one len"),
        ({"features": torch.ones(3, 4, dtype=torch.cfloat)}, "are of torch.complex64; expected re"),
        ({"features": torch.full((3, 4), torch.nan)}, "a distance is NaN; expected finite"),
        ({"pids": torch.zeros(2)}, "pids of the gallery are of shape (2,); expected (3,), one for"),
        ({"camids": [0, 0, 0]}, "camids of the gallery are a list; expected a torch.Tensor"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("search", [evaluate_ranking, functools.partial(ranked_lists, length=2)])
def test_a_side_that_cannot_be_searched_is_told(search, change, told):
    labels = torch.zeros(2), torch.zeros(3), torch.ones(2), torch.zeros(3)
    query, gallery = sides_of(torch.ones(2, 4), torch.ones(3, 4), *labels)
    search(query, gallery)
    with pytest.raises(InputError, match=re.escape(told)):
        search(query, replace(gallery, **change))
    with pytest.raises(InputError, match="chunk 0; expected 1 or more, a whole number"):
        search(query, gallery, chunk=0)


@pytest.mark.parametrize("length", [-1, 0, 1.5])
def test_a_list_has_one_item_or_more(length):
    sides = sides_of(torch.ones(2, 4), torch.ones(3, 4), *[torch.zeros(n) for n in (2, 3, 2, 3)])
    with pytest.raises(InputError, match=rf"length {length}; expected 1 or more"):
        ranked_lists(*sides, length=length)


@pytest.mark.parametrize("max_rank", [-1, 0, 1.5, None, True])
def test_a_cmc_has_one_rank_or_more(max_rank):
    torch.manual_seed(0)
    labels = torch.tensor([0, 1]), torch.tensor([0, 1, 0]), torch.zeros(2), torch.ones(3)
    query, gallery = sides_of(torch.randn(2, 4), torch.randn(3, 4), *labels)
    with pytest.raises(InputError, match=rf"max_rank {max_rank}; expected 1 or more"):
        evaluate_ranking(query, gallery, max_rank=max_rank)
    with pytest.raises(InputError, match=rf"max_rank {max_rank}; expected 1 or more"):
        evaluate_distances(torch.rand(2, 3), query, gallery, max_rank=max_rank)
    with pytest.raises(InputError, match=r"of the gallery are of torch\.complex64; expected real"):
        evaluate_ranking(query, gallery.with_features(gallery.features.to(torch.complex64)))
