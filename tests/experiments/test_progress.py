"""The bar over all runs: what counts as done, and the time left."""

import json
import os
import re
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from plugins.experiments import execute, plan_runs, progress, read_ablation
from plugins.experiments.datasets import prepare
from plugins.experiments.processes import Job, Process
from plugins.experiments.progress import Progress, last_line, share_trained
from tests.helpers.ablation_files import SEVERAL, STAND_IN, TESTS, write

FAR = 10_000.0  # seconds: no test takes so long


def log(folder: Path, left: float, written: float) -> None:
    """Lines of a training's metrics, the last with the seconds that are left."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "metrics.json"
    lines = [{"iteration": 9, "eta_seconds": FAR}, {"iteration": 19, "eta_seconds": left}]
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    os.utime(file, (written, written))


def test_the_share_of_a_training_follows_from_the_time_that_it_says_is_left(tmp_path):
    log(tmp_path, left=30.0, written=110.0)
    assert share_trained(tmp_path, begun=100.0, now=110.0) == 10 / 40
    # Ten seconds later nothing new is logged, but ten seconds have passed.
    assert share_trained(tmp_path, begun=100.0, now=120.0) == 20 / 40
    assert share_trained(tmp_path, begun=100.0, now=150.0) == 1.0


UNFIT = ["", "{", "{}\n", "[]\n", "\x00\n", 60_000 * "[" + "\n", '{"eta_seconds": 3}']
UNFIT += ['{"eta_seconds": null}\n', '{"eta_seconds": NaN}\n', '{"eta_seconds": Infinity}\n']


@pytest.mark.parametrize("text", UNFIT, ids=lambda text: text[:20].strip())
def test_a_training_that_has_said_nothing_has_done_nothing(tmp_path, text):
    assert share_trained(tmp_path, begun=0.0) == 0.0
    (tmp_path / "metrics.json").write_text(text)
    assert share_trained(tmp_path, begun=0.0) == 0.0


def test_what_an_earlier_process_logged_says_nothing_of_this_one(tmp_path):
    log(tmp_path, left=30.0, written=90.0)
    assert share_trained(tmp_path, begun=100.0, now=110.0) == 0.0
    log(tmp_path, left=0.0, written=110.0)
    assert share_trained(tmp_path, begun=100.0, now=95.0) == 0.0  # a clock that was set back


def test_the_last_line_of_a_long_file_is_read_from_its_end(tmp_path):
    file = tmp_path / "metrics.json"
    file.write_text("a" * 200_000 + "\nlast\nhalf a li")
    assert last_line(file) == b"last"


@dataclass
class Screen:
    """A terminal that keeps the bar's lines."""

    lines: list[str] = field(default_factory=list)

    def isatty(self) -> bool:
        return True

    def flush(self) -> None:
        pass

    def write(self, text: str) -> None:
        self.lines += [line.rstrip() for line in re.split(r"[\r\n]+", text) if "%|" in line]


@pytest.fixture
def screen(monkeypatch):
    """A function that turns to the terminal: every look is at once, and every change is drawn."""

    def show() -> Screen:  # in the test itself, before which pytest exchanges stderr
        monkeypatch.setattr(progress, "PERIOD", 0.0)
        monkeypatch.setattr(sys, "stderr", found := Screen())
        return found

    return show


def planned(folder: Path, **changes) -> list:
    ablation = read_ablation(write(folder, **SEVERAL, **changes))
    return plan_runs(ablation, ablation.choose(["margin"]), None, folder / "logs")


@pytest.mark.slow
def test_a_run_is_its_epochs_and_tests_and_the_bar_is_full_at_the_end(tmp_path, screen):
    lines = screen().lines
    first, second = planned(tmp_path)
    stages = first.stages()
    assert (first.row.epochs, len(stages)) == (2, 4)
    with Progress([first, second]) as bar:
        bar.start(training := Job(first, None, Process(), resumed=False))
        bar._begun[str(first)] -= 10
        log(first.folder, left=0.0, written=time.time())
        bar.look([training])
        assert bar._bar.n == pytest.approx(2)  # both epochs, of 12 steps
        assert lines[-1].startswith("0 of 2 runs:  17%|")
        assert lines[-1].endswith("margin/seed0")
        bar.start(test := Job(first, stages[2], Process(), resumed=False))
        bar.look([test])
        assert bar._bar.n == 4
        bar.end(first)
        assert bar._bar.n == 6
        # The other one is found with its training and a test behind it: no work of this command.
        bar.start(Job(second, second.stages()[1], Process(), resumed=False))
        assert (bar._bar.n, bar._bar.initial) == (9, 3)
        bar.end(second, failed=True)
        assert (bar._bar.n, bar._bar.initial, bar._bar.total) == (12, 6, 12)
    assert lines[-1].startswith("2 of 2 runs: 100%|")


@pytest.mark.slow
def test_one_bar_is_shown_for_all_runs_with_the_time_left(tmp_path, screen):
    lines, tool = screen().lines, tmp_path / "train.py"
    tool.write_text(STAND_IN)
    ablation = read_ablation(write(tmp_path, seeds=[0, 1, 3]))
    runs = plan_runs(ablation, ablation.choose(["margin"]), None, tmp_path / "logs")
    execute(runs, tool, 1, 1, lambda *_: None)
    titles = list(dict.fromkeys(line.split(":")[0] for line in lines))
    assert titles == [f"{ended} of 3 runs" for ended in range(4)]
    assert all(re.search(r"\| \d\d:\d\d<(\d\d:\d\d|\?)", line) for line in lines)
    assert lines[-1].startswith("3 of 3 runs: 100%|")


@pytest.mark.slow
def test_one_bar_is_shown_for_all_sets_that_are_to_be_rendered(tmp_path, screen, monkeypatch):
    monkeypatch.setenv("FASTREID_DATASETS", str(tmp_path))
    tests = {"other-sites": TESTS["other-sites"]}
    ablation = read_ablation(write(tmp_path, **{**SEVERAL, "tests": tests}))
    known, *others = ablation.datasets()
    known.prepare(workers=1)
    lines = screen().lines
    prepare([known, *others, others[0]], workers=1)
    assert {line.split(":")[0] for line in lines} == {"rendering data sets"}
    assert len(others) == 2
    frames = sum(len(list(other.folder().glob("T*/*/*/*/*.jpg"))) for other in others)
    assert f" {frames}/{frames} " in lines[-1]
    lines.clear()
    prepare(others, workers=1)
    assert not lines
