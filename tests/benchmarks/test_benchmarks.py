"""The benchmark: both ways do the same work, rows say what was measured, faults are found."""

import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch

from plugins.benchmarks import Settings, benchmark, benchmark_table
from plugins.benchmarks.attack import attack_work
from plugins.benchmarks.comparison import MIB, Comparison, Work, measure, peak_memory
from plugins.benchmarks.evaluation import check_equal
from plugins.benchmarks.loader import check_pixels, loader_work
from plugins.benchmarks.search import check_distances, check_scores, ranking_work, rerank_work
from plugins.errors import RunFailed
from tests.helpers.pages import ROOT

TINY = Settings(tiny=True, threads=(1,))


@pytest.mark.slow
def test_a_row_says_what_was_measured():
    results = benchmark(["ranking", "rerank"], TINY)
    assert [row["name"] for row in results["rows"]] == [
        "ranking 40x60x16, 1 thread",
        "ranking 10x80x8, 1 thread",
        "re-ranking 30+50x2048, 1 thread",
    ]
    for row in results["rows"]:
        assert row["ratio"] == pytest.approx(row["theirs"] / row["ours"], rel=0.2, abs=0.01)
        assert row["met"] == (row["ratio"] >= row["target"]) and row["unit"] == "s"
    table = benchmark_table(results)
    release = torch.__version__.partition("+")[0]  # without the build, such as +cu130
    assert f"torch {release}" in table and "ranking 40x60x16" in table


def test_ranking_and_fastreids_compiled_ranking_have_the_same_scores():
    work = ranking_work(300, 500, 64, 30)
    ours, theirs = work.ours(), work.theirs()
    valid = ours.average_precision[ours.valid].numpy()
    np.testing.assert_allclose(valid, theirs[1], atol=1e-6)
    check_scores(ours, theirs)
    other = replace(ours, average_precision=ours.average_precision * 0.999)
    with pytest.raises(AssertionError, match=r"mAP 0\."):
        check_scores(other, theirs)


def test_re_ranking_and_fastreids_give_the_same_distances():
    work = rerank_work(60, 90, 64)
    ours, theirs = work.ours(), work.theirs()
    check_distances(ours, theirs)
    with pytest.raises(
        AssertionError, match=r"100\.00% of the distances differ, the largest by 0\.0001"
    ):
        check_distances(ours + 1e-4, theirs)


@pytest.mark.parametrize("cached", [False, True])
def test_both_loaders_read_the_same_pixels(cached):
    work = loader_work(3, cached=cached)
    ours, theirs = work.ours(), work.theirs()
    assert ours.shape == (3, 6, 3, 288, 144)
    check_pixels(ours, theirs)
    with pytest.raises(AssertionError, match="differ by"):
        check_pixels(ours.flip(-1), theirs)


@pytest.mark.parametrize("name", ["RankMargin", "FNA"])
def test_the_attack_and_the_bare_loop_find_the_same_images(name):
    work = attack_work(name, gallery=60, steps=4, tiny=True)
    ours, theirs = work.ours(), work.theirs()
    torch.testing.assert_close(ours, theirs, atol=1e-3, rtol=0)
    clean = attack_work(name, gallery=60, steps=0, tiny=True).ours()
    assert 0 < (ours - clean).abs().max() <= 4.01
    work.check(ours, theirs)
    with pytest.raises(AssertionError, match="gains of 0 and "):
        work.check(clean, theirs)


def test_different_results_end_the_benchmark():
    def check(ours, theirs):
        assert ours == theirs, f"{ours} and {theirs}"

    work = Work(lambda: 1, lambda: 2, check)
    comparison = Comparison("sums", lambda: work, target=1, note="")
    with pytest.raises(RunFailed, match="sums: the two results differ: 1 and 2"):
        measure(comparison)


def test_both_ways_run_in_turn_and_the_fastest_counts(monkeypatch):
    seen, clock = [], iter([0, 3, 10, 11, 20, 22, 30, 37])
    monkeypatch.setitem(
        sys.modules["plugins.benchmarks.comparison"].CLOCKS, "wall", lambda: next(clock)
    )
    work = Work(lambda: seen.append("ours"), lambda: seen.append("theirs"), lambda *_: None)
    (row,) = measure(Comparison("sums", lambda: work, target=1, note="", rounds=2))
    assert seen == ["ours", "theirs"] * 2
    assert (row["ours"], row["theirs"], row["ratio"], row["met"]) == (2, 1, 0.5, False)
    assert (row["ours_median"], row["theirs_median"]) == (2.5, 4)


def thirty_and_ninety():
    """Work that takes 30 MiB, and 90 MiB for the other way."""
    return Work(lambda: bytearray(30 * MIB), lambda: bytearray(90 * MIB), lambda *_: None)


@pytest.mark.slow
def test_two_processes_evaluate_to_the_same_scores():
    (row,) = benchmark(["evaluation"], TINY)["rows"]
    assert row["name"] == "evaluation of 40x60x16, 2 processes" and row["unit"] == "s"
    with pytest.raises(AssertionError, match="'mAP': 1"):
        check_equal({"mAP": 1.0}, {"mAP": 2.0})


@pytest.mark.slow
def test_memory_is_that_of_the_work_alone():
    assert peak_memory(thirty_and_ninety, "ours", 1) == pytest.approx(30, abs=3)
    assert peak_memory(thirty_and_ninety, "theirs", 1) == pytest.approx(90, abs=3)


@pytest.mark.slow
def test_the_command_refuses_what_it_does_not_know(tmp_path):
    def refused(*words):
        done = subprocess.run(
            [sys.executable, "tools/benchmark.py", *words], cwd=ROOT, capture_output=True, text=True
        )
        assert done.returncode == 2 and done.stderr.count("\n") == 1
        return done.stderr

    assert "subject rankin: expected ranking, rerank, " in refused("rankin")
    assert "subject report: expected --against" in refused("report")
    assert "expected a checkout with plugins/__init__.py" in refused(
        "startup", "--against", str(tmp_path)
    )


@pytest.mark.slow
def test_start_up_is_measured_in_processes_of_its_own(tmp_path):
    settings = replace(TINY, program=(sys.executable, str(ROOT / "tools")))
    rows = benchmark(["startup"], settings)["rows"]
    assert [row["name"] for row in rows] == ["train --help", "import plugins"]
    assert {row["unit"] for row in rows} == {"CPU s"} and rows[0]["ours"] > 0
    assert json.loads(json.dumps(rows)) == rows
