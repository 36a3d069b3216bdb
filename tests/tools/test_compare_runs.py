"""tools/compare_runs.py on the files of runs; on those of a real one in tests/engine."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from plugins.evaluation import Evaluation, write_queries
from tests.helpers.query_rows import chosen, rows_of
from tests.helpers.small_runs import ROOT

TOOL = ROOT / "tools/compare_runs.py"


@pytest.fixture
def runs(tmp_path) -> list[str]:
    """OUTPUT_DIRs of two ways of training with two seeds each: A0, A1, B0, B1."""
    folders = []
    for number, name in enumerate(("A0", "A1", "B0", "B1")):
        folder = tmp_path / name
        folder.mkdir()
        write_queries(folder / "queries.npz", Evaluation(rows_of(number), {"seed": number}))
        folders.append(str(folder))
    return folders


def test_two_runs_are_compared_over_people(run_tool, runs):
    status, out, _ = run_tool(TOOL, runs[0], runs[2])
    assert status == 0
    ours, theirs = (rows_of(number)[0].block()["mAP"] for number in (0, 2))
    line = next(line for line in out.splitlines() if "| I2V/mAP" in line)
    cells = [cell.strip() for cell in line.strip("|").split("|")]
    assert cells[:2] == ["HITSZVCM", "I2V/mAP"]
    assert cells[2:5] == [f"{ours:.2f}", f"{theirs:.2f}", f"{ours - theirs:+.2f}"]
    assert cells[8:10] == ["6", "1"]
    metrics = [line.split("|")[2].strip() for line in out.splitlines() if "HITSZVCM" in line]
    rows = [f"{row}/{metric}" for row in ("I2V", "V2I") for metric in ("mAP", "Rank-1")]
    assert metrics == ["mAP", "Rank-1", *rows]
    assert "another seed may differ by more" in out


def test_several_seeds_are_paired_and_written(run_tool, runs, tmp_path):
    out_file = tmp_path / "new/differences.json"
    words = [*runs[:2], "--against", *runs[2:], "--metric", "mAP", "--out", str(out_file)]
    status, out, _ = run_tool(TOOL, *words)
    assert status == 0 and "another seed" not in out
    (entry,) = json.loads(out_file.read_text())
    blocks = [[row.block()["mAP"] for row in rows_of(number)] for number in range(4)]
    expected = np.mean(blocks[:2]) - np.mean(blocks[2:])
    assert entry["difference"] == pytest.approx(expected, abs=1e-3)
    assert entry["difference"] == pytest.approx(entry["ours"] - entry["theirs"], abs=1e-3)
    assert (entry["seeds"], entry["people"], entry["queries"]) == (2, 6, 34)
    assert entry["low"] < entry["difference"] < entry["high"]
    assert entry["row"] == f"{runs[0]} {runs[1]}"


def test_what_not_all_have_is_named_and_left_out(run_tool, runs):
    rows = rows_of(2)
    more = [*rows, replace(rows[0], row="I2V+FNA", plain=False), replace(rows[0], dataset="More")]
    write_queries(Path(runs[2], "queries.npz"), Evaluation(more))
    write_queries(Path(runs[0], "queries.npz"), Evaluation(rows_of(0)[:1]))
    status, out, _ = run_tool(TOOL, runs[0], runs[2])
    assert status == 0
    left = "HITSZVCM/V2I, HITSZVCM/I2V+FNA, More/I2V"
    assert f"left out, as not all runs have it: {left} of {runs[2]}" in out
    assert "| I2V/mAP" in out and "| V2I" not in out and "| mAP" not in out


def test_settings_that_differ_are_told(run_tool, runs):
    recorded = {"INPUT.SIZE_TEST": [64, 32], "INPUT.CLIP.LENGTH": 6, "TEST.FLIP.ENABLED": True}
    for number, run in enumerate(runs):
        of_theirs = (
            {"INPUT.SIZE_TEST": [32, 16], "TEST.RERANK.ENABLED": False} if number > 1 else {}
        )
        settings = {**recorded, **of_theirs}
        about = {"seed": number, "weights_digest": "0" * 12, "settings": settings}
        write_queries(Path(run, "queries.npz"), Evaluation(rows_of(number), about))
    status, out, _ = run_tool(TOOL, *runs[:2], "--against", *runs[2:])
    assert status == 0
    assert "INPUT.SIZE_TEST differs: A [64, 32], B [32, 16]\n" in out
    assert "A and B have the same weights\n" in out
    assert out.count(" differs: ") == 1, "False is the default of the key that A does not have"
    _, out, _ = run_tool(TOOL, *runs[:2])
    assert " differs: " not in out
    write_queries(Path(runs[1], "queries.npz"), Evaluation(rows_of(1)))  # of an earlier version
    _, out, _ = run_tool(TOOL, *runs[:2])
    assert f"settings not recorded, so not compared: {runs[1]}\n" in out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["A0"], "1 runs; expected two, or several seeds: A1 A2 --against B1 B2"),
        (["A0", "A1", "B0"], "3 runs; expected two"),
        (["A0", "A1", "--against", "B0"], "2 runs against 1; expected as many"),
        (["A0", "A0"], "A0: named twice; expected different runs"),
        (["A0", "none"], "none: no such file"),
        (["A0", "empty"], "empty: has neither queries.npz nor evaluation_queries.npz"),
        (["A0", "A1", "--metric", "mAp"], "'mAp'; expected METRIC or DIRECTION/METRIC"),
        (["A0", "A1", "--metric", "Q2G/mAP"], "HITSZVCM has no row 'Q2G'; known: I2V, V2I"),
        (["A0", "fewer"], "different queries: 1 of 18 only in the former, the first I2V/0.jpg"),
        (["A0", "else"], "nothing that all runs were tested on: "),
        (["A0", "A1", "--out", "x.txt"], "--out x.txt: expected a file *.json"),
    ],
)
def test_a_mistake_is_one_line_and_exit_status_2(
    run_tool, runs, tmp_path, monkeypatch, words, message
):
    monkeypatch.chdir(tmp_path)
    Path("empty").mkdir()
    for name, rows in (
        ("fewer", [chosen(row, slice(1, None)) for row in rows_of(1)]),
        ("else", [replace(row, dataset="Other") for row in rows_of(1)]),
    ):
        Path(name).mkdir()
        write_queries(Path(name, "queries.npz"), Evaluation(rows))
    status, _, err = run_tool(TOOL, *words)
    assert status == 2
    assert message in err and len(err.splitlines()) == 1
