"""Indexes: flat finds all, ivfpq what it measures; both are saved, loaded and changed."""

import subprocess
import sys

import numpy as np
import pytest
import torch

from plugins.errors import InputError
from plugins.inference import FeatureStore, Gallery
from plugins.inference import recall as recall_room
from plugins.inference.index import code_length
from plugins.inference.recall import measure_recall, nearest_rows
from tests.helpers.lots import lot
from tests.helpers.pages import ROOT

COLUMNS = ("name", "path", "person", "camera", "modality")


def crowd(number, seed, prefix):
    """Items without structure, of which codes tell little."""
    features = np.random.default_rng(seed).normal(size=(number, 16)).astype(np.float32)
    return lot(number, seed, prefix, features=features)


def brute_force(query, items, top, metric, junk="none"):
    """All distances in float64, sorted stably."""
    x, y = (each.features.astype(np.float64) for each in (query, items))
    if metric == "cosine":
        x, y = (each / np.linalg.norm(each, axis=1, keepdims=True) for each in (x, y))
    near = ((x[:, None] - y[None]) ** 2).sum(axis=2)
    if junk == "camera":
        same = query.person[:, None] == items.person[None]
        near[same & (query.camera[:, None] == items.camera[None])] = np.inf
    return near.argsort(axis=1, kind="stable")[:, :top]


@pytest.fixture(scope="module")
def sides():
    return crowd(40, 0, "q"), crowd(2000, 1, "g")


@pytest.mark.slow
@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
@pytest.mark.parametrize("junk", ["none", "camera"])
def test_flat_has_recall_1_and_ivfpq_that_of_its_lists(sides, metric, junk, monkeypatch):
    query, items = sides
    wanted = brute_force(query, items, 10, metric, junk)
    monkeypatch.setattr(recall_room, "BLOCK", 300)
    assert np.array_equal(nearest_rows(query, items, 10, metric, junk), wanted)
    assert measure_recall(Gallery(items, metric), query, junk=junk) == 1
    shares = []
    for probes in (1, 8, 10_000):
        gallery = Gallery(items, metric, "ivfpq", probes)
        rows = gallery.search(query, 10, junk=junk).rows
        shares.append(np.mean([np.isin(*pair).mean() for pair in zip(wanted, rows, strict=True)]))
        assert measure_recall(gallery, query, junk=junk) == pytest.approx(shares[-1])
    assert shares[0] < 0.7 < 0.9 < shares[2] and shares == sorted(shares)


@pytest.mark.slow
def test_recall_is_of_a_sample_of_the_queries(sides):
    query, items = sides
    gallery = Gallery(items, kind="ivfpq", probes=1)
    few = query.select(np.linspace(0, 39, 7).astype(int))
    assert measure_recall(gallery, query, sample=7) == measure_recall(gallery, few, sample=0)
    assert measure_recall(gallery, query, sample=0) == measure_recall(gallery, query)
    nobody = items.select([])
    assert np.isnan(measure_recall(Gallery(nobody), query))


@pytest.mark.slow
def test_lists_of_ivfpq_are_whole_and_have_exact_distances(sides):
    query, items = sides
    exact = Gallery(items).search(query, len(items))
    distances = np.take_along_axis(exact.distances, exact.rows.argsort(axis=1), axis=1)
    for top in (10, 600):  # one list of the index holds about 40 items
        found = Gallery(items, kind="ivfpq", probes=1).search(query, top)
        assert (found.rows >= 0).all()
        expected = np.take_along_axis(distances, found.rows, axis=1)
        assert np.array_equal(found.distances, expected)
        assert np.array_equal(np.sort(expected, axis=1), expected)


@pytest.mark.slow
def test_ivfpq_is_saved_loaded_and_changed_with_its_gallery(sides, tmp_path):
    query, items = sides
    gallery = Gallery(items.select(range(1500)), kind="ivfpq", probes=3)
    gallery.add(items.select(range(1500, 2000)))
    gallery.remove(person="P2")
    left = items.select(items.person != "P2")
    assert gallery.items.name.tolist() == left.name.tolist()
    lists = gallery.search(query, 10)
    assert measure_recall(gallery, query) > 0.3  # rows would name other items
    gallery.save(tmp_path / "gallery.npz")
    for kind in ("", "ivfpq"):
        loaded = Gallery.load(tmp_path / "gallery.npz", kind=kind, probes=3)
        assert loaded.kind == "ivfpq"
        again = loaded.search(query, 10)
        assert np.array_equal(again.rows, lists.rows)
        assert np.array_equal(again.distances, lists.distances)
    assert Gallery.load(tmp_path / "gallery.npz", kind="flat").kind == "flat"
    with pytest.raises(InputError, match="an index of the metric cosine; expected euclidean"):
        Gallery.load(tmp_path / "gallery.npz", metric="euclidean")
    items.save(tmp_path / "gallery.npz")
    with pytest.raises(InputError, match="an index of other features than those beside it"):
        Gallery.load(tmp_path / "gallery.npz")
    Gallery(items).save(tmp_path / "gallery.npz")
    assert Gallery.load(tmp_path / "gallery.npz").kind == "flat"


@pytest.mark.slow
def test_a_file_of_that_name_that_is_no_index_stays(sides, tmp_path):
    _, items = sides
    flat = Gallery(items)
    flat.save_index(tmp_path / "gallery.index")  # as a user names it for another program
    before = (tmp_path / "gallery.index").read_bytes()
    flat.save(tmp_path / "gallery.npz")
    with pytest.raises(InputError, match=r"gallery\.index: would be replaced, but is no index"):
        Gallery(items, kind="ivfpq").save(tmp_path / "gallery.npz")
    assert (tmp_path / "gallery.index").read_bytes() == before


@pytest.mark.slow
@pytest.mark.parametrize("place", [60, 3000, -3000])
def test_a_damaged_index_is_refused(sides, tmp_path, place):
    gallery = Gallery(sides[1], kind="ivfpq")
    gallery.save(tmp_path / "gallery.npz")
    file = tmp_path / "gallery.index"
    contents = bytearray(file.read_bytes())
    contents[place] ^= 1
    file.write_bytes(contents)
    with pytest.raises(InputError, match=r"gallery\.index: expected an index, found a damaged"):
        Gallery.load(tmp_path / "gallery.npz")
    file.write_bytes(contents[: len(contents) // 2])
    with pytest.raises(InputError, match=r"gallery\.index: expected an index, found a damaged"):
        Gallery.load(tmp_path / "gallery.npz")


def test_what_an_index_cannot_be(sides):
    query, items = sides
    with pytest.raises(InputError, match="index 'ivf': expected flat or ivfpq"):
        Gallery(items, kind="ivf")
    with pytest.raises(InputError, match="index ivfpq: 255 items; expected 256 or more"):
        Gallery(items.select(range(255)), kind="ivfpq")
    with pytest.raises(InputError, match="probes 0: expected 1 or more"):
        Gallery(items, probes=0)
    gallery = Gallery(items.select(range(256)), kind="ivfpq")
    with pytest.raises(InputError, match="re-ranking compares all items, expected the index flat"):
        gallery.search(query, rerank={"k1": 8, "k2": 3, "lambda_value": 0.3})
    assert [code_length(length) for length in (2048, 751, 1)] == [64, 1, 1]


def store(folder, items, dtype):
    names = {name: getattr(items, name) for name in COLUMNS}
    made = FeatureStore.create(folder, names, items.features.shape[1], dtype, items.about)
    made.write((0, 1), 0, torch.from_numpy(items.features))
    return folder


@pytest.mark.parametrize(("dtype", "close"), [("float32", 0.0), ("float16", 1e-3)])
def test_a_store_on_disk_is_searched(sides, tmp_path, dtype, close):
    query, items = sides
    folder = store(tmp_path / "store", items, dtype)
    found = Gallery.load(folder).search(query, 5)
    expected = Gallery(items).search(query, 5)
    assert found.gallery.name.tolist() == items.name.tolist()
    np.testing.assert_allclose(found.distances, expected.distances, atol=close)
    parts = [store(tmp_path / "first", items.select(range(900)), dtype), tmp_path / "second.npz"]
    items.select(range(900, 2000)).save(parts[1])
    both = Gallery.load(*parts).search(query, 5)
    np.testing.assert_allclose(both.distances, expected.distances, atol=close)


@pytest.mark.slow
def test_the_command_prints_the_recall_of_its_index(sides, tmp_path):
    query, items = sides
    query.save(tmp_path / "query.npz")
    items.save(tmp_path / "items.npz")

    def search(*words):
        command = [sys.executable, "tools/search.py", "--query", str(tmp_path / "query.npz")]
        command += ["--out", str(tmp_path / "lists.csv"), *words]
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)

    saved = str(tmp_path / "gallery.npz")
    first = search("--gallery", str(tmp_path / "items.npz"), "--index", "ivfpq", "--probes", "4")
    share = 100 * measure_recall(Gallery(items, kind="ivfpq", probes=4), query)
    line = f"recall@10 of the index ivfpq beside brute force: {share:.1f} % (40 queries)"
    assert first.returncode == 0 and f"Q2G: {line}" in first.stdout
    made = search(
        "--gallery",
        str(tmp_path / "items.npz"),
        "--index",
        "ivfpq",
        "--probes",
        "4",
        "--save-gallery",
        saved,
    )
    assert made.returncode == 0
    again = search("--gallery", saved, "--probes", "4")
    assert again.stdout == first.stdout
    exact = search("--gallery", saved, "--index", "flat")
    assert exact.returncode == 0 and "recall" not in exact.stdout
    wrong = search("--gallery", saved, "--index", "hnsw")
    assert wrong.returncode == 2 and "index 'hnsw': expected flat or ivfpq" in wrong.stderr
