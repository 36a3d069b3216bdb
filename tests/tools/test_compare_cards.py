"""tools/compare_cards.py as a user runs it."""

import json

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
