"""Card, Markdown and page: what they say, and that they need nothing else."""

import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from io import BytesIO
from pathlib import Path

import pytest
import torch
from PIL import Image

from plugins.data.datasets.tracklet import Tracklet
from plugins.errors import InputError
from plugins.robustness.checks import all_checks
from plugins.robustness.report import read_card, write_card
from plugins.robustness.report.html import page
from plugins.robustness.report.markdown import RESULT_COLUMNS, markdown, result_rows
from plugins.robustness.report.pictures import (
    Example,
    plot_attacks,
    plot_curve,
    plot_example,
    plot_people,
)
from tests.helpers.cards import HEADLINE, block, small_card

FIRST_FORMAT = Path(__file__).with_name("card_format_1.json")


@pytest.fixture
def card():
    return small_card()


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
    pictures = {"one & two": plot_curve(card), "people": plot_people(card)}
    text = page(card, pictures)
    reader = Reader()
    reader.feed(text)
    assert reader.open == []
    assert len(reader.links) == 2
    assert all(link.startswith("data:image/png;base64,") for link in reader.links)
    assert not reader.tags & {"script", "link", "iframe"}
    assert "url(" not in text and "@import" not in text and "http" not in text
    assert "Is 1 &lt; 2 &amp; so on?" in text and "The &lt;value&gt; is 12.5 points." in text
    assert f'<div class="headline FAIL">{HEADLINE}</div>' in text
    assert '<td class="verdict SKIPPED">SKIPPED</td>' in text
    assert "prefers-color-scheme: dark" in text and "@media print" in text


def test_markdown_and_page_say_the_same(card):
    rows = result_rows(card)
    assert [row[0] for row in rows] == ["clean", "SMA", "FNA", "worst case"]
    assert rows[1][1:5] == ("40.0 [35.0, 45.0]", "40.0 [35.0, 45.0]", "3", "0.75")
    written, shown = markdown(card), page(card, {})
    for row in rows:
        for text in filter(None, row):
            assert text in written and text in shown
    assert f"**{HEADLINE}**" in written
    for text in ("A random list reaches Rank-1 12.5 %.", *RESULT_COLUMNS.values()):
        assert text in written and text in shown.replace("&nbsp;", " ")
    assert re.search(r"\| C No gradient masking +\| budget_used +\| FAIL +\|.*12.5 points", written)


def test_the_json_gives_the_card_back_and_the_markdown_depends_on_it_alone(card, tmp_path):
    paths = write_card(card, tmp_path / "set_Q2G+flip")
    assert [path.name for path in paths] == ["set_Q2G+flip.json", "set_Q2G+flip.md"]
    read = read_card(paths[0])
    assert read == card == json.loads(paths[0].read_text())
    assert markdown(read) == paths[1].read_text()
    card["worst"] = block(float("nan"))
    with pytest.raises(ValueError):
        write_card(card, tmp_path / "nan")


@pytest.mark.parametrize("draw", [plot_curve, plot_attacks, plot_people])
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


def test_a_card_of_the_first_format_loads_in_todays_terms():
    old = json.loads(FIRST_FORMAT.read_text())
    card = read_card(FIRST_FORMAT)
    assert [check["id"] for check in card["checks"]] == [check.id for check in all_checks()]
    assert card["worst"]["Rank-1"]["value"] == old["worst"]["Rank-1"]["value"]
    assert card["cost"] == old["bill"] and card["level"]["subset"] == old["level"]["probes"]
    recipes = [attack["recipe"] for attack in card["attacks"].values()]
    assert all({"early_stop", "skip_successful"} <= recipe.keys() for recipe in recipes)
    used = next(check for check in card["checks"] if check["id"] == "budget_used")
    assert (
        used["explanation"]
        == "0.672 eps: of eps is the mean perturbation of SMA, of which a random start makes 0.5"
    )
    assert not card["established"] and card["status"] == "not robust"
    assert card["headline"].startswith("Not robust: worst-case Rank-1 is 0.0 %. Checks: 29 passed,")
    for text in (markdown(card), page(card, {"budgets": plot_curve(card)}).replace("&nbsp;", " ")):
        assert card["headline"] in text and used["explanation"] in text


def test_a_card_of_the_second_version_gets_a_status(card, tmp_path):
    old = {**card, "version": 2, "headline": "Robustness not established: 1 check failed."}
    for entry in ("status", "counts", "chance"):
        del old[entry]
    (tmp_path / "card.json").write_text(json.dumps(old))
    assert read_card(tmp_path / "card.json") == {**card, "chance": None}


def test_every_picture_of_a_report_has_one_width(card):
    example = [
        Example(item(0), torch.zeros(frames, 3, 64, 32), torch.zeros(frames, 3, 64, 32), [], [])
        for frames in (1, 3, 10)
    ]
    pictures = [draw(card) for draw in (plot_curve, plot_attacks, plot_people)]
    pictures += [plot_example(each) for each in example]
    assert len({Image.open(BytesIO(png)).width for png in pictures}) == 1


def item(pid):
    return Tracklet(("a.jpg",), pid, 0, 0)


def test_every_frame_of_an_attacked_clip_is_shown():
    clean = torch.full((4, 3, 64, 32), 100.0)
    clip = Example(item(0), clean, clean.clone(), [], [])
    before = plot_example(clip)
    for frame in range(4):
        attacked = clean.clone()
        attacked[frame] += 5
        assert plot_example(replace(clip, attacked=attacked)) != before


def test_a_caption_says_what_the_attack_broke():
    clip = torch.zeros(1, 3, 8, 4)
    example = Example(item(7), clip, clip, [item(7), item(1)], [item(1), item(7)])
    assert example.caption.startswith("Rank-1 is right before and wrong after the attack.")
    assert replace(example, before=[]).caption.startswith("Rank-1 is wrong before and wrong after")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "cannot be read as JSON"),
        ("[1]", "no card of a report; expected schema fastreid-plugins/robustness-card"),
        ('{"schema": "fastreid-plugins/robustness-card", "version": 9}', "version 9; expected 3"),
    ],
)
def test_what_is_no_card_is_named(text, message, tmp_path):
    (tmp_path / "card.json").write_text(text)
    with pytest.raises(InputError, match=rf"card\.json: .*{message}"):
        read_card(tmp_path / "card.json")
