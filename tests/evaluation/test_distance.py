"""Distances: fastreid's numbers, and the same bits however they are computed."""

import pytest
import torch
from fastreid.utils.compute_dist import build_dist
from hypothesis import given, settings
from hypothesis import strategies as st

from plugins.errors import InputError
from plugins.evaluation.distance import all_tie, distance_blocks, distances

METRICS = ["cosine", "euclidean"]


def random_features(number, length, seed, scale=1.0):
    return scale * torch.randn(number, length, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("metric", METRICS)
def test_distances_are_fastreids_up_to_float32(metric):
    queries, gallery = random_features(7, 64, seed=0), random_features(11, 64, seed=1)

    ours = distances(queries, gallery, metric)

    assert ours.dtype == torch.float32
    theirs = torch.from_numpy(build_dist(queries, gallery, metric))
    torch.testing.assert_close(ours, theirs, rtol=2e-6, atol=5e-7)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
def test_distances_are_closer_to_the_exact_ones_than_float32_arithmetic(metric, scale):
    queries = random_features(20, 128, seed=0, scale=scale)
    gallery = random_features(30, 128, seed=1, scale=scale)
    exact = torch.from_numpy(build_dist(queries.double(), gallery.double(), metric))
    theirs = torch.from_numpy(build_dist(queries, gallery, metric))

    ours = distances(queries, gallery, metric)

    assert (ours - exact).abs().max() <= (theirs - exact).abs().max()


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("length", [1, 3, 300])
def test_distances_do_not_depend_on_chunk_threads_or_company(metric, length):
    queries, gallery = random_features(33, length, seed=0), random_features(71, length, seed=1)
    queries[0] *= 10  # holds the largest norm, which sets the grid of "euclidean"
    # Near copies: their small distances would show the last bits of float64 arithmetic.
    gallery[:33] = queries * (1 + 1e-6 * random_features(33, length, seed=2))
    reference = distances(queries, gallery, metric)

    for chunk in (1, 2, 7, 32, 100):
        blocks = list(distance_blocks(queries, gallery, metric, chunk))
        assert [len(block) for block in blocks[:-1]] == [chunk] * (len(blocks) - 1)
        assert torch.equal(torch.cat(blocks), reference)

    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        assert torch.equal(distances(queries, gallery, metric), reference)
    finally:
        torch.set_num_threads(threads)

    assert torch.equal(distances(queries[:5], gallery[3:4], metric), reference[:5, 3:4])


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 2**16),
    number=st.integers(1, 40),
    length=st.integers(1, 200),
    metric=st.sampled_from(METRICS),
)
def test_equal_gallery_features_have_equal_distances(seed, number, length, metric):
    gallery = random_features(number, length, seed)
    queries = random_features(5, length, seed + 1)

    doubled = distances(queries, torch.cat([gallery, gallery.flip(0)]), metric)

    assert torch.equal(doubled[:, :number], doubled[:, number:].flip(1))


def test_squared_euclidean_distance_of_equal_features_is_zero_and_never_negative():
    features = random_features(50, 100, seed=0, scale=30)

    matrix = distances(features, features, "euclidean")

    assert torch.equal(matrix.diagonal(), torch.zeros(50))
    assert torch.equal(matrix, matrix.T)
    assert matrix.min() == 0


def test_known_distances():
    queries = torch.tensor([[3.0, 0.0], [0.0, 0.0]])
    gallery = torch.tensor([[6.0, 0.0], [0.0, 4.0], [-1.0, 0.0]])

    assert distances(queries, gallery, "cosine").tolist() == [[0, 1, 2], [1, 1, 1]]
    assert distances(queries, gallery, "euclidean").tolist() == [[9, 25, 16], [36, 16, 1]]


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize(("num_queries", "num_gallery"), [(0, 0), (0, 3), (3, 0)])
def test_an_empty_side_gives_an_empty_matrix(metric, num_queries, num_gallery):
    matrix = distances(torch.zeros(num_queries, 4), torch.zeros(num_gallery, 4), metric)

    assert matrix.shape == (num_queries, num_gallery)


def test_an_unknown_metric_names_the_known_ones():
    with pytest.raises(InputError, match=r"TEST.METRIC: 'cosin'; expected cosine or eucl"):
        distances(torch.zeros(1, 2), torch.zeros(1, 2), "cosin")


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
class TestTies:
    @pytest.mark.parametrize("feature", [torch.zeros(5), torch.arange(5.0), torch.full((5,), 1e-9)])
    def test_equal_features_tie_whatever_they_are(self, metric, feature):
        assert all_tie(feature.expand(9, -1), feature.expand(130, -1), metric)

    def test_a_constant_gallery_ties_for_any_query(self, metric):
        assert all_tie(random_features(70, 5, 0), torch.ones(3, 5), metric)

    @pytest.mark.parametrize("place", [0, 1, 63, 64, 199])
    def test_one_other_item_breaks_the_tie_wherever_it_is(self, metric, place):
        gallery = torch.ones(200, 4)
        gallery[place] = torch.tensor([1.0, 0.0, 0.0, 0.0])
        queries = torch.ones(70, 4)
        assert not all_tie(queries, gallery, metric)
        queries[:69] = 0  # of these the cosine is 0 to every item
        assert not all_tie(queries, gallery, metric)

    def test_features_that_tell_items_apart_do_not_tie(self, metric):
        for scale in (1e-4, 1.0, 1e4):
            assert not all_tie(
                random_features(5, 8, 1, scale), random_features(9, 8, 2, scale), metric
            )

    def test_one_item_and_no_query_tie_with_nothing(self, metric):
        assert not all_tie(torch.zeros(3, 2), torch.zeros(1, 2), metric)
        assert not all_tie(torch.zeros(0, 2), torch.zeros(4, 2), metric)
