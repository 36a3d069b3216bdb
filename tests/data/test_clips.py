import random
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from plugins.data import ClipDataset, clips
from plugins.data.datasets import HITSZVCM, INFRARED, VISIBLE, Tracklet
from plugins.errors import InputError

LENGTHS = st.integers(1, 60)
SEGMENTS = st.integers(1, 12)


def stack(frames, modality):
    return torch.stack(frames).float()


def noisy(frames, modality):
    return stack(frames, modality) + torch.rand(1)


@pytest.mark.parametrize(
    ("length", "segments", "expected"),
    [
        (13, 6, [0, 3, 6, 9, 12, 12]),
        (24, 6, [0, 4, 8, 12, 16, 20]),
        (12, 6, [0, 2, 4, 6, 8, 10]),
        (6, 6, [0, 1, 2, 3, 4, 5]),
        (4, 6, [0, 1, 2, 3, 3, 3]),
        (1, 6, [0, 0, 0, 0, 0, 0]),
        (25, 10, [0, 3, 6, 9, 12, 15, 18, 21, 24, 24]),
        (7, 1, [0]),
    ],
)
def test_testing_takes_the_first_frame_of_each_segment(length, segments, expected):
    assert clips.test_segments(length, segments) == expected


@settings(max_examples=60, deadline=None)
@given(LENGTHS, SEGMENTS)
def test_testing_frames_are_those_of_the_padded_list(length, segments):
    """The definition, with the padded list written out."""
    frames = list(range(length))
    while len(frames) % segments or not frames:
        frames.append(length - 1)
    size = len(frames) // segments
    assert clips.test_segments(length, segments) == frames[::size]


@pytest.mark.parametrize(
    ("length", "segments", "number", "expected"),
    [
        (24, 6, 1, [[0, 4, 8, 12, 16, 20]]),
        (24, 6, 2, [[0, 4, 8, 12, 16, 20], [2, 6, 10, 14, 18, 22]]),
        (24, 6, 3, [[0, 4, 8, 12, 16, 20], [1, 5, 9, 13, 17, 21], [2, 6, 10, 14, 18, 22]]),
        (13, 6, 3, [[0, 3, 6, 9, 12, 12], [1, 4, 7, 10, 12, 12], [2, 5, 8, 11, 12, 12]]),
        (13, 6, 9, [[0, 3, 6, 9, 12, 12], [1, 4, 7, 10, 12, 12], [2, 5, 8, 11, 12, 12]]),
        (4, 6, 5, [[0, 1, 2, 3, 3, 3]]),
        (7, 1, 3, [[0], [2], [4]]),
        (13, 6, 0, [[0, 1, 2, 3, 4, 5], [6, 7, 8, 9, 10, 11], [12, 12, 12, 12, 12, 12]]),
        (12, 6, 0, [[0, 1, 2, 3, 4, 5], [6, 7, 8, 9, 10, 11]]),
        (2, 3, 0, [[0, 1, 1]]),
        (1, 1, 0, [[0]]),
    ],
)
def test_several_clips_of_a_tracklet(length, segments, number, expected):
    assert clips.test_clips(length, segments, number) == expected


@settings(max_examples=60, deadline=None)
@given(LENGTHS, SEGMENTS, st.integers(1, 30))
def test_clips_begin_with_the_single_one_are_spread_and_differ(length, segments, number):
    found = clips.test_clips(length, segments, number)
    step = -(-length // segments)
    assert found[0] == clips.test_segments(length, segments)
    assert len(found) == len({tuple(frames) for frames in found}) == min(number, step)
    starts = [frames[0] for frames in found]
    gaps = [after - before for before, after in pairwise([*starts, step])]
    assert max(gaps) - min(gaps) <= 1
    if number >= step:
        assert {frame for frames in found for frame in frames} == set(range(length))


@settings(max_examples=60, deadline=None)
@given(LENGTHS, SEGMENTS)
def test_all_clips_are_the_tracklet_padded_with_its_last_frame(length, segments):
    found = clips.test_clips(length, segments, 0)
    assert {len(frames) for frames in found} == {segments}
    frames = [frame for clip in found for frame in clip]
    padding = len(frames) - length
    assert frames == [*range(length), *[length - 1] * padding]
    assert padding < segments


@pytest.mark.parametrize(
    ("length", "segments", "expected"),
    [
        (1, 3, [0, 0, 0]),
        (3, 6, [0, 0, 1, 1, 2, 2]),
        (13, 6, [0, 2, 4, 6, 8, 10]),
        (24, 6, [0, 4, 8, 12, 16, 20]),
        (25, 10, [0, 2, 5, 7, 10, 12, 15, 17, 20, 22]),
        (48, 10, [0, 4, 9, 14, 19, 24, 28, 33, 38, 43]),
    ],
)
def test_linspace_takes_frames_at_equal_distances(length, segments, expected):
    assert clips.test_linspace(length, segments) == expected


@settings(max_examples=60, deadline=None)
@given(LENGTHS, SEGMENTS)
def test_linspace_rounds_down_within_the_tracklet(length, segments):
    frames = clips.test_linspace(length, segments)
    assert len(frames) == segments and frames[0] == 0 and frames[-1] < length
    for place, frame in enumerate(frames):
        exact = place * length // segments
        assert frame in (exact, exact - 1), "one less where a whole number is rounded down"


def test_a_test_sample_can_take_linspace_frames(data):
    dataset = ClipDataset(data.query, stack, length=5, train=False, sampling="linspace")
    assert len(dataset) == len(data.query)
    for index, item in enumerate(data.query):
        frames = clips.test_linspace(len(item.img_paths), 5)
        assert dataset[index]["img_paths"] == [item.img_paths[frame] for frame in frames]


@settings(max_examples=60, deadline=None)
@given(LENGTHS, SEGMENTS, st.integers(0, 2**31))
def test_training_takes_one_frame_of_each_padded_segment(length, segments, seed):
    frames = list(range(length))
    while len(frames) % segments:
        frames.append(length - 1)
    size = len(frames) // segments
    chosen = clips.train_segments(length, segments, torch.Generator().manual_seed(seed))
    assert len(chosen) == segments
    assert chosen == sorted(chosen)
    for number, frame in enumerate(chosen):
        assert frame in frames[number * size : (number + 1) * size]


def test_training_reaches_every_frame():
    generator = torch.Generator().manual_seed(0)
    seen = {frame for _ in range(200) for frame in clips.train_segments(13, 6, generator)}
    assert seen == set(range(13))


@pytest.fixture
def data(tree):
    return HITSZVCM(root=str(tree))


def test_a_test_sample_holds_its_frames_and_raw_ids(data):
    dataset = ClipDataset(data.query, stack, length=6, train=False)
    sample = dataset[0]
    assert sample["images"].shape == (6, 3, 24, 12)
    assert sample["img_paths"] == [data.query[0].img_paths[i] for i in (0, 2, 4, 6, 8, 10)]
    assert (sample["targets"], sample["camids"], sample["modalities"]) == (501, 3, INFRARED)
    assert dataset[0]["img_paths"] == sample["img_paths"]


def test_each_clip_of_a_tracklet_is_a_sample_that_names_its_row(data):
    dataset = ClipDataset(data.query, stack, length=5, train=False, clips=0)
    samples = [dataset[index] for index in range(len(dataset))]
    expected = [
        (row, [item.img_paths[frame] for frame in frames])
        for row, item in enumerate(data.query)
        for frames in clips.test_clips(len(item.img_paths), 5, 0)
    ]
    assert len(expected) > len(data.query)
    assert [(sample["rows"], sample["img_paths"]) for sample in samples] == expected
    assert all(sample["images"].shape == (5, 3, 24, 12) for sample in samples)
    assert all(sample["targets"] == data.query[sample["rows"]].pid for sample in samples)


def test_an_image_has_one_clip_whatever_is_asked(data):
    path = data.train[0].img_paths[0]
    for number in (0, 1, 3):
        assert len(ClipDataset([(path, 1, 1)] * 2, stack, 6, train=False, clips=number)) == 2


def test_training_numbers_people_and_cameras_in_sorted_order(data):
    shuffled = random.Random(0).sample(data.train, len(data.train))
    shifted = [item._replace(pid=item.pid * 10) for item in shuffled]
    dataset = ClipDataset(shifted, stack, length=2, train=True)
    assert (dataset.num_classes, dataset.num_cameras) == (4, 2)
    for index, item in enumerate(shuffled):
        sample = dataset[index]
        assert (sample["targets"], sample["camids"]) == (item.pid - 1, item.camid - 1)


NUMBERING = """
import sys
from plugins.data import ClipDataset
items = [(sys.argv[1], f"market1501_{i * 7 % 23}", f"market1501_c{i % 5}") for i in range(23)]
dataset = ClipDataset(items, lambda frames, _: frames, length=1, train=True)
print([(dataset[i]["targets"], dataset[i]["camids"]) for i in range(23)])
"""


@pytest.mark.slow
def test_labels_are_the_same_in_every_process(data):
    """Ids are strings here: their order in a set depends on the process."""
    names = sorted(f"market1501_{i}" for i in range(23))
    expected = [(names.index(f"market1501_{i * 7 % 23}"), i % 5) for i in range(23)]
    found = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", NUMBERING, data.train[0].img_paths[0]],
        env={"PYTHONHASHSEED": "1", "PYTHONPATH": str(Path(__file__).parents[2])},
        stdout=subprocess.PIPE,
        check=True,
        text=True,
    )
    assert found.stdout.strip() == str(expected)


def test_a_draw_seed_decides_everything_and_leaves_the_global_state_alone(data):
    dataset = ClipDataset(data.train, noisy, length=6, train=True)
    torch.manual_seed(1)
    states = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()
    first = dataset[3, 2**63 - 1]
    assert torch.equal(torch.get_rng_state(), states[0])
    assert (random.getstate(), np.random.get_state()[1].tolist()) == states[1:]
    torch.manual_seed(2)
    again, other = dataset[3, 2**63 - 1], dataset[3, 5]
    assert first["img_paths"] == again["img_paths"]
    assert torch.equal(first["images"], again["images"])
    assert not torch.equal(first["images"], other["images"])


def test_samples_without_a_draw_seed_differ(data):
    dataset = ClipDataset(data.train, noisy, length=6, train=True)
    assert not torch.equal(dataset[3]["images"], dataset[3]["images"])


def test_fastreid_images_run_through_the_same_dataset(data):
    path = data.train[0].img_paths[0]
    dataset = ClipDataset([(path, "m_2", "m_c1"), [path, "m_10", "m_c0"]], stack, 6, train=True)
    sample = dataset[0, 0]
    assert sample["images"].shape == (3, 24, 12)
    assert sample["img_paths"] == path
    assert (sample["targets"], sample["camids"], sample["modalities"]) == (1, 1, VISIBLE)
    assert ClipDataset([(path, 17, 3)], stack, 6, train=False)[0]["targets"] == 17


@pytest.mark.parametrize("train", [True, False])
def test_the_transform_is_told_the_modality_of_its_clip(data, train):
    items = [*data.train, *data.query, *data.gallery]
    dataset = ClipDataset(items, lambda _, modality: modality, length=2, train=train)
    told = [dataset[row]["images"] for row in range(len(items))]
    assert told == [item.modality for item in items]
    assert set(told) == {VISIBLE, INFRARED}


@pytest.mark.parametrize("train", [True, False])
def test_shuffled_clips_are_the_kept_ones_in_another_order(data, train):
    """Frames and all other draws are the same, so that two runs differ by the order alone."""
    kept, shuffled = (
        ClipDataset(data.train, noisy, 6, train, order=order) for order in ("kept", "shuffled")
    )
    orders = set()
    for index in range(len(kept)):
        key = (index, 17 + index) if train else index
        torch.manual_seed(index)
        first = kept[key]
        torch.manual_seed(index)
        other = shuffled[key]
        order = [first["img_paths"].index(path) for path in other["img_paths"]]
        if len(set(first["img_paths"])) == 6:
            assert torch.equal(other["images"], first["images"][order])
            orders.add(tuple(order))
        assert sorted(first["img_paths"]) == sorted(other["img_paths"])
    assert len(orders) > 1


def test_a_test_clip_has_one_shuffled_order(data):
    first, again = (ClipDataset(data.query, stack, 6, False, order="shuffled") for _ in range(2))
    assert first[0]["img_paths"] == again[0]["img_paths"] == first[0]["img_paths"]


def test_a_shuffled_image_is_an_image(data):
    path = data.train[0].img_paths[0]
    dataset = ClipDataset([(path, 1, 1)], stack, 6, train=False, order="shuffled")
    assert dataset[0]["img_paths"] == path and dataset[0]["images"].shape == (3, 24, 12)


def test_images_and_tracklets_together_are_refused(data):
    with pytest.raises(InputError, match="DATASETS"):
        ClipDataset([*data.train, ("a.jpg", 1, 1)], stack, 6, train=True)


def test_a_missing_frame_stops_the_run_at_once(tmp_path):
    dataset = ClipDataset(
        [Tracklet((str(tmp_path / "6.jpg"),), 1, 1, VISIBLE)], stack, length=6, train=False
    )
    with pytest.raises(InputError, match=str(tmp_path / "6.jpg")):
        dataset[0]
