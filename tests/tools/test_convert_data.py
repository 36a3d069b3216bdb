"""What a user of tools/convert_data.py sees."""

import runpy
import subprocess
import sys

import pytest

from plugins.data.datasets import HITSZVCM, ManifestDataset
from tests.helpers.small_runs import ROOT

TOOL = str(ROOT / "tools" / "convert_data.py")


@pytest.mark.slow
def test_a_set_is_converted_from_any_folder(datasets, tmp_path):
    options = "--from HITSZVCM --to manifest --out new/mine --frames symlink --root"
    done = subprocess.run(
        [sys.executable, TOOL, *options.split(), str(datasets)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    old, new = HITSZVCM(root=str(datasets)), ManifestDataset(root=str(tmp_path / "new" / "mine"))
    assert [len(item.img_paths) for item in new.train] == [len(i.img_paths) for i in old.train]
    number = len(old.train + old.query + old.gallery)
    told, counted = done.stdout.splitlines()
    assert told.startswith("not kept: V2I was: ") and told.endswith("is: no such test")
    assert counted.startswith(f"new/mine: {number} tracklets, ")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--from", "HITSZ"), "error: the data set: no DATASET is named 'HITSZ'; known: HITSZVCM"),
        (
            ("--from", "HITSZVCM", "--root", "none"),
            "error: --root none: no such folder; expected the f",
        ),
        (
            ("--from", "HITSZVCM", "--out", f"{TOOL}/x"),
            f"error: --out {TOOL}/x: {TOOL} is a file; ",
        ),
        (("--from", "BUPTCampus", "DATASETS.BUPT.PROTOCL", "full"), "error: command line: no"),
    ],
)
def test_a_mistake_is_one_line_and_exit_status_2(tmp_path, monkeypatch, capsys, options, message):
    arguments = ["--to", "manifest", "--out", str(tmp_path / "out"), *options]
    monkeypatch.setattr(sys, "argv", [TOOL, *arguments])
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setenv("FASTREID_DATASETS", "")
    with pytest.raises(SystemExit) as stop:
        runpy.run_path(TOOL, run_name="__main__")
    assert stop.value.code == 2
    told = capsys.readouterr().err
    assert told.startswith(message) and told.count("\n") == 1
    assert list(tmp_path.iterdir()) == []
