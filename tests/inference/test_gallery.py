"""A search equals brute force, ties included, whatever was added, removed, saved and loaded."""

import csv
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from plugins.errors import InputError
from plugins.evaluation import Side, ranked_lists
from plugins.evaluation.rerank import rerank
from plugins.inference import Features, Gallery, compare, find_threshold
from plugins.inference.lists import COLUMNS
from tests.helpers.lots import lot


def brute_force(query, gallery, top, metric, junk):
    """Slow and obvious: float64 distances in Python, sorted stably."""
    lists = []
    for row, feature in enumerate(query.features.astype(np.float64)):
        entries = []
        for column, item in enumerate(gallery.features.astype(np.float64)):
            same = query.person[row] == gallery.person[column] != ""
            if junk == "camera" and same and query.camera[row] == gallery.camera[column]:
                continue
            if metric == "cosine":
                product = sum(a * b for a, b in zip(feature, item, strict=True))
                distance = 1 - product / np.linalg.norm(feature) / np.linalg.norm(item)
            else:
                distance = sum((a - b) ** 2 for a, b in zip(feature, item, strict=True))
            entries.append((round(distance, 7), column))
        lists.append([column for _, column in sorted(entries)[:top]])
    return lists


@given(
    seed=st.integers(0, 10_000),
    top=st.integers(1, 40),
    metric=st.sampled_from(["cosine", "euclidean"]),
    junk=st.sampled_from(["none", "camera"]),
    pool=st.sampled_from([2, 9, 1000]),
)
@settings(max_examples=40)
def test_a_search_is_brute_force_with_ties(seed, top, metric, junk, pool):
    query, gallery = lot(5, seed, "q"), lot(60, seed + 1, "g", pool=pool)
    found = Gallery(gallery, metric).search(query, top, junk=junk)
    expected = brute_force(query, gallery, top, metric, junk)
    assert [row[row >= 0].tolist() for row in found.rows] == expected
    near = np.sort(found.distances, axis=1)
    assert np.array_equal(near, found.distances)


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_a_large_gallery_of_near_ties_is_ranked_as_the_evaluator_ranks_it(metric):
    """The index alone would order them by its rounding."""
    generator = np.random.default_rng(0)
    base = generator.normal(size=(1, 64))
    crowd = base + 1e-7 * generator.normal(size=(3000, 64))  # float32 hardly tells them apart
    query = lot(4, 0, "q", features=(base + generator.normal(size=(4, 64))).astype(np.float32))
    items = lot(3000, 1, "g", features=crowd.astype(np.float32))
    found = Gallery(items, metric).search(query, 20, junk="camera")
    people = {name: number for number, name in enumerate(np.unique([*query.person, *items.person]))}

    def side(each):
        return Side(
            torch.from_numpy(each.features),
            torch.tensor([people[name] for name in each.person]),
            torch.tensor([int(name) for name in each.camera]),
        )

    rows, near = ranked_lists(side(query), side(items), length=20, metric=metric, junk="camera")
    assert np.array_equal(found.rows, rows.numpy())
    assert np.array_equal(found.distances, near.numpy())


def test_reranked_lists_are_those_of_the_evaluator():
    query, items = lot(6, 0, "q"), lot(50, 1, "g")
    keys = {"k1": 8, "k2": 3, "lambda_value": 0.3}
    found = Gallery(items).search(query, 7, rerank=keys)
    near = rerank(torch.from_numpy(query.features), torch.from_numpy(items.features), **keys)
    order = near.argsort(dim=1, stable=True)[:, :7]
    assert np.array_equal(found.rows, order.numpy())
    assert np.array_equal(found.distances, near.gather(1, order).numpy())
    assert not np.array_equal(found.rows, Gallery(items).search(query, 7).rows)
    with pytest.raises(InputError, match=r"TEST\.RERANK\.K1: 0"):
        Gallery(items).search(query, rerank={**keys, "k1": 0})


@pytest.mark.parametrize("ending", ["npz", "parquet"])
def test_what_is_added_removed_saved_and_loaded_is_a_gallery_built_at_once(ending, tmp_path):
    pytest.importorskip("pyarrow")
    items, query = lot(40, 1, "g"), lot(5, 0, "q")
    gallery = Gallery(items.select(range(25)))
    gallery.add(items.select(range(25, 40)))
    gone = items.person[3]
    number = gallery.remove(person=gone)
    assert number == (items.person == gone).sum()
    left = items.select(items.person != gone)
    gallery.remove(name=left.name[7])
    left = left.select([row for row in range(len(left)) if row != 7])
    assert gallery.items.name.tolist() == left.name.tolist()
    path = tmp_path / f"gallery.{ending}"
    gallery.save(path)
    expected = Gallery(left).search(query, 10)
    for each in (gallery, Gallery.load(path)):
        found = each.search(query, 10)
        assert np.array_equal(found.rows, expected.rows)
        assert np.array_equal(found.distances, expected.distances)
        assert gone not in found.gallery.person
    back = Features.load(path)
    for name in ("features", "name", "path", "person", "camera", "modality"):
        assert np.array_equal(getattr(back, name), getattr(left, name)), name
    assert back.about == left.about


def test_the_index_can_be_read_by_faiss(tmp_path):
    import faiss

    gallery = Gallery(lot(20, 1, "g"))
    gallery.save_index(tmp_path / "g.faiss")
    index = faiss.read_index(str(tmp_path / "g.faiss"))
    assert index.ntotal == 20


def test_both_directions_name_what_they_find(tmp_path):
    items = lot(40, 1, "g")
    infrared, visible = items.of("infrared"), items.of("visible")
    for query, side in ((infrared, visible), (visible, infrared)):
        lists = Gallery(side).search(query, 3)
        lists.write_csv(tmp_path / "lists.csv", threshold=0.5)
        with open(tmp_path / "lists.csv", newline="") as file:
            table = list(csv.DictReader(file))
        assert tuple(table[0]) == COLUMNS
        assert len(table) == 3 * len(query)
        for number, entry in enumerate(table):
            row, rank = divmod(number, 3)
            item = lists.rows[row, rank]
            assert entry["query"] == query.name[row] and entry["rank"] == str(rank + 1)
            assert entry["name"] == side.name[item] and entry["path"] == side.path[item]
            assert float(entry["distance"]) == pytest.approx(lists.distances[row, rank], abs=1e-6)
            same = query.person[row] == side.person[item]
            assert entry["same_person"] == ("yes" if same else "no")
            assert entry["accepted"] == ("yes" if lists.distances[row, rank] < 0.5 else "no")


def test_two_items_are_compared():
    items = lot(3, 1, "g")
    first, second = items.select([0]), items.select([1])
    expected = 1 - float(items.features[0] @ items.features[1])
    assert compare(first, second) == pytest.approx(expected, abs=1e-6)
    assert compare(first, first) == pytest.approx(0, abs=1e-7)
    with pytest.raises(InputError, match="2 items to compare; expected one"):
        compare(first, items.select([0, 1]))


def test_mistakes_are_named(tmp_path):
    gallery = Gallery(lot(10, 1, "g"))
    other = lot(3, 2, "x", weights="another")
    with pytest.raises(InputError, match="its network has weights another, that of the gallery"):
        gallery.search(other)
    with pytest.raises(InputError, match=r"1 names come twice, the first g0"):
        gallery.add(lot(1, 5, "g"))
    with pytest.raises(InputError, match=r"no person 'Ann' in the gallery; nearest: "):
        gallery.remove(person="Ann")
    with pytest.raises(InputError, match="expected a person or the name"):
        gallery.remove()
    with pytest.raises(InputError, match="no junk rule 'cam'"):
        gallery.search(lot(1, 0, "q"), junk="cam")
    with pytest.raises(InputError, match="top 0: expected 1 or more"):
        gallery.search(lot(1, 0, "q"), 0)
    with pytest.raises(InputError, match=r"TEST\.METRIC: 'manhattan'"):
        Gallery(lot(1, 0, "q"), "manhattan")
    path = tmp_path / "g.npz"
    gallery.save(path)
    contents = bytearray(path.read_bytes())
    contents[len(contents) // 2] ^= 255
    path.write_bytes(contents)
    with pytest.raises(InputError, match="expected features, found a damaged file"):
        Features.load(path)
    with pytest.raises(InputError, match=r"expected a file \*\.npz or \*\.parquet"):
        Features.load(tmp_path / "g.csv")


RERANK = {"k1": 8, "k2": 3, "lambda_value": 0.3}


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
@pytest.mark.parametrize("rerank", [None, RERANK], ids=["plain", "reranked"])
@pytest.mark.parametrize(("queries", "number"), [(0, 6), (2, 0), (0, 0)])
def test_a_search_without_items_has_empty_lists(queries, number, rerank, metric):
    query, items = lot(2, 0, "q").select(range(queries)), lot(6, 1, "g").select(range(number))
    found = Gallery(items, metric).search(query, 4, rerank=rerank)
    assert found.rows.shape == found.distances.shape == (queries, min(4, number))
    assert [found.names(row) for row in range(queries)] == [[]] * queries


def test_a_threshold_needs_items():
    items, none = lot(6, 1, "g"), lot(2, 0, "q").select([])
    for query, gallery, what in ((none, items, "queries"), (items, none, "gallery")):
        with pytest.raises(InputError, match=f"the {what}: no items; expected items of known"):
            find_threshold(query, gallery, 0.1)


NASTY = ["a\rb", "a\nb", "a\r\nb", 'a"b', "a,b", " a", "a'", "", "\r", "\n", "a\u2028b"]


def test_every_name_is_read_back_from_the_lists(tmp_path):
    names = np.array(NASTY)
    query = replace(lot(2, 0, "q"), name=np.array(["q\r1", "q,2"]))
    items = replace(lot(len(names), 1, "g"), name=names, person=names[::-1], camera=names)
    lists = Gallery(items).search(query, len(names))
    lists.write_csv(tmp_path / "lists.csv")
    with open(tmp_path / "lists.csv", newline="", encoding="utf-8") as file:
        table = list(csv.DictReader(file))
    assert len(table) == 2 * len(names)
    for number, row in enumerate(lists.rows.reshape(-1)):
        entry = table[number]
        assert entry["query"] == ("q\r1" if number < len(names) else "q,2")
        for column in ("name", "person", "camera"):
            assert entry[column] == getattr(items, column)[row]


def test_lists_of_plain_names_are_not_quoted(tmp_path):
    lists = Gallery(lot(3, 1, "g")).search(lot(1, 0, "q"), 2)
    lists.write_csv(tmp_path / "lists.csv")
    content = (tmp_path / "lists.csv").read_bytes()
    assert content.count(b"\n") == 3 and b"\r" not in content and b'"' not in content


@pytest.mark.slow
def test_an_empty_gallery_and_unknown_people():
    items = lot(6, 1, "g")
    unknown = Features(
        **{**vars(items), "person": np.full(6, ""), "camera": np.full(6, "1"), "about": {}}
    )
    seen = Gallery(unknown).search(unknown, 6, junk="camera")
    assert (seen.rows >= 0).all()  # nobody is known to be the same person
    assert [seen.names(row)[0] for row in range(6)] == unknown.name.tolist()  # itself first
