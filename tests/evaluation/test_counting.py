"""Ranks counted tile by tile are those of the whole distance matrix, to the last bit."""

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from plugins.errors import InputError
from plugins.evaluation import counting, distances, evaluate_distances, evaluate_ranking
from plugins.evaluation.distance import Grid, on_cosine_grid
from plugins.evaluation.ranking import query_ranks
from plugins.protocol import CMC, JUNK
from tests.helpers.sides import sides_of

METRICS = ["cosine", "euclidean"]


def problem(seed, num_queries, num_gallery, length, people, ties=True):
    """Two sides; features of small whole numbers, so that many distances are equal."""
    generator = torch.Generator().manual_seed(seed)
    sizes = num_queries, num_gallery
    features = [torch.randn(size, length, generator=generator) for size in sizes]
    if ties:
        features = [each.round() for each in features]
    pids = [torch.randint(people, (size,), generator=generator) for size in sizes]
    camids = [torch.randint(1, 5, (size,), generator=generator) for size in sizes]
    return sides_of(*features, *pids, *camids)


def same(result, expected):
    for field in dataclasses.fields(expected):
        np.testing.assert_array_equal(getattr(result, field.name), getattr(expected, field.name))


@pytest.mark.slow
@settings(max_examples=150, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    num_queries=st.integers(1, 20),
    num_gallery=st.integers(1, 60),
    length=st.integers(1, 3),
    people=st.integers(1, 30),
    junk=st.sampled_from(list(JUNK)),
    cmc=st.sampled_from(CMC),
    metric=st.sampled_from(METRICS),
    tile=st.integers(1, 20),
    chunk=st.integers(1, 30),
    positives=st.integers(1, 100),
)
def test_tiles_give_the_ranks_of_the_whole_matrix(
    seed, num_queries, num_gallery, length, people, junk, cmc, metric, tile, chunk, positives
):
    query, gallery = problem(seed, num_queries, num_gallery, length, people)
    rules = {"junk": junk, "cmc": cmc}
    matrix = distances(query.features, gallery.features, metric)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(counting, "TILE_BYTES", 8 * length * tile)
        patch.setattr(counting, "MOST_POSITIVES", positives)
        patch.setattr(counting, "GROUP", 1 + tile % 5)
        patch.setattr(counting, "TIED_PAIRS", 3)
        try:
            expected = evaluate_distances(matrix, query, gallery, **rules)
        except InputError as error:
            with pytest.raises(InputError, match=str(error)[:40]):
                evaluate_ranking(query, gallery, metric=metric, chunk=chunk, **rules)
            return
        same(evaluate_ranking(query, gallery, metric=metric, chunk=chunk, **rules), expected)


@pytest.mark.slow
@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("threads", [1, 3])
def test_many_items_give_the_ranks_of_the_whole_matrix(metric, threads):
    query, gallery = problem(0, 300, 2500, 2, 11)  # tiles of 1000, and nearly all distances tie
    matrix = distances(query.features, gallery.features, metric)
    before = torch.get_num_threads()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(counting, "TILE_BYTES", 16_000)
        try:
            torch.set_num_threads(threads)
            result = evaluate_ranking(query, gallery, metric=metric)
        finally:
            torch.set_num_threads(before)
    same(result, evaluate_distances(matrix, query, gallery))


def test_a_part_of_the_queries_on_the_grid_of_all_is_a_part_of_the_ranks():
    query, gallery = problem(0, 40, 90, 5, 7, ties=False)
    query.features[0] *= 100  # its norm sets the grid
    whole = query_ranks(query, gallery, metric="euclidean")
    grid = Grid("euclidean", query.features, gallery.features)
    for cmc in CMC:
        whole = query_ranks(query, gallery, metric="euclidean", cmc=cmc)
        parts = [
            query_ranks(query.select(rows), gallery, metric="euclidean", cmc=cmc, grid=grid)
            for rows in torch.arange(40).split(13)
        ]
        for column, pieces in zip(whole, zip(*parts, strict=True), strict=True):
            np.testing.assert_array_equal(torch.cat(pieces), column)


@pytest.mark.parametrize("kind", [torch.float16, torch.float64, torch.int32])
def test_a_grid_holds_whole_multiples_of_its_step(kind):
    features = (10 * torch.randn(200, 9, generator=torch.Generator().manual_seed(0))).to(kind)
    grid = Grid("cosine", features)
    rows = grid.rows(features, slice(0, 200))
    assert torch.equal(rows, rows.round())
    assert torch.equal(rows * grid.step, on_cosine_grid(features))
    some = torch.tensor([3, 199, 3])
    assert torch.equal(grid.rows(features, some), rows[some])


@pytest.mark.slow
def test_a_nan_in_a_tile_that_holds_no_positive_is_an_error():
    query, gallery = problem(0, 5, 40, 4, 3, ties=False)
    gallery.pids[-1] = 99
    gallery.features[-1] = torch.nan
    with pytest.raises(InputError, match="a distance is NaN; expected finite features"):
        evaluate_ranking(query, gallery)
