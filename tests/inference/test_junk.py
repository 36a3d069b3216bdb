"""Search, threshold and score agree on which cameras are one."""

from dataclasses import replace

import numpy as np
import pytest

from plugins.errors import InputError
from plugins.evaluation.verification import find_threshold as find_of_sides
from plugins.inference import FeatureStore, Gallery, find_threshold, score_stores
from plugins.inference.features import NAMES
from plugins.inference.junk import Junk, number_cameras
from plugins.inference.threshold import as_sides
from tests.helpers.lots import lot


def seen_by(items, cameras):
    """The items, seen by these cameras in turn."""
    return replace(items, camera=np.resize(np.array(cameras, dtype=str), len(items)))


def stored(folder, items):
    columns = {name: getattr(items, name) for name in NAMES}
    store = FeatureStore.create(
        folder, columns, items.features.shape[1], "float32", dict(items.about)
    )
    store.write((0, 1), 0, as_sides(items, items, "none")[0].features)
    return store


def visible_pairs(query, gallery, rule):
    """Slow and obvious: the pairs of one person that are no junk, by name."""
    return {
        (q, g)
        for q in range(len(query))
        for g in range(len(gallery))
        if query.person[q] == gallery.person[g]
        and not (
            rule == "camera" and query.camera[q] != "" and query.camera[q] == gallery.camera[g]
        )
    }


@pytest.mark.parametrize("cameras", [["1", "01"], ["", "1"], [""], ["D1", "D2"], ["٣", "3"]])
def test_three_commands_see_the_same_pairs(cameras, tmp_path, caplog):
    query, gallery = seen_by(lot(12, 0, "q"), cameras), seen_by(lot(30, 1, "g"), cameras)
    expected = visible_pairs(query, gallery, "camera")
    unseen = Junk(query, gallery, "camera")
    columns = np.arange(len(gallery))
    junk = np.stack([unseen.mask(row, columns) for row in range(len(query))])
    same = query.person[:, None] == gallery.person[None]
    assert set(zip(*np.nonzero(same & ~junk), strict=True)) == expected

    listed = Gallery(gallery).search(query, len(gallery), junk="camera")
    assert (listed.rows >= 0).sum() == (~junk).sum()

    found = find_threshold(query, gallery, 0.1, junk="camera")
    assert found.genuine == len(expected)
    sides = as_sides(query, gallery, "camera")
    assert found == find_of_sides(*sides, 0.1, metric="cosine", junk="camera")

    caplog.clear()
    scores = score_stores(stored(tmp_path / "q", query), stored(tmp_path / "g", gallery))
    assert int(scores.positives.sum()) == len(expected)
    told = [record.getMessage() for record in caplog.records]
    queries, items = (int((each.camera == "").sum()) for each in (query, gallery))
    line = f"junk rule camera: {queries} of 12 queries and {items} of 30 items of the gallery have"
    assert told == ([f"{line} no camera; none of their pairs is junk"] if queries else [])


@pytest.mark.parametrize("camera", ["", "D1", "9" * 25, "1" * 10, "³", "٣", " 1", "-1"])
def test_a_rule_of_numbers_refuses_what_is_none(camera, tmp_path):
    query, gallery = lot(4, 0, "q"), seen_by(lot(6, 1, "g"), ["2", camera])
    told = rf"junk rule sysu: camera '{camera}'; expected 1 to 6"
    with pytest.raises(InputError, match=told):
        Gallery(gallery).search(query, junk="sysu")
    with pytest.raises(InputError, match=told):
        find_threshold(query, gallery, 0.1, junk="sysu")
    with pytest.raises(InputError, match=told):
        score_stores(stored(tmp_path / "q", query), stored(tmp_path / "g", gallery), junk="sysu")


@pytest.mark.slow
def test_a_rule_of_numbers_reads_them():
    query, gallery = number_cameras(np.array(["03", "2"]), np.array(["3", "002"]), "sysu")
    assert query.tolist() == [3, 2] and gallery.tolist() == [3, 2]
