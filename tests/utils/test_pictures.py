"""Pictures of ranked clips: what stands where, read back from the PNG."""

from typing import NamedTuple

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageColor

from plugins.errors import InputError
from plugins.utils import pictures
from plugins.utils.pictures import RankedRow, choose_queries, clip_strip, draw_ranked_clips


class Clip(NamedTuple):
    img_paths: tuple[str, ...]
    pid: int
    camid: int


SHADES = (0, 60, 120, 180, 240)


@pytest.fixture
def make_clip(tmp_path):
    def make(pid, shades=SHADES, size=(32, 64), mode="RGB"):
        paths = []
        for index, shade in enumerate(shades):
            path = tmp_path / f"{pid}_{index}.png"
            Image.new("L", size, shade).convert(mode).save(path)
            paths.append(str(path))
        return Clip(tuple(paths), pid, camid=3)

    return make


def border_colours(picture):
    """Colours of the borders, cell by cell and row by row; None where there is no cell."""
    known = {
        ImageColor.getrgb(getattr(pictures, name)): name for name in ("QUERY", "RIGHT", "WRONG")
    }
    step_x = pictures.strip_width(3) + 2 * pictures.BORDER + pictures.CELL_GAP
    list_x = pictures.MARGIN + step_x - pictures.CELL_GAP + pictures.QUERY_GAP
    step_y = pictures.FRAME[1] + 2 * pictures.BORDER + 2 * pictures.LINE + pictures.CELL_GAP
    top = pictures.MARGIN + 6 * pictures.LINE
    rows = []
    for y in range(top, picture.height - pictures.MARGIN, step_y):
        columns = [pictures.MARGIN, *range(list_x, picture.width - pictures.MARGIN, step_x)]
        rows.append([known.get(picture.getpixel((x, y))) for x in columns])
    return rows


def test_borders_are_green_for_the_same_person_and_red_for_another(make_clip, tmp_path):
    one, two = make_clip(1), make_clip(2)
    rows = [
        RankedRow(one, 0.5, [one, two, one], [0.1, 0.2, 0.3]),
        RankedRow(two, 1.0, [two], [0.1]),
        RankedRow(two, 0.0, [], []),
    ]

    draw_ranked_clips(tmp_path / "ranked.png", rows, "title", "caption")

    with Image.open(tmp_path / "ranked.png") as picture:
        assert picture.format == "PNG"
        assert border_colours(picture) == [
            ["QUERY", "RIGHT", "WRONG", "RIGHT"],
            ["QUERY", "RIGHT", None, None],
            ["QUERY", None, None, None],
        ]


def test_picture_is_wide_enough_for_its_text(make_clip, tmp_path):
    rows = [RankedRow(make_clip(1), 0.5, [], [])]
    widths = []
    for name, title, caption in (("a", "", ""), ("b", "wide " * 50, ""), ("c", "", "wide " * 90)):
        draw_ranked_clips(tmp_path / name, rows, title, caption)
        with Image.open(tmp_path / name) as picture:
            widths.append(picture.width)
            # Nothing is cut off: the right margin is paper.
            right = picture.crop((picture.width - 16, 0, picture.width, picture.height))
            assert right.getcolors() == [(16 * picture.height, (255, 255, 255))]

    assert widths[1] > 2 * widths[0]
    assert widths[2] > 2 * widths[0]


@pytest.mark.parametrize(
    ("frames", "expected"),
    [(1, [0]), (2, [0, 240]), (3, [0, 120, 240]), (5, list(SHADES))],
)
def test_frames_are_evenly_spaced_over_the_tracklet(make_clip, frames, expected):
    strip = clip_strip(make_clip(1).img_paths, frames)

    assert strip.size == (pictures.strip_width(frames), pictures.FRAME[1])
    step = pictures.FRAME[0] + pictures.FRAME_GAP
    centres = [strip.getpixel((slot * step + step // 2, 64))[0] for slot in range(frames)]
    assert centres == expected


def test_a_tracklet_of_one_frame_is_repeated(make_clip):
    strip = clip_strip(make_clip(1, shades=(77,)).img_paths, 3)

    assert {colour for _, colour in strip.getcolors()} == {(77,) * 3, (255,) * 3}


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA"])
def test_a_frame_keeps_its_shape_and_is_padded(make_clip, mode):
    strip = clip_strip(make_clip(1, shades=(10,), size=(30, 30), mode=mode).img_paths, 1)

    assert sorted(strip.getcolors()) == sorted(
        [(64 * 64, (10, 10, 10)), (64 * 64, ImageColor.getrgb(pictures.PADDING))]
    )


def test_a_missing_frame_is_an_error_that_names_it(make_clip, tmp_path):
    clip = make_clip(1)
    missing = clip._replace(img_paths=(str(tmp_path / "gone.jpg"),))

    with pytest.raises(InputError, match=r"gone\.jpg: no such frame"):
        draw_ranked_clips(
            tmp_path / "out.png", [RankedRow(clip, 0.5, [missing], [0.1])], "title", "caption"
        )


def test_queries_go_from_the_worst_to_the_best_in_even_steps():
    nan = float("nan")
    precision = torch.tensor([0.9, nan, 0.1, 0.5, 0.3, nan, 0.7])

    assert choose_queries(precision, 3) == [2, 3, 0]
    assert choose_queries(precision, 2) == [2, 0]
    assert choose_queries(precision, 1) == [3]
    assert choose_queries(precision, 5) == choose_queries(precision, 99) == [2, 4, 3, 6, 0]
    assert choose_queries(precision, 0) == []
    assert choose_queries(torch.tensor([nan]), 1) == choose_queries(torch.tensor([nan]), 2) == []


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(
    precision=st.lists(st.floats(0, 1) | st.just(float("nan")), min_size=1, max_size=40),
    count=st.integers(2, 50),
)
def test_chosen_queries_are_valid_distinct_and_ordered(precision, count):
    chosen = choose_queries(torch.tensor(precision, dtype=torch.float64), count)

    valid = [value for value in precision if value == value]
    values = [precision[index] for index in chosen]
    assert len(set(chosen)) == len(chosen) == min(count, len(valid))
    assert values == sorted(values)
    if len(chosen) > 1:
        assert (values[0], values[-1]) == (min(valid), max(valid))
