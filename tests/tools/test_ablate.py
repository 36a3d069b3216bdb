"""tools/ablate.py with real runs: one epoch each, of a rendered set, in processes of their own."""

import json
import runpy
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from plugins.evaluation import read_queries
from tests.helpers.ablations import TREE
from tests.helpers.dry_models import try_each_model_once
from tests.helpers.small_runs import CONFIG, ROOT

TOOL = ROOT / "tools/ablate.py"


def write(folder: Path, **changes) -> Path:
    file = folder / "projects/toy/ablation.yml"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(yaml.safe_dump({**TREE, **changes}, sort_keys=False))
    return file


def command(file: Path, *flags: str) -> list[str]:
    return [sys.executable, str(TOOL), str(file), *flags]


@pytest.fixture(autouse=True)
def _each_model_is_tried_once(monkeypatch):
    try_each_model_once(monkeypatch)


@pytest.fixture
def ablate(tmp_path, monkeypatch, capsys):
    """Runs the tool in this process, in a folder of its own; gives its exit status and output."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FASTREID_DATASETS", str(tmp_path / "datasets"))

    def run(file: Path, *flags: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", command(file, *flags)[1:])
        with pytest.raises(SystemExit) as stopped:
            runpy.run_path(str(TOOL), run_name="__main__")
        return stopped.value.code, *capsys.readouterr()

    return run


def alive(folder: Path) -> list[str]:
    """Command lines of the processes that write below ``folder``."""
    processes = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True)
    return [line for line in processes.stdout.splitlines() if f"--config-file {folder}" in line]


@pytest.mark.slow
def test_a_stopped_grid_goes_on_and_has_each_run_once(ablate, tmp_path):
    # A config of its own, so that its processes can be told from others'.
    base = tmp_path / "base.yml"
    base.write_text(f"_BASE_: {CONFIG}\n")
    file = write(tmp_path, config=str(base))
    record = file.parent / "results/ablation.json"
    first = subprocess.Popen(
        command(file), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    while not record.exists():
        assert first.poll() is None, first.stderr.read()
        time.sleep(0.02)
    first.send_signal(signal.SIGTERM)
    errors = first.communicate(timeout=60)[1]
    assert first.returncode == 128 + signal.SIGTERM, errors
    assert "the same command goes on" in errors
    assert alive(tmp_path) == []
    before = json.loads(record.read_text())
    assert 1 <= len(before) < 4

    status, out, err = ablate(file, "--jobs", "2")
    assert status == 0, err
    assert f"4 runs, {len(before)} recorded already in {record}" in out
    results = json.loads(record.read_text())
    places = [(result["row"], result["seed"]) for result in results]
    assert places == [("baseline", 0), ("baseline", 1), ("full", 0), ("full", 1)]
    assert all(result in results for result in before)
    for result in results:
        assert result["dataset"] == "tiny"
        assert result["epochs"] == 1
    assert results[0]["overrides"] == TREE["rows"]["baseline"]["overrides"]
    assert "± " in (file.parent / "results/ablation.md").read_text()

    log = tmp_path / "logs/ablation/toy/ablation/full/seed0"
    assert {"train.log", "results.json", "model_final.pth"} <= {p.name for p in log.iterdir()}
    saved = json.loads((log / "results.json").read_text())["results"]["HITSZVCM"]
    tested = json.loads((log / "tests/other/evaluation.json").read_text())["results"]["HITSZVCM"]
    blocks = {f"tiny/{name}": saved[name] for name in ("I2V", "V2I")}
    blocks |= {f"other/{name}": tested[name] for name in ("I2V", "V2I")}
    assert results[2]["metrics"] == blocks and tested["I2V"] != saved["I2V"]
    queries = read_queries(file.parent / "results/ablation_queries/full_seed0.npz")
    assert [row.task for row in queries.rows] == list(blocks)
    for row in queries.rows:
        assert row.block() == pytest.approx(blocks[row.task], abs=0.05)
    primary, *_ = differences = json.loads((file.parent / "results/differences.json").read_text())
    means = [(r["metrics"]["other/I2V"]["mAP"] + r["metrics"]["other/V2I"]["mAP"]) / 2
             for r in results]  # fmt: skip
    expected = (means[2] + means[3] - means[0] - means[1]) / 2
    assert primary["difference"] == pytest.approx(expected, abs=0.05)
    # The renderer's seed says who is seen where: each seed is tested on people of its own.
    assert (primary["kind"], primary["people"], primary["seeds"]) == ("primary", 6, 2)
    assert [d["crossed"] for d in differences] == [d["dataset"] == "tiny" for d in differences]
    assert primary["low"] < primary["difference"] < primary["high"]
    assert {(d["dataset"], d["metric"]) for d in differences} >= {("tiny", "I2V/Rank-1")}
    assert "| primary" in out and "Holm" in out
    printed = (log / "log.txt").read_text()
    assert f"{saved['I2V']['mAP']:.2f}" in printed and f"{saved['V2I']['Rank-1']:.2f}" in printed

    status, out, _ = ablate(file)
    assert status == 0 and "nothing to run; --name NAME" in out

    # A record that was lost comes back from the run's folder.
    record.write_text(json.dumps(results[:3]))
    assert ablate(file)[0] == 0
    assert json.loads(record.read_text()) == results
    again = json.loads((file.parent / "results/differences.json").read_text())
    assert again == differences

    # Changed settings would make it run again.
    write(tmp_path, config=str(base), options={**TREE["options"], "SOLVER.BASE_LR": 0.002})
    status, out, _ = ablate(file, "--dry-run", "--rows", "full", "--seeds", "1")
    assert status == 0
    assert "full/seed1: the recorded result is stale: SOLVER.BASE_LR 0.001 (now 0.002)" in out
    assert "full/seed1: replaced: SOLVER.BASE_LR 0.001 (now 0.002)" in out
    assert json.loads(record.read_text()) == results


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--rows", "fuul"], "no row 'fuul'; known: full, baseline"),
        (["--jobs", "0"], "--jobs 0: below 1"),
        (["--seeds", "-1"], "--seeds -1: below 0"),
        (["--name", "../else"], "--name ../else: expected letters, digits and '_'"),
    ],
)
def test_a_bad_argument_is_one_line_and_exit_status_2(ablate, tmp_path, flags, message):
    status, _, err = ablate(write(tmp_path), *flags)
    assert status == 2
    assert message in err
    assert len(err.splitlines()) == 1
    assert not (tmp_path / "datasets").exists()


@pytest.mark.slow
def test_table_alone_needs_neither_data_nor_runs(ablate, tmp_path):
    file = write(tmp_path)
    assert ablate(file, "--table")[0] == 0
    assert "`baseline`" in (file.parent / "results/ablation.md").read_text()
    assert ablate(file, "--table", "--name", "again")[0] == 0
    assert sorted(each.name for each in (file.parent / "results").iterdir()) == [
        "ablation.md",
        "again.md",
    ]
    assert not (tmp_path / "logs").exists()


@pytest.mark.slow
def test_a_folder_that_is_no_run_s_is_left_alone_and_named(ablate, tmp_path):
    foreign = tmp_path / "logs/ablation/toy/again/full/seed0/notes.txt"
    foreign.parent.mkdir(parents=True)
    foreign.touch()
    status, _, err = ablate(write(tmp_path), "--dry-run", "--rows", "full", "--name", "again")
    assert status == 2
    assert "toy/again/full/seed0: has no run.json" in err and len(err.splitlines()) == 1
