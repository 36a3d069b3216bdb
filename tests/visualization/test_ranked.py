"""Ranked clips: lists with junk against brute force, which queries are chosen, what is drawn."""

import math

import numpy as np
import pytest
import torch

from plugins.errors import InputError
from plugins.evaluation import distances
from plugins.visualization import picture_of_ranked, rank_queries
from plugins.visualization.ranked import (
    JUNK,
    MOST_JUNK,
    RIGHT,
    WRONG,
    list_with_junk,
    pick_queries,
)
from tests.helpers.brute_force import brute_force, is_junk
from tests.helpers.visualized import toy_set


def slow_list(data, query, gallery, top, junk):
    """(gallery index, distance, kind, rank) of a query's list, by loops and one sort."""
    near = distances(data.side([query]).features, data.side(gallery).features,
                     data.metric)[0].tolist()  # fmt: skip
    found, rank = [], 0
    for distance, column in sorted((near[column], column) for column in range(len(gallery))):
        item = gallery[column]
        same = bool(data.pids[query] == data.pids[item])
        labels = [int(each[row]) for each in (data.pids, data.camids) for row in (query, item)]
        kind = JUNK if is_junk(junk, *labels) else RIGHT if same else WRONG
        rank += kind != JUNK
        found.append((column, distance, kind, rank if kind != JUNK else 0))
    counted = [place for place, entry in enumerate(found) if entry[2] != JUNK]
    return found[: counted[top - 1] + 1] if len(counted) >= top else found


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
@pytest.mark.parametrize("junk", ["camera", "none", "sysu"])
@pytest.mark.parametrize("top", [1, 3, 100])
def test_lists_with_junk_are_those_of_brute_force(metric, junk, top):
    data = toy_set(metric=metric, junk=junk)
    rows = list(range(len(data)))
    side = data.side(np.array(rows))
    found = list_with_junk(side, side, top, metric, junk)
    kinds = set()
    for query, entries in enumerate(found):
        expected = slow_list(data, query, rows, top, junk)
        assert [(e.column, e.kind, e.rank) for e in entries] == [
            (column, kind, rank) for column, _, kind, rank in expected
        ]
        assert [e.distance for e in entries] == pytest.approx([each[1] for each in expected])
        kinds |= {entry.kind for entry in entries}
    assert kinds >= ({RIGHT, WRONG, JUNK} if junk != "none" and top > 1 else {RIGHT})


def test_scores_of_the_rows_are_those_of_the_protocol_written_down_once_more():
    data = toy_set()
    query, gallery = data.directions["I2V"].trials[0]
    near = distances(data.side(query).features, data.side(gallery).features, data.metric)
    labels = [each[rows].tolist() for each in (data.pids, data.camids) for rows in (query, gallery)]
    _, precisions, _, lists = brute_force(near.tolist(), *labels)
    ranked = rank_queries(data, "I2V", count=100, top=3)
    assert len(ranked) == sum(precision is not None for precision in precisions)
    for each in ranked:
        index = query.tolist().index(each.row)
        assert each.average_precision == pytest.approx(precisions[index])
        counted = [e.column for e in each.entries if e.kind != JUNK]
        assert counted == lists[index][:3]
        people = [data.pids[gallery[column]] for column in lists[index]]
        assert each.first_rank == people.index(data.pids[each.row]) + 1
        assert each.rows == gallery[[e.column for e in each.entries]].tolist()
        assert sum(e.kind == JUNK for e in each.entries) <= MOST_JUNK
    assert [each.average_precision for each in ranked] == sorted(
        each.average_precision for each in ranked
    )


def test_queries_are_the_best_the_worst_or_drawn_by_a_seed():
    precisions = torch.tensor([0.5, math.nan, 1.0, 0.0, 0.5, 1.0])
    assert pick_queries(precisions, "best", 3) == [2, 5, 0]
    assert pick_queries(precisions, "worst", 2) == [3, 0]
    assert pick_queries(precisions, "spread", 2) == [3, 5]
    drawn = {tuple(pick_queries(precisions, "random", 2, seed)) for seed in range(20)}
    assert len(drawn) > 3 and all(1 not in each and len(each) == 2 for each in drawn)
    assert pick_queries(precisions, "random", 2, 7) == pick_queries(precisions, "random", 2, 7)
    assert pick_queries(precisions, "random", 99) == [0, 2, 3, 4, 5]


def test_queries_are_found_by_name_first_file_and_folder(tmp_path):
    data = toy_set(tmp_path)
    query = data.directions["I2V"].trials[0].query.tolist()
    row = query[2]
    for name in (f"{row:02d}/0.png", f"{row:02d}/", f"{tmp_path}/{row:02d}/0.png"):
        assert [each.row for each in rank_queries(data, "I2V", picks=[name])] == [row]
    both = [f"{query[1]:02d}", f"{query[0]:02d}"]
    assert [each.row for each in rank_queries(data, "I2V", picks=both)] == [query[1], query[0]]


@pytest.mark.parametrize(
    ("picks", "direction", "message"),
    [
        (["03/1.png"], "I2V", "03/1.png: no item of Toys; nearest: 03/0.png"),
        (["02/0.png"], "I2V", "02/0.png: an item of the gallery; expected a query"),
        (["01/0.png", "best"], "I2V", "--pick best: expected it alone, or names of queries"),
        (["best"], "I2X", "direction 'I2X'; expected I2V, V2I or Q2G, which Toys has"),
    ],
)
def test_mistakes_are_named(picks, direction, message):
    with pytest.raises(InputError) as caught:
        rank_queries(toy_set(), direction, picks=picks)
    assert message in str(caught.value)


@pytest.mark.slow
def test_the_picture_shows_every_clip_with_its_kind_names_and_distance(tmp_path):
    data = toy_set(tmp_path)
    ranked = rank_queries(data, "Q2G", count=3, top=4)
    picture = picture_of_ranked(data, "Q2G", count=3, top=4, frames=2)
    words = [text.get_text() for text in picture.figure.texts]
    assert len(picture.figure.axes) == sum(1 + len(each.entries) for each in ranked)
    for each in ranked:
        assert any(word.startswith(f"{data.features.name[each.row]}: AP ") for word in words)
        for row, entry in zip(each.rows, each.entries, strict=True):
            assert f"distance {entry.distance:.3f}" in words
            assert f"person {data.items[row].pid}, camera {data.items[row].camid}" in words
    marks = {entry.kind for each in ranked for entry in each.entries}
    assert marks == {RIGHT, WRONG, JUNK}
    assert any(word.endswith("same person") for word in words)
    assert any(word.endswith("another person") for word in words)
    assert "junk, not ranked" in words
    lines = {patch.get_linestyle() for axes in picture.figure.axes for patch in axes.patches}
    assert lines == {"-", "--", ":"}
    assert picture.title == "Ranked clips of Toys Q2G: all queries, all gallery"
    assert picture.caption.startswith(
        "3 of 24 queries, at even steps of the order by average precision"
    )
    assert "24 gallery clips; 2 frames of each." in picture.caption
