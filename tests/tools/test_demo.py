"""The demo trains anew in its own folder, and replaces nothing else without being asked."""

import json
import sys

import pytest

from tests.helpers import commands
from tests.helpers.small_runs import ROOT, environment

pytestmark = pytest.mark.slow

QUICK = ["--quick", "--workers", "1", "MODEL.DEVICE", "cpu"]


@pytest.fixture
def demo(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def run(*words: str):
        command = [sys.executable, str(ROOT / "tools/demo.py"), *QUICK, *words]
        return commands.run(command, env=environment(tmp_path / "datasets"))

    return run


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["SOLVER.MAX_EPOCH"], "'SOLVER.MAX_EPOCH' has no value"),
        (["OUTPUT_DIR", "logs/b"], "OUTPUT_DIR: expected --out FOLDER"),
    ],
)
def test_what_is_wrong_is_what_the_user_typed(demo, words, told):
    done = demo(*words)
    assert done.returncode == 2 and told in done.stderr.splitlines()[-1], done.stderr


def test_another_run_stays(demo, tmp_path):
    weights = tmp_path / "logs/mine/model_final.pth"
    weights.parent.mkdir(parents=True)
    weights.write_text("kept")
    done = demo("--out", "logs/mine")
    assert done.returncode == 2 and "--overwrite to remove it" in done.stderr, done.stderr
    assert weights.read_text() == "kept"


def test_other_people_are_replaced_if_asked_for(demo, tmp_path):
    record = tmp_path / "datasets/HITSZ-VCM/synthetic.json"
    assert demo("--out", "logs/a b").returncode == 0
    rendered = json.loads(record.read_text())
    record.write_text(json.dumps(rendered | {"settings": rendered["settings"] | {"test_ids": 9}}))
    done = demo()
    assert done.returncode == 2 and "pass --overwrite" in done.stderr, done.stderr
    done = demo("--out", "logs/a b", "--overwrite")
    assert done.returncode == 0, done.stderr
    assert json.loads(record.read_text())["settings"] == rendered["settings"]
    assert "--config-file 'logs/a b/config.yaml'" in done.stdout
