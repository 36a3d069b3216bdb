"""Files of pictures: PNG, PDF, SVG; the same bytes for the same picture; refusals in one line."""

import os
from pathlib import Path

import pytest
from matplotlib import rc_context
from matplotlib.figure import Figure
from PIL import Image

from plugins.errors import InputError
from plugins.visualization import Picture, require_picture, save_picture
from plugins.visualization.picture import PAD, render, styled

HEADS = {".png": b"\x89PNG", ".pdf": b"%PDF", ".svg": b"<?xml"}


@styled
def drawing(title="What is seen", caption="How to read it. " * 20) -> Picture:
    figure = Figure(figsize=(4, 2))
    figure.add_axes((0, 0, 1, 1)).plot([0, 1], [1, 0], label="cost in $ and $")
    return Picture(title, caption, figure)


@pytest.mark.slow
@pytest.mark.parametrize("ending", [*HEADS, ".PNG"])
def test_the_ending_decides_the_format_and_bytes_repeat(ending, tmp_path):
    path = tmp_path / f"new/folder/a{ending}"
    save_picture(path, drawing())
    first = path.read_bytes()
    assert first.startswith(HEADS[ending.lower()])
    save_picture(path, drawing())
    assert path.read_bytes() == first
    assert [each.name for each in path.parent.iterdir()] == [path.name]


def test_words_stand_outside_the_figure_and_are_left_out_for_a_page(tmp_path):
    picture = drawing()
    sizes = []
    for number, words in enumerate((False, True)):
        path = tmp_path / f"{number}.png"
        path.write_bytes(render(picture, "png", words=words))
        sizes.append(Image.open(path).size)
    assert sizes[1][1] > sizes[0][1] + 100, "title and several lines of caption"
    assert abs(sizes[1][0] - sizes[0][0]) < 144 * 2 * PAD, "the caption is wrapped"
    assert not picture.figure.texts


def test_nothing_of_a_name_is_a_formula():
    picture = drawing(title="person $x$ of 100 $", caption="_{ $\\broken$")
    assert render(picture, "svg").count(b"<text") == 0  # outlines: no font is needed to show it


def test_a_png_that_nobody_can_write_is_refused():
    picture = Picture("Long", "", Figure(figsize=(1, 500)))
    with pytest.raises(InputError, match="picture: 144 x 72000 pixels; expected at most 60000"):
        render(picture, "png")
    assert render(picture, "svg").startswith(b"<?xml")


def test_settings_of_others_change_nothing():
    expected = render(drawing(), "svg")
    with rc_context({"font.family": "serif", "axes.grid": True, "savefig.transparent": True}):
        assert render(drawing(), "svg") == expected


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("a.jpg", "--out a.jpg: expected a file *.png, *.pdf or *.svg"),
        ("a", "--out a: expected a file *.png, *.pdf or *.svg"),
        ("folder.png", "--out folder.png: a folder; expected a file *.png"),
        ("file/a.png", "--out file/a.png: file is a file; expected a folder"),
    ],
)
def test_what_cannot_be_written_is_refused(name, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("folder.png").mkdir()
    Path("file").touch()
    with pytest.raises(InputError, match=message.replace("*", r"\*")):
        require_picture("--out", Path(name))


def test_a_folder_without_the_right_to_write_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != tmp_path)
    with pytest.raises(InputError, match="cannot be written to"):
        require_picture("--out", tmp_path / "new/a.png")
