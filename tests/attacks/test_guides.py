import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from plugins.attacks.guides import Guides, compared
from plugins.attacks.objectives import nearest_push_pull, rank_margin
from plugins.errors import InputError
from plugins.protocol import JUNK
from tests.helpers.brute_force import is_junk
from tests.helpers.retrieval_toys import METRICS, guides_of, search_of, seeds


@settings(max_examples=50, deadline=None)
@given(seed=seeds, junk=st.sampled_from(list(JUNK)), metric=st.sampled_from(METRICS))
def test_masks_follow_the_junk_rule_pair_by_pair(seed, junk, metric):
    queries, gallery, *labels = search_of(seed, cameras=4)
    guides = Guides.from_features(queries, gallery, *labels, metric=metric, junk=junk)
    pids, gallery_pids, camids, gallery_camids = (label.tolist() for label in labels)

    for row, pid in enumerate(pids):
        for item, other in enumerate(gallery_pids):
            seen = not is_junk(junk, pid, other, camids[row], gallery_camids[item])
            assert guides.valid[row, item] == seen
            assert guides.positives[row, item] == (seen and pid == other)
            assert guides.negatives[row, item] == (seen and pid != other)


def test_guides_carry_no_gradient_and_say_where_they_came_from():
    queries, gallery, *labels = search_of(0)
    guides = Guides.from_features(
        queries.requires_grad_(), gallery.requires_grad_(), *labels, metric="cosine"
    )

    assert not guides.clean.requires_grad and not guides.gallery.requires_grad
    assert guides.source == "gallery"
    assert guides.select(torch.tensor([1])).source == "gallery"
    assert guides.centroids.source == "centroids of gallery"


def test_guides_from_the_queries_must_say_so():
    """A user who has no gallery cannot leave the report thinking that there was one."""
    features, _, pids, *_ = search_of(0)

    with pytest.raises(TypeError, match="source"):
        Guides.among(features, pids, metric="cosine")
    assert Guides.among(features, pids, metric="cosine", source="query").source == "query"


@pytest.mark.parametrize("metric", METRICS)
def test_a_row_is_never_its_own_positive(metric):
    """Naive masks count the anchor as its nearest positive, at distance 0: no margin is above 0."""
    features = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.9, 0.1]])
    pids = torch.tensor([0, 0, 1])
    naive = Guides(
        pids, features, features, pids, torch.ones(3, 3, dtype=torch.bool), metric, "query"
    )

    guides = Guides.among(features, pids, metric=metric, source="query")
    camera = Guides.from_features(
        features, features, pids, pids, pids, pids, metric=metric, source="query"
    )

    assert not guides.positives.diagonal().any() and not camera.positives.diagonal().any()
    assert guides.positives.sum(dim=1).tolist() == [1, 1, 0]
    assert (rank_margin(features, naive) <= 0).all()
    assert (rank_margin(features, guides) > 0).tolist() == [True, True, False]
    # One camera, no other item of the person: nothing is left to be found.
    assert (rank_margin(features, camera) == 0).all()
    assert (nearest_push_pull(features, camera) == 0).all()


@settings(max_examples=25, deadline=None)
@given(seed=seeds, metric=st.sampled_from(METRICS))
def test_a_row_is_the_same_alone(seed, metric):
    features, guides = guides_of(seed, metric)
    whole = nearest_push_pull(features, guides)
    rows = torch.tensor([4, 1])

    chosen = guides.select(rows)

    torch.testing.assert_close(nearest_push_pull(features[rows], chosen), whole[rows])
    for name in ("pids", "clean", "valid", "positives", "negatives"):
        assert torch.equal(getattr(chosen, name), getattr(guides, name)[rows])
    mask = torch.zeros(len(features), dtype=torch.bool).index_fill(0, rows, True)
    assert torch.equal(guides.select(mask).pids, guides.pids[[1, 4]])


@settings(max_examples=25, deadline=None)
@given(seed=seeds, metric=st.sampled_from(METRICS), junk=st.sampled_from(list(JUNK)))
def test_centroids_are_means_by_person(seed, metric, junk):
    _, guides = guides_of(seed, metric, junk, cameras=4)

    centroids = guides.centroids

    people = sorted(set(guides.gallery_pids.tolist()))
    assert centroids.gallery_pids.tolist() == people
    for place, person in enumerate(people):
        items = [i for i, pid in enumerate(guides.gallery_pids.tolist()) if pid == person]
        mean = sum(compared(guides.gallery, metric)[i] for i in items) / len(items)
        torch.testing.assert_close(centroids.gallery[place], mean)
        assert torch.equal(centroids.valid[:, place], guides.valid[:, items].any(dim=1))


def test_no_row_is_allowed_and_no_item_is_not():
    features, guides = guides_of()

    none = guides.select(torch.tensor([], dtype=torch.int64))

    assert none.positives.shape == (0, len(guides.gallery))
    assert nearest_push_pull(features[:0], none).shape == (0,)
    empty = torch.zeros(0, dtype=torch.int64)
    with pytest.raises(AssertionError):
        Guides.from_features(
            features, features[:0], guides.pids, empty, guides.pids, empty, metric="cosine"
        )


def test_an_unknown_junk_rule_is_answered_with_the_known_ones():
    with pytest.raises(InputError, match=", ".join(JUNK)):
        guides_of(junk="market")
