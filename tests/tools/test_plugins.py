"""A user's file outside the package: every command and every process sees its parts and keys."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml

from plugins.engine.checkpoint import read_checkpoint
from tests.helpers import commands
from tests.helpers.ablations import TREE
from tests.helpers.small_runs import CONFIG, ROOT, environment, options

pytestmark = pytest.mark.slow

NAMES = {
    "MODEL__LOSSES__NAME": "('CrossEntropyLoss','UsersCenterLoss')",
    "MODEL__LOSSES__USERS_CENTER__WEIGHT": 0.5,
    "MODEL__META_ARCHITECTURE": "VVIBaseline",
    "MODEL__TEMPORAL__NAME": "UsersTemporal",
    "SOLVER__STEP": "SimpleStep",
    "SOLVER__MAX_EPOCH": 1,
    "SOLVER__WARMUP_EPOCHS": 0,
    "SOLVER__STEPS": "[]",
    "TEST__EVAL_PERIOD": 1,
}
CENTERS = "loss_functions.1.centers"


@pytest.fixture
def here(tmp_path, monkeypatch, datasets):
    """The working directory of a user, with the file of parts in it."""
    monkeypatch.chdir(tmp_path)
    shutil.copy(ROOT / "tests/helpers/users_parts.py", "users_parts.py")
    return tmp_path


def run(tool: str, *words: str, datasets: Path) -> subprocess.CompletedProcess:
    file = ROOT / "tools" / f"{tool}.py"
    return commands.run([sys.executable, file, *words], env=environment(datasets))


def refusal(done: subprocess.CompletedProcess) -> str:
    """The one line of a command that ends with status 2."""
    assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
    return done.stderr


def test_training_evaluation_and_attack_see_the_parts_and_the_folder_remembers_them(here, datasets):
    words = ["--config-file", str(CONFIG), *options(Path("run"), **NAMES)]
    told = refusal(run("train_net", *words, datasets=datasets))
    assert "no config key 'MODEL.LOSSES.USERS_CENTER.WEIGHT'" in told
    done = run("train_net", *words, "--plugins", "users_parts.py", datasets=datasets)
    assert done.returncode == 0, done.stderr
    saved = read_checkpoint("run/model_final.pth")["model"]
    assert saved[CENTERS].abs().sum() > 0, "the loss did not learn"
    assert "temporal.score.weight" in saved
    assert yaml.safe_load(Path("run/config.yaml").read_text())["PLUGINS"] == ["users_parts.py"]

    evaluate = ["--config-file", "run/config.yaml", "--eval-only", "OUTPUT_DIR", "evaluated"]
    evaluate += ["MODEL.WEIGHTS", "run/model_final.pth"]
    attack = ["TEST.ATTACKS", "UsersAttack", "ATTACK.QUERIES", "2", "ATTACK.STEPS", "1"]
    told = refusal(run("train_net", *evaluate, *attack, datasets=datasets))
    assert told.startswith("error: run/config.yaml: PLUGINS names users_parts.py; ")
    assert told.endswith("add --plugins users_parts.py\n")
    done = run("train_net", *evaluate, *attack, "--plugins=users_parts", datasets=datasets)
    assert done.returncode == 0, done.stderr
    (directions,) = json.loads(Path("evaluated/evaluation.json").read_text())["results"].values()
    assert [name for name in directions if "UsersAttack" in name]


def test_two_processes_train_them_and_a_config_may_name_them(here, datasets):
    tree = {"_BASE_": str(CONFIG), "PLUGINS": ["users_parts.py"]}
    Path("mine.yml").write_text(yaml.safe_dump(tree))
    words = ["--config-file", "mine.yml", "--num-gpus", "2", *options(Path("run"), **NAMES)]
    done = run("train_net", *words, datasets=datasets)
    assert done.returncode == 0, done.stderr
    centers = read_checkpoint("run/model_final.pth")["model"][CENTERS]
    assert isinstance(centers, torch.Tensor) and centers.abs().sum() > 0


def test_an_ablation_trains_and_tests_its_rows_with_them(here, datasets):
    keys = {key.replace("__", "."): value for key, value in NAMES.items()}
    own = ("SOLVER.MAX_EPOCH", "TEST.EVAL_PERIOD", "SOLVER.WARMUP_EPOCHS", "SOLVER.STEPS")
    row = {"overrides": {key: value for key, value in keys.items() if key not in own}}
    render = {"preset": "quick", "train_ids": 2, "test_ids": 3, "height": 32, "width": 16}
    tests = {"other": {"render": render}}
    tree = TREE | {"rows": {"users": row}, "seeds": [0], "tests": tests, "primary": []}
    Path("grid.yml").write_text(yaml.safe_dump(tree, sort_keys=False))
    told = refusal(run("ablate", "grid.yml", "--dry-run", datasets=here / "datasets"))
    assert "rows.users.overrides: no config key 'MODEL.LOSSES.USERS_CENTER.WEIGHT'" in told
    done = run("ablate", "grid.yml", "--plugins", "users_parts.py", datasets=here / "datasets")
    assert done.returncode == 0, done.stderr
    (result,) = json.loads(Path("results/grid.json").read_text())
    assert result["overrides"]["MODEL.TEMPORAL.NAME"] == "UsersTemporal"
    assert {name.split("/")[0] for name in result["metrics"]} == {"tiny", "other"}


@pytest.mark.parametrize(
    ("tool", "words"),
    [
        ("train_net", ["--config-file", str(CONFIG)]),
        ("robust_report", ["--config-file", str(CONFIG)]),
        ("compare_attacks", ["--config-file", str(CONFIG), "--column", "a", "ATTACK.EPS 1"]),
        ("export", ["run", "--out", "m.onnx"]),
        ("export_onnx", ["--config-file", str(CONFIG), "--out", "m.onnx"]),
        ("balance_data", ["plan"]),
        ("cache_data", ["--out", "cache"]),
        ("check_data", ["HITSZVCM", "--workers", "1"]),
        ("convert_data", ["--from", "HITSZVCM", "--to", "manifest", "--out", "out"]),
        ("ablate", ["grid.yml"]),
    ],
)
def test_every_command_imports_them_and_tells_a_missing_one(tool, words, run_tool, here, datasets):
    Path("grid.yml").write_text(yaml.safe_dump(TREE))
    Path("run").mkdir()
    Path("run/config.yaml").write_text(f"_BASE_: {CONFIG}\n")
    Path("run/model_final.pth").touch()
    told = run_tool(ROOT / f"tools/{tool}.py", *words, "--plugins", "nowhere.py")
    near = "nearest there: users_parts.py"
    assert told == (2, "", f"error: --plugins nowhere.py: no such file; {near}\n")
