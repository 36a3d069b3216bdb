"""Cards side by side: who stands where, and what cannot be compared."""

import re
from html import unescape
from io import BytesIO

import pytest
from PIL import Image

from plugins.errors import InputError
from plugins.robustness.report import leaderboard_page
from plugins.robustness.report.leaderboard import COLUMNS, as_json, group_entries, plot_curves
from tests.helpers.cards import entry


def test_rows_are_ordered_by_status_then_by_worst_case():
    entries = [
        entry("broken", "not established", 90.0),
        entry("fallen", "not robust", 0.0),
        entry("weak", worst=20.0),
        entry("strong", worst=30.0),
        entry("small", "provisional", 80.0),
    ]
    (group,) = group_entries(entries).values()
    assert [each.name for each in group] == ["strong", "weak", "small", "broken", "fallen"]


def test_only_what_can_be_compared_stands_in_one_table():
    groups = group_entries(
        [
            entry("a"),
            entry("b", threat={"eps": 4.0}),
            entry("c", data={"direction": "I2V"}),
            entry("d", threat={"infrared": "tied"}),
            entry("e"),
        ]
    )
    assert {title: [each.name for each in group] for title, group in groups.items()} == {
        "Market1501 Q2G, linf eps 8": ["a", "e"],
        "Market1501 Q2G, linf eps 4": ["b"],
        "Market1501 I2V, linf eps 8": ["c"],
        "Market1501 Q2G, linf eps 8, infrared tied": ["d"],
    }


def test_the_page_shows_every_number_and_the_color_of_each_status():
    entries = [entry("a <b>", worst=33.3), entry("c", "provisional", worst=11.1)]
    page = leaderboard_page(entries)
    for text in ("33.3 [28.3, 38.3]", "11.1 [6.1, 16.1]", "1 / 0 / 1 / 1", "24 of 8 people"):
        assert text in page
    assert '<td class="verdict PASS">upper bound</td>' in page
    assert '<td class="verdict WARN">provisional</td>' in page
    assert "<td>a &lt;b&gt;</td>" in page
    assert all(meaning in unescape(page) for meaning in COLUMNS.values())
    assert "http" not in page and "<script" not in page
    assert len(re.findall("data:image/png", page)) == 1
    (rows,) = as_json(entries)["groups"].values()
    assert [row["worst"]["Rank-1"]["value"] for row in rows] == [33.3, 11.1]


def test_the_curves_are_alive():
    points = [{"eps": 0.0, "Rank-1": 90.0}, {"eps": 8.0, "Rank-1": 70.0}]
    one, other = entry("a"), entry("a", curve={"points": points})
    assert plot_curves([one]) != plot_curves([other])
    assert Image.open(BytesIO(plot_curves([one, other]))).width > 800


def test_names_must_differ_and_there_must_be_a_card():
    with pytest.raises(InputError, match="a: two cards of this name; name them: NAME="):
        group_entries([entry("a"), entry("a")])
    with pytest.raises(InputError, match="expected one or more"):
        leaderboard_page([])
