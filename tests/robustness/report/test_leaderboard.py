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


PROTOCOL = {"queries_of_set": 20, "gallery": 205, "metric": "cosine", "junk": "camera",
            "cmc": "item", "attacked_side": "query"}  # fmt: skip


@pytest.mark.parametrize(
    ("section", "change", "title"),
    [
        ("data", {"queries_of_set": 21}, "21 queries in the set"),
        ("data", {"gallery": 100}, "100 gallery items"),
        ("data", {"metric": "euclidean"}, "metric euclidean"),
        ("data", {"junk": "none"}, "junk rule none"),
        ("data", {"cmc": "identity"}, "CMC by identity"),
        ("data", {"attacked_side": "gallery"}, "gallery attacked"),
        ("data", {"guides": "training set"}, "guides from training set"),
        ("threat", {"frames": "shared"}, "frames shared"),
    ],
)
def test_cards_of_another_protocol_stand_apart_and_the_titles_say_why(section, change, title):
    one, other = entry("a", data=PROTOCOL), entry("b", data=PROTOCOL)
    other.card[section].update(change)
    first, second = group_entries([one, other])
    assert second == f"Market1501 Q2G, linf eps 8, {title}"
    assert first.startswith("Market1501 Q2G, linf eps 8") and first != second
    alone = "Market1501 Q2G, linf eps 8"
    assert [*group_entries([one])] == [*group_entries([one, one._replace(name="c")])] == [alone]


@pytest.mark.parametrize(("tau", "titles"), [(2.0, 1), (4.0, 2)])
def test_smooth_attacks_differ_by_their_bound(tau, titles):
    cards = [entry(f"{each}", threat={"frames": "smooth", "smooth_tau": each}) for each in (1, 2.0)]
    cards[0].card["threat"]["smooth_tau"] = tau
    assert len(group_entries(cards)) == titles
    dense = [entry("a", threat={"smooth_tau": 1.0}), entry("b", threat={"smooth_tau": tau})]
    assert len(group_entries(dense)) == 1


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_a_number_that_is_not_finite_is_refused_by_the_name_of_its_card(number):
    faulty = entry("theirs")
    faulty.card["worst"]["mAP"]["interval_over_queries"] = [0.0, number]
    with pytest.raises(InputError, match=r"^theirs: worst: mAP: interval_over_queries: entry 2"):
        as_json([entry("ours"), faulty])


def test_a_name_with_dollars_is_no_formula():
    assert plot_curves([entry(r"$\frac$")]) != plot_curves([entry("a")])


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


@pytest.mark.slow
def test_the_curves_are_alive():
    points = [{"eps": 0.0, "Rank-1": 90.0}, {"eps": 8.0, "Rank-1": 70.0}]
    one, other = entry("a"), entry("a", curve={"points": points})
    assert plot_curves([one]) != plot_curves([other])
    assert Image.open(BytesIO(plot_curves([one, other]))).width > 800


@pytest.mark.slow
def test_names_must_differ_and_there_must_be_a_card():
    with pytest.raises(InputError, match="a: two cards of this name; name them: NAME="):
        group_entries([entry("a"), entry("a")])
    with pytest.raises(InputError, match="expected one or more"):
        leaderboard_page([])
