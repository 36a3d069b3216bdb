"""Card, Markdown and page: what they say, and that they need nothing else."""

import json
import re
from html.parser import HTMLParser
from io import BytesIO

import pytest
from PIL import Image

from plugins.robustness.card import figure_rows, markdown, write_card
from plugins.robustness.html import page
from plugins.robustness.pictures import draw_attacks, draw_curve, draw_people


def block(value):
    ends = {"over people": [value - 5, value + 5], "over queries": [value - 3, value + 3]}
    return {metric: {"value": value, **ends} for metric in ("Rank-1", "mAP")}


def check(group, state, figure):
    return {
        "group": group, "name": "moved", "question": "Is 1 < 2 & so on?", "state": state,
        "sentence": "what <was> seen", "figure": figure, "unit": "points",
    }  # fmt: skip


@pytest.fixture
def card():
    recipe = {"restarts": 1, "steps": 15, "optimizer": "sign"}
    counts = {"unique wins": 3, "moved": 0.75, "backwards": 360, "recipe": recipe}
    return {
        "format": 1,
        "stamp": "robustness not established",
        "level": {"name": "quick"},
        "model": {"architecture": "Baseline", "sha256": "c0ffee"},
        "code": {"torch": "2"},
        "data": {"dataset": "Market1501", "direction": "Q2G", "queries": 24, "people": 8,
                 "guides": "gallery"},
        "threat": {"norm": "linf", "eps": 8.0},
        "seed": 0,
        "clean": block(90.0),
        "attacks": {"SMA": {**block(40.0), **counts}, "FNA": {**block(30.0), **counts}},
        "worst": block(20.0),
        "curve": {"attack": "RankMargin", "queries": 8, "area": 55.0,
                  "points": [{"eps": 0.0, "Rank-1": 90.0}, {"eps": 8.0, "Rank-1": 20.0},
                             {"eps": 64.0, "Rank-1": 0.0}]},
        "people": [{"id": 7, "queries": 3, "clean": 100.0, "worst": 0.0}],
        "cameras": [{"id": 1, "queries": 3, "clean": 100.0, "worst": 0.0}],
        "checks": [check("A", "PASS", 0.0), check("C", "FAIL", 12.5), check("D", "SKIPPED", None)],
        "bill": {"forwards": 10, "backwards": 10, "seconds": 1.5},
    }  # fmt: skip


class Reader(HTMLParser):
    """Collects what a page links to, and its tags, checking that they close."""

    def __init__(self):
        super().__init__()
        self.open, self.links, self.tags = [], [], set()

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.links += [value for key, value in attrs if key in ("src", "href")]
        if tag not in ("meta", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_the_page_is_whole_and_needs_no_other_file(card):
    pictures = {"one & two": draw_curve(card), "people": draw_people(card)}
    text = page(card, pictures)
    reader = Reader()
    reader.feed(text)
    assert reader.open == []
    assert len(reader.links) == 2
    assert all(link.startswith("data:image/png;base64,") for link in reader.links)
    assert not reader.tags & {"script", "link", "iframe"}
    assert "url(" not in text and "@import" not in text and "http" not in text
    assert "Is 1 &lt; 2 &amp; so on?" in text and "what &lt;was&gt; seen" in text
    assert '<div class="stamp FAIL">robustness not established</div>' in text
    assert '<td class="verdict SKIPPED">SKIPPED</td>' in text
    assert "prefers-color-scheme: dark" in text and "@media print" in text


def test_markdown_and_page_say_the_same(card):
    rows = figure_rows(card)
    assert [row[0] for row in rows] == ["clean", "SMA", "FNA", "worst case"]
    assert rows[1][1:5] == ("40.0 [35.0, 45.0]", "40.0 [35.0, 45.0]", "3", "0.75")
    written, shown = markdown(card), page(card, {})
    for row in rows:
        for text in filter(None, row):
            assert text in written and text in shown
    assert "**robustness not established**" in written
    assert re.search(r"\| C No gradient masking +\| FAIL +\|.*12.5 points", written)


def test_the_json_gives_the_card_back_and_the_markdown_depends_on_it_alone(card, tmp_path):
    paths = write_card(card, tmp_path / "set_Q2G+flip")
    assert [path.name for path in paths] == ["set_Q2G+flip.json", "set_Q2G+flip.md"]
    read = json.loads(paths[0].read_text())
    assert read == card
    assert markdown(read) == paths[1].read_text()
    card["worst"] = block(float("nan"))
    with pytest.raises(ValueError):
        write_card(card, tmp_path / "nan")


@pytest.mark.parametrize("draw", [draw_curve, draw_attacks, draw_people])
def test_pictures_are_the_same_for_the_same_numbers(draw, card):
    png = draw(card)
    assert png == draw(card)
    image = Image.open(BytesIO(png)).convert("L")
    assert min(image.size) > 150 and image.getextrema() == (image.getextrema()[0], 255)
    other = {**card, "worst": block(60.0), "threat": {"norm": "linf", "eps": 8.0}}
    other["people"] = [{"id": 7, "queries": 3, "clean": 50.0, "worst": 50.0}]
    other["curve"] = {**card["curve"], "points": [{"eps": 0.0, "Rank-1": 50.0},
                                                  {"eps": 8.0, "Rank-1": 40.0}]}  # fmt: skip
    assert draw(other) != png
