"""tools/compare_cards.py as a user runs it."""

import json

import pytest

from tests.helpers.cards import entry
from tests.helpers.small_runs import ROOT

TOOL = ROOT / "tools/compare_cards.py"


def test_the_command_writes_page_and_numbers(tmp_path, run_tool):
    for name, worst in (("ours", 40.0), ("theirs", 30.0)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "card.json").write_text(json.dumps(entry(name, worst=worst).card))
    out = tmp_path / "pages" / "board.html"
    cards = [str(tmp_path / "theirs/card.json"), f"best={tmp_path / 'ours/card.json'}"]
    status, printed, _ = run_tool(TOOL, *cards, "--out", str(out))
    assert status == 0
    assert printed.splitlines() == [
        "Market1501 Q2G, linf eps 8",
        "  best: upper bound, worst-case Rank-1 40.0 %",
        "  theirs: upper bound, worst-case Rank-1 30.0 %",
        f"page: {out}",
    ]
    assert json.loads(out.with_suffix(".json").read_text())["schema"].endswith("/leaderboard")
    assert out.read_text().index("<td>best</td>") < out.read_text().index("<td>theirs</td>")
    status, _, told = run_tool(TOOL, str(tmp_path / "gone.json"), "--out", str(out))
    assert status == 2 and "gone.json" in told


def test_what_is_no_card_is_one_line(tmp_path, run_tool):
    bare = tmp_path / "bare.json"
    bare.write_text('{"schema": "fastreid-plugins/robustness-card", "version": 3}')
    status, printed, told = run_tool(TOOL, str(bare), "--out", str(tmp_path / "o.html"))
    assert (status, printed, told.count("\n")) == (2, "", 1)
    assert told.startswith(f"error: {bare}: has no 'status'; expected ")
    assert not (tmp_path / "o.html").exists()


@pytest.mark.parametrize(
    ("card", "out"), [("rendered.json", "rendered.html"), ("card.html", "card.html")]
)
def test_a_card_is_not_replaced_by_its_own_leaderboard(tmp_path, run_tool, card, out):
    before = json.dumps(entry("ours").card)
    (tmp_path / card).write_text(before)
    status, printed, told = run_tool(TOOL, str(tmp_path / card), "--out", str(tmp_path / out))
    assert (status, printed, told.count("\n")) == (2, "", 1)
    assert told.startswith(f"error: --out {tmp_path / out}: would replace the card ")
    assert (tmp_path / card).read_text() == before and [*tmp_path.iterdir()] == [tmp_path / card]


@pytest.mark.slow
@pytest.mark.parametrize("other", ['{"schema": "another"}', "[1]", "no JSON"])
def test_what_is_no_leaderboard_is_not_replaced(tmp_path, run_tool, other):
    (tmp_path / "card.json").write_text(json.dumps(entry("ours").card))
    (tmp_path / "board.json").write_text(other)
    words = str(tmp_path / "card.json"), "--out", str(tmp_path / "board.html")
    status, _, told = run_tool(TOOL, *words)
    assert status == 2 and f"would replace {tmp_path / 'board.json'}, no leaderboard" in told
    assert (tmp_path / "board.json").read_text() == other
    (tmp_path / "board.json").unlink()
    assert [run_tool(TOOL, *words)[0] for _ in range(2)] == [0, 0], "a leaderboard is renewed"


def test_an_existing_path_with_an_equals_sign_is_a_path(tmp_path, run_tool, monkeypatch):
    for folder in ("a=b", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "c.json").write_text(json.dumps(entry("ours").card))
    monkeypatch.chdir(tmp_path)
    status, printed, _ = run_tool(TOOL, "a=b/c.json", "new=b/c.json", "--out", "board.html")
    assert status == 0
    names = [line.partition(":")[0].strip() for line in printed.splitlines()[1:-1]]
    assert names == ["a=b", "new"]


@pytest.mark.slow
def test_numbers_that_are_no_json_are_refused_by_their_name(tmp_path, run_tool):
    card = entry("ours").card
    card["worst"]["Rank-1"]["interval_over_queries"][1] = float("nan")
    (tmp_path / "card.json").write_text(json.dumps(card))
    out = tmp_path / "board.html"
    status, _, told = run_tool(TOOL, str(tmp_path / "card.json"), "--out", str(out))
    assert status == 2 and not out.exists()
    where = "card.json: worst: Rank-1: interval_over_queries: entry 2: found nan"
    assert f"{where}; expected a finite number" in told
