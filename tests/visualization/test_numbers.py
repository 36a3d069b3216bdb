"""Numbers in pictures of a whole set, each against loops: histograms, camera tables, t-SNE."""

import dataclasses

import numpy as np
import pytest
import torch

from plugins.errors import InputError
from plugins.evaluation import distances
from plugins.visualization import (
    camera_table,
    count_pairs,
    embed,
    picture_of_cameras,
    picture_of_distances,
    picture_of_tsne,
)
from plugins.visualization.embedding import choose_people
from plugins.visualization.histograms import ACROSS, KINDS, OTHER, SAME
from tests.helpers.brute_force import brute_force, is_junk
from tests.helpers.visualized import toy_set


def pairs_by_loops(data, junk):
    """Distances of all pairs by kind."""
    found = {kind: [] for kind in KINDS}
    side = data.side(np.arange(len(data)))
    near = distances(side.features, side.features, data.metric).tolist()
    for first in range(len(data)):
        for second in range(first + 1, len(data)):
            pair = [(int(data.pids[row]), int(data.camids[row])) for row in (first, second)]
            (person, camera), (other, view) = pair
            if is_junk(junk, person, other, camera, view) or is_junk(
                junk, other, person, view, camera
            ):
                continue
            kinds = {data.modalities[first], data.modalities[second]}
            panel = ACROSS if len(kinds) == 2 else f"within {kinds.pop()}"
            found[panel, SAME if person == other else OTHER].append(near[first][second])
    return found


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
@pytest.mark.parametrize("junk", ["camera", "none", "sysu"])
def test_counts_of_pairs_are_those_of_loops(metric, junk):
    data = toy_set(metric=metric, junk=junk, items=90)  # more than a block of rows
    found = count_pairs(data.side(np.arange(90)), data.modalities, metric=metric, junk=junk, bins=7)
    expected = pairs_by_loops(data, junk)
    everything = [value for values in expected.values() for value in values]
    assert found.edges[0] == min(everything) and found.edges[-1] == max(everything)
    for kind, values in expected.items():
        counted = [0] * 7
        for value in values:
            place = [edge <= value for edge in found.edges[:-1]].count(True) - 1
            counted[place] += 1
        assert found.counts[kind].tolist() == counted
        assert found.means[kind] == pytest.approx(np.mean(values))
    assert found.number((ACROSS, SAME)) and len(everything) > 3000


def test_pairs_of_equal_distance_fill_one_bin_and_no_pair_is_refused():
    data = toy_set()
    data.features.features[:] = 1
    found = count_pairs(data.side(np.arange(24)), data.modalities, metric="cosine")
    assert sum(each[0] for each in found.counts.values()) == sum(map(found.number, KINDS)) > 200
    with pytest.raises(InputError, match="1 items make no pair that counts"):
        count_pairs(data.side(np.arange(1)), data.modalities[:1], metric="cosine")


def test_the_picture_of_distances_says_how_many_pairs():
    data = toy_set()
    picture = picture_of_distances(data)
    found = count_pairs(data.side(np.arange(24)), data.modalities, metric="cosine")
    for axes, panel in zip(picture.figure.axes, dict.fromkeys(p for p, _ in KINDS), strict=True):
        assert axes.get_title(loc="left") == panel
        labels = [text.get_text() for text in axes.get_legend().get_texts()]
        numbers = [found.number((panel, who)) for who in (OTHER, SAME)]
        assert labels == [f"other people, {numbers[0]} pairs", f"same person, {numbers[1]} pairs"]
    assert picture.caption.startswith("All pairs of 24 clips of 4 people, without the junk")


@pytest.mark.parametrize("junk", ["camera", "none", "sysu"])
def test_the_camera_table_is_that_of_loops(junk):
    data = toy_set(junk=junk, items=40)
    table = camera_table(data, "I2V")
    assert table.query_cameras == table.gallery_cameras == ["c1", "c2", "c3"]
    rows, columns = data.directions["I2V"].trials[0]
    empty = 0
    for i, camera in enumerate(table.query_cameras):
        for j, other in enumerate(table.gallery_cameras):
            query = [row for row in rows if data.items[row].camid == camera]
            gallery = [row for row in columns if data.items[row].camid == other]
            near = distances(data.side(query).features, data.side(gallery).features, data.metric)
            labels = [v[s].tolist() for v in (data.pids, data.camids) for s in (query, gallery)]
            cmc, precisions, _, _ = brute_force(near.tolist(), *labels, junk=junk)
            valid = [each for each in precisions if each is not None]
            assert table.queries[i, j] == len(valid)
            if valid:
                assert table.rank1[i, j] == pytest.approx(cmc[0])
                assert table.mean_ap[i, j] == pytest.approx(np.mean(valid))
            else:
                empty += 1
                assert np.isnan(table.rank1[i, j]) and np.isnan(table.mean_ap[i, j])
    assert empty == {"camera": 3, "none": 0, "sysu": 1}[junk]


def test_the_picture_of_cameras_writes_every_cell_with_its_number():
    data = toy_set(items=40)
    table, picture = camera_table(data, "I2V"), picture_of_cameras(data, "I2V")
    words = [text.get_text() for text in picture.figure.axes[0].texts]
    cells = [(i, j) for i in range(3) for j in range(3) if table.queries[i, j]]
    assert words == [
        word
        for cell in cells
        for word in (f"{100 * table.rank1[cell]:.0f}", f"n {table.queries[cell]}")
    ]
    alone = dataclasses.replace(data, pids=torch.arange(40))
    with pytest.raises(InputError, match="direction I2V: no query of Toys has a match"):
        picture_of_cameras(alone, "I2V")


@pytest.mark.slow
def test_the_map_repeats_and_keeps_groups_together():
    draw = np.random.default_rng(0)
    centers = 9 * np.eye(3, 8)
    people = np.repeat(np.arange(3), 12)
    features = (centers[people] + draw.normal(size=(36, 8))).astype(np.float32)
    for metric in ("cosine", "euclidean"):
        points = embed(features, metric, seed=3)
        assert np.array_equal(points, embed(features, metric, seed=3))
        assert not np.array_equal(points, embed(features, metric, seed=4))
        gaps = np.linalg.norm(points[:, None] - points, axis=2) + 1e9 * np.eye(36)
        assert (people[gaps.argmin(axis=1)] == people).all()
    with pytest.raises(InputError, match="3 items to map; expected 4 or more"):
        embed(features[:3], "cosine", seed=0)


def test_the_picture_of_the_map_shows_the_clips_of_drawn_people():
    data = toy_set(items=60, people=9)
    chosen = choose_people(data, 3, seed=1)
    assert len(chosen) == 3 and chosen != choose_people(data, 3, seed=2)
    picture = picture_of_tsne(data, people=3, seed=1)
    (axes,) = picture.figure.axes
    assert [text.get_text() for text in axes.texts] == chosen
    shown = sum(len(each.get_offsets()) for each in axes.collections)
    number = int(np.isin(data.features.person, chosen).sum())
    assert shown == number and picture.caption.startswith(f"{number} clips of 3 of 9 people")
