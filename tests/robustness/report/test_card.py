"""Card, Markdown and page: what they say, and that they need nothing else."""

import functools
import json
import operator
import os
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
from plugins.robustness.report import Entry, leaderboard_page, pictures, read_card, write_card
from plugins.robustness.report.html import page
from plugins.robustness.report.leaderboard import as_json
from plugins.robustness.report.markdown import RESULT_COLUMNS, markdown, result_rows, setting_rows
from plugins.robustness.report.pictures import (
    Example,
    people_caption,
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


def test_a_list_among_the_settings_is_no_python(card):
    for attacks in (("SMA", "FNA"), ["SMA", "FNA"]):
        card["level"]["attacks"] = attacks
        card["code"]["commit"] = None
        rows = dict(setting_rows(card))
        assert rows["level attacks"] == "SMA, FNA" and rows["code commit"] == "unknown"


def test_a_caption_says_where_no_bar_can_be_seen(card):
    assert people_caption(card) == "Rank-1 by person; it is 0 % for all people in the worst case"
    card["people"] = [{**card["people"][0], "clean": 0.0}]
    nobody = "; it is 0 % for all people without an attack and in the worst case"
    assert people_caption(card).endswith(nobody)
    card["people"] = [{**card["people"][0], "worst": 5.0, "clean": 50.0}]
    assert people_caption(card) == "Rank-1 by person"


@pytest.mark.slow
def test_people_are_named_where_there_is_room(card):
    (person,) = card["people"]
    few, other = ([{**person, "name": name}] for name in ("Ann $", "Bob"))
    assert plot_people({**card, "people": few}) != plot_people({**card, "people": other})
    many, others = ([{**person, "name": name}] * 41 for name in ("Ann", "Bob"))
    assert plot_people({**card, "people": many}) == plot_people({**card, "people": others})


def test_the_axis_of_the_budgets_says_its_scale(card, monkeypatch):
    figures = []
    monkeypatch.setattr(pictures, "png_of", lambda figure: figures.append(figure) or b"")
    plot_curve(card)
    card["curve"]["points"] = card["curve"]["points"][:1]  # no attack at all
    plot_curve(card)
    labels = [figure.axes[0].get_xlabel() for figure in figures]
    assert labels[0] == "eps, gray levels, linf; logarithmic from 8 on"


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
    assert not card["established"] and card["status"] == "not established"
    assert "hardly better than a random list. Checks: 29 passed," in card["headline"]
    for text in (markdown(card), page(card, {"budgets": plot_curve(card)}).replace("&nbsp;", " ")):
        assert card["headline"] in text and used["explanation"] in text


def test_a_card_of_the_second_version_gets_a_status(card, tmp_path):
    old = {**card, "version": 2, "headline": "Robustness not established: 1 check failed."}
    for entry in ("status", "counts", "chance"):
        del old[entry]
    (tmp_path / "card.json").write_text(json.dumps(old))
    assert read_card(tmp_path / "card.json") == {**card, "chance": None}


@pytest.mark.slow
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


@pytest.mark.slow
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


BARE = '{"schema": "fastreid-plugins/robustness-card", "version": %d}'


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"{", r":1: Expecting .*; expected the JSON card of a report"),
        (b"[1]", r": found \[1\]; expected a mapping, the JSON card of a report"),
        (b"{}", ": no card of a report; expected schema fastreid-plugins/robustness-card"),
        (b'{"a":\n "\xe9"}', ":2: byte 3 of the line, 0xe9, is not UTF-8; expected a text file"),
        (b"[" * 50_000, ": nested too deeply; expected the JSON card of a report"),
        (b"<!DOCTYPE html>", ":1: Expecting value; expected the JSON card of a report"),
        (BARE.encode() % 9, ": card of version 9; expected 3"),
        (BARE.encode() % 3, ": has no 'status'; expected status, headline, counts, "),
        (BARE.encode() % 2, ": has no 'worst'; expected worst, checks"),
        (b'{"format": 1}', ": has no 'level'; expected level, checks"),
    ],
)  # fmt: skip
def test_what_is_no_card_is_one_line_that_names_the_file(text, message, tmp_path):
    (tmp_path / "card.json").write_bytes(text)
    with pytest.raises(InputError, match=rf"^{tmp_path}/card\.json{message}") as told:
        read_card(tmp_path / "card.json")
    assert "\n" not in str(told.value)


def test_a_card_that_is_no_regular_file_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "card.json")
    with pytest.raises(InputError, match=r"card\.json: not a regular file"):
        read_card(tmp_path / "card.json")


def test_what_nests_more_deeply_than_an_upgrade_goes_is_told(tmp_path):
    old = json.loads(FIRST_FORMAT.read_text())
    text = json.dumps(old | {"extra": 0}).replace('"extra": 0', '"extra": ' + "[" * 800 + "]" * 800)
    (tmp_path / "card.json").write_text(text)
    with pytest.raises(InputError, match=r"card\.json: nested too deeply; expected"):
        read_card(tmp_path / "card.json")


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("status", "fine", "status: found 'fine'; expected one of not robust, not established"),
        ("worst Rank-1 value", "20", "worst: Rank-1: value: found '20'; expected a number from 0"),
        ("worst Rank-1 value", 200, "value: found 200; expected a number from 0 to 100"),
        ("clean mAP value", True, "clean: mAP: value: found True; expected a number from 0 to"),
        ("threat eps", 10**400, r"threat: eps: found 1000.*; expected a finite number"),
        ("clean mAP interval_over_people", [1.0],
         r"interval_over_people: found \[1.0\]; expected a list of 2"),
        ("attacks SMA", None, "attacks: SMA: found null; expected a mapping"),
        ("attacks SMA unique_wins", 1.5, "SMA: unique_wins: found 1.5; expected a whole number"),
        ("curve points 0 eps", "0", "points: entry 1: eps: found '0'; expected a finite number"),
        ("checks 1 state", "fail", "checks: entry 2: state: found 'fail'; expected one of PASS"),
        ("model sha256", 7, "model: sha256: found 7; expected text"),
        ("worst mAP value", 1e308, r"found 1e\+308; expected a number from 0 to 100"),
        ("threat norm", "l1", "threat: norm: found 'l1'; expected one of linf, l2"),
        ("data metric", "\ud800", "data: metric: found .*; expected text of whole characters"),
        ("chance", "12", "chance: found '12'; expected a finite number or null"),
    ],
)  # fmt: skip
def test_a_wrong_entry_of_a_card_is_named_with_what_was_expected(
    path, value, message, card, tmp_path
):
    *outer, last = [int(key) if key.isdigit() else key for key in path.split()]
    functools.reduce(operator.getitem, outer, card)[last] = value
    (tmp_path / "card.json").write_text(json.dumps(card))
    with pytest.raises(InputError, match=rf"card\.json: .*{message}"):
        read_card(tmp_path / "card.json")


class Watched(dict):
    """A mapping that notes which entries are read, each by the keys that lead to it."""

    def __init__(self, mapping, read, path=()):
        super().__init__({key: watched(part, read, (*path, key)) for key, part in mapping.items()})
        self.read, self.path = read, path

    def __getitem__(self, key):
        self.read.add((*self.path, key))
        return super().__getitem__(key)


def watched(value, read, path=()):
    if isinstance(value, list):
        return [watched(part, read, (*path, number)) for number, part in enumerate(value)]
    return Watched(value, read, path) if isinstance(value, dict) else value


@pytest.mark.slow
def test_a_card_without_an_entry_that_a_reader_needs_is_refused(card, tmp_path):
    read: set[tuple] = set()
    spied = watched(card, read)
    leaderboard_page([Entry("ours", spied)])
    as_json([Entry("ours", spied)])
    page(spied, {"curve": plot_curve(spied), "b": plot_attacks(spied), "c": plot_people(spied)})
    markdown(spied)
    assert len(read) > 60
    for *outer, last in sorted(read, key=str):
        lacking = json.loads(json.dumps(card))
        del functools.reduce(operator.getitem, outer, lacking)[last]
        (tmp_path / "card.json").write_text(json.dumps(lacking))
        with pytest.raises(InputError, match=f"has no '{last}'; expected "):
            read_card(tmp_path / "card.json")
