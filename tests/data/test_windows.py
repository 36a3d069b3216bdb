import doctest
from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from plugins.config import setup_cfg
from plugins.data import ClipDataset, build_test_loader, build_train_loader, clips, windows
from plugins.data.datasets import HITSZVCM
from plugins.data.frame_cache.packing import pack_config
from plugins.errors import InputError

LENGTHS = st.integers(1, 60)
FRAMES = st.integers(1, 12)
STRIDES = st.integers(1, 5)


@pytest.mark.parametrize("module", [clips, windows])
def test_examples_in_the_docstrings_hold(module):
    result = doctest.testmod(module)
    assert result.attempted > 2 and not result.failed


def fits(length, frames, stride):
    return (frames - 1) * stride < length


def walked(length, frames, stride, start):
    """The definition, a step at a time: forward until the next step would leave, then back."""
    place, direction, found = start, 1, [start]
    while len(found) < frames:
        if not 0 <= place + direction * stride - start < length - start:
            direction = -direction
        if 0 <= place + direction * stride - start < length - start:
            place += direction * stride
        found.append(place)
    return found


@given(LENGTHS, FRAMES, STRIDES, st.data())
def test_a_window_is_a_walk_to_and_fro(length, frames, stride, data):
    start = data.draw(st.integers(0, length - 1))
    assert windows.window(length, frames, stride, start) == walked(length, frames, stride, start)


@given(LENGTHS, FRAMES, STRIDES)
def test_every_step_of_every_window_is_one_stride(length, frames, stride):
    for start in range(windows.window_starts(length, frames, stride)):
        steps = [b - a for a, b in pairwise(windows.window(length, frames, stride, start))]
        if fits(length, frames, stride):
            assert set(steps) <= {stride}
        elif length > stride:
            assert set(steps) == {stride, -stride} or steps == [stride] * (frames - 1)
        else:
            assert set(steps) == {0}


@given(LENGTHS, FRAMES, STRIDES)
def test_starts_are_all_from_which_a_whole_window_fits(length, frames, stride):
    whole = [s for s in range(length) if s + (frames - 1) * stride < length]
    number = windows.window_starts(length, frames, stride)
    assert number == len(whole) if whole else 1 <= number <= min(stride, length)


@given(LENGTHS, FRAMES, STRIDES)
def test_testing_takes_the_middle(length, frames, stride):
    (chosen,) = windows.test_windows(length, frames, stride, clips=1)
    assert len(chosen) == frames and min(chosen) >= 0 and max(chosen) < length
    if fits(length, frames, stride):
        before, after = chosen[0], length - 1 - chosen[-1]
        assert before in (after, after - 1)


@given(LENGTHS, FRAMES, STRIDES, st.integers(1, 30))
def test_several_windows_are_evenly_spread_and_differ(length, frames, stride, number):
    found = windows.test_windows(length, frames, stride, number)
    possible = windows.window_starts(length, frames, stride)
    starts = [chosen[0] for chosen in found]
    assert len(set(starts)) == len(found) == min(number, possible)
    assert starts == sorted(starts) and starts[0] >= 0 and starts[-1] < possible
    gaps = [b - a for a, b in pairwise(starts)]
    assert not gaps or max(gaps) - min(gaps) <= 1
    assert abs(starts[0] - (possible - 1 - starts[-1])) <= 1, "as much is left before as after"


@given(LENGTHS, FRAMES, STRIDES)
def test_all_windows_show_every_frame_that_one_can_show_and_are_as_few_as_can_be(
    length, frames, stride
):
    found = windows.test_windows(length, frames, stride, 0)
    possible = windows.window_starts(length, frames, stride)
    shown = {
        frame
        for start in range(possible)
        for frame in windows.window(length, frames, stride, start)
    }
    assert {frame for chosen in found for frame in chosen} == shown
    grids = [[frame for frame in shown if frame % stride == k] for k in range(stride)]
    assert len(found) == sum(-(-len(grid) // frames) for grid in grids)


def test_training_starts_anywhere_equally_often():
    generator = torch.Generator().manual_seed(0)
    drawn = [windows.train_window(24, 8, 2, generator) for _ in range(2000)]
    counts = torch.tensor([chosen[0] for chosen in drawn]).bincount(minlength=10)
    assert len(counts) == 10 and counts.min() > 150 and counts.max() < 250
    assert all(chosen == windows.window(24, 8, 2, chosen[0]) for chosen in drawn)


@pytest.fixture
def data(tree):
    return HITSZVCM(root=str(tree))


def test_samples_take_windows_in_training_and_in_testing(data):
    options = {"length": 4, "sampling": "window", "stride": 2}
    dataset = ClipDataset(data.query, torch.stack, train=False, clips=2, **options)
    samples = [dataset[index] for index in range(len(dataset))]
    expected = [
        (row, [item.img_paths[frame] for frame in frames])
        for row, item in enumerate(data.query)
        for frames in windows.test_windows(len(item.img_paths), 4, 2, 2)
    ]
    assert [(sample["rows"], sample["img_paths"]) for sample in samples] == expected
    dataset = ClipDataset(data.train, torch.stack, train=True, **options)
    seen = set()
    for seed in range(40):
        frames = [data.train[0].img_paths.index(path) for path in dataset[0, seed]["img_paths"]]
        assert [b - a for a, b in pairwise(frames)] == [2, 2, 2]
        seen.add(frames[0])
    assert len(seen) == windows.window_starts(len(data.train[0].img_paths), 4, 2)


@pytest.fixture
def windowed(cfg):
    cfg.INPUT.CLIP.LENGTH, cfg.INPUT.CLIP.SAMPLING, cfg.INPUT.CLIP.STRIDE = 4, "window", 3
    return cfg


def batches(cfg):
    training = iter(build_train_loader(cfg))
    return [next(training) for _ in range(2)] + list(build_test_loader(cfg, "HITSZVCM")[0])


def test_the_config_reaches_both_loaders_with_and_without_a_frame_cache(windowed, tmp_path):
    decoded = batches(windowed)
    pack_config(windowed, str(tmp_path / "cache"), workers=0)
    windowed.DATALOADER.FRAME_CACHE = str(tmp_path / "cache")
    packed = batches(windowed)
    for one, other in zip(decoded, packed, strict=True):
        assert one["img_paths"] == other["img_paths"]
        assert torch.equal(one["images"], other["images"])
    for batch in decoded:
        for paths in batch["img_paths"]:
            frames = [int(path.rsplit("/", 1)[1].split(".")[0]) for path in paths]
            assert {abs(b - a) for a, b in pairwise(frames)} == {3}, "numbered through a folder"


def test_the_config_shuffles_the_clips_of_both_loaders(windowed):
    kept = batches(windowed)
    windowed.INPUT.CLIP.ORDER = "shuffled"
    for one, other in zip(kept, batches(windowed), strict=True):
        pairs = list(zip(one["img_paths"], other["img_paths"], strict=True))
        assert all(set(paths) == set(shuffled) for paths, shuffled in pairs)
        assert any(paths != shuffled for paths, shuffled in pairs)


@pytest.mark.parametrize("number", [0, 1, 3])
def test_several_windows_are_tested(windowed, number):
    windowed.TEST.CLIPS = number
    loader, data = build_test_loader(windowed, "HITSZVCM")
    rows = [row for batch in loader for row in batch["rows"].tolist()]
    items = [*data.query, *data.gallery]
    expected = [len(windows.test_windows(len(i.img_paths), 4, 3, number)) for i in items]
    assert [rows.count(row) for row in range(len(items))] == expected


def test_a_stride_below_one_is_refused():
    with pytest.raises(InputError, match=r"INPUT.CLIP.STRIDE: 0; expected 1 or more"):
        setup_cfg("", ["INPUT.CLIP.STRIDE", "0"])
