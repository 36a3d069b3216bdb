"""Ctrl-C and SIGTERM in every command: one line, and nothing half-done."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers.balance_configs import CONFIG as BALANCE
from tests.helpers.run_folders import clip_run
from tests.helpers.small_market import MARKET, save_weights
from tests.helpers.small_models import small_cfg
from tests.helpers.small_runs import CONFIG, ROOT, environment, options
from tests.helpers.videos import write_table, write_video

pytestmark = pytest.mark.slow

DRIVER = Path(__file__).with_name("signalled.py")
SMALL = ["INPUT.SIZE_TEST", "[32,16]", "MODEL.DEVICE", "cpu", "DATALOADER.NUM_WORKERS", "2"]
SIZES = ["INPUT.SIZE_TRAIN", "[32,16]", "INPUT.SIZE_TEST", "[32,16]"]
PROGRESS = "tqdm.std:tqdm.update"


def run_signalled(
    tool: str, place: str, name: str, *words: object, datasets: Path, cwd: Path | None = None
) -> list[str]:
    """What the tool says on stderr, but for progress and warnings; its status is as it must be.

    Args:
        tool: its name.
        place: module and function where the signal comes.
        name: of the signal.
        *words: of the command line.
        datasets: the FASTREID_DATASETS folder.
        cwd: the folder in which it runs.
    """
    path = str(ROOT / f"tools/{tool}.py")
    done = subprocess.run(
        [sys.executable, str(DRIVER), path, place, name, *map(str, words)],
        # A loop updates its bar once in an interval, which a short loop never reaches.
        env=environment(datasets) | {"PYTHONWARNINGS": "ignore", "TQDM_MININTERVAL": "0"},
        capture_output=True,
        text=True,
        timeout=300,
        cwd=cwd,
        start_new_session=True,
    )
    assert done.returncode == {"SIGINT": 130, "SIGTERM": 143}[name], done.stderr
    assert "Traceback" not in done.stderr, done.stderr
    lines = [line for line in re.split(r"[\r\n]+", done.stderr) if line.strip()]
    return [line for line in lines if "%|" not in line and "it/s" not in line]


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> Path:
    """Of an untrained model of the small Market-1501 config."""
    return save_weights(tmp_path_factory.mktemp("weights"), MARKET, SMALL)


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_train_net(datasets, tmp_path, name):
    words = ["--config-file", CONFIG, *options(tmp_path, DATALOADER__NUM_WORKERS=2)]
    place = "plugins.engine.steps:Step.write_metrics"
    said = run_signalled("train_net", place, name, *words, datasets=datasets)
    file = tmp_path / "model_interrupted.pth"
    assert said == [
        f"interrupted by {name}: saved {file} after iteration 1 of 9; the same command with "
        "--resume goes on from there"
    ]
    assert file.exists()


def test_train_net_that_overwrites(datasets, tmp_path):
    words = ["--config-file", CONFIG, "--overwrite", *options(tmp_path)]
    place = "plugins.engine.steps:Step.write_metrics"
    said = run_signalled("train_net", place, "SIGTERM", *words, datasets=datasets)
    assert said == [
        f"interrupted by SIGTERM: saved {tmp_path}/model_interrupted.pth after iteration 1 of 9; "
        "the same command with --resume in place of --overwrite goes on from there"
    ]


def test_demo_names_a_command_that_goes_on(tmp_path):
    """The command of the line is called as it stands, in the folder where the demo ran."""
    quick = ["--quick", "--workers", 1, "MODEL.DEVICE", "cpu"]
    quick += ["MODEL.BACKBONE.DEPTH", "18x", "MODEL.BACKBONE.PRETRAIN", "False"]
    place = "plugins.engine.steps:Step.write_metrics"
    said = run_signalled("demo", place, "SIGTERM", *quick, datasets=tmp_path, cwd=tmp_path)
    last = said[-1]
    match = re.fullmatch(
        r"interrupted by SIGTERM: saved logs/demo/model_interrupted\.pth after iteration 1 of "
        r"(\d+); python (tools/train_net\.py) (--config-file logs/demo/config\.yaml --resume) goes "
        "on from there",
        last,
    )
    assert match, said
    done = subprocess.run(
        [sys.executable, ROOT / match[2], *match[3].split()],
        env=environment(tmp_path),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "logs/demo/model_final.pth").exists()
    assert not (tmp_path / "logs/demo/model_interrupted.pth").exists()
    assert "after iteration 1" in (tmp_path / "logs/demo/log.txt").read_text()


def test_train_net_before_it_trains(datasets, tmp_path):
    words = ["--config-file", CONFIG, *options(tmp_path)]
    place = "plugins.engine.trainer:read_tests"
    (said,) = run_signalled("train_net", place, "SIGTERM", *words, datasets=datasets)
    assert said.startswith(
        "interrupted by SIGTERM: what was saved before is kept; the same command"
    )
    assert not list(tmp_path.glob("*.pth"))


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_while_a_command_imports(tmp_path, name):
    place = "importlib.metadata:version"  # compat asks for versions when plugins is imported
    words = ["--config-file", CONFIG, "OUTPUT_DIR", tmp_path / "run"]
    (said,) = run_signalled("train_net", place, name, *words, datasets=tmp_path)
    assert said == f"interrupted by {name}: nothing was begun"
    assert not (tmp_path / "run").exists()


def test_train_net_whose_loader_worker_is_killed(datasets, tmp_path):
    words = ["--config-file", CONFIG, *options(tmp_path, DATALOADER__NUM_WORKERS=2)]
    kill = "import multiprocessing, os; os.kill(multiprocessing.active_children()[0].pid, 9)"
    script = f"""
import sys; sys.path.insert(0, {str(ROOT)!r})
from tools import train_net
from plugins.engine.steps import Step
write = Step.write_metrics
def write_and_kill(*args, **kwargs):
    exec({kill!r})
    return write(*args, **kwargs)
Step.write_metrics = write_and_kill
train_net.main()
"""
    done = subprocess.run(
        [sys.executable, "-c", script, *map(str, words)],
        env=environment(datasets) | {"PYTHONWARNINGS": "ignore"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 1
    (line,) = [line for line in done.stderr.splitlines() if "worker" in line]
    assert line.startswith("error: a loader worker (process ")
    assert "Traceback" not in done.stderr + done.stdout
    assert "loader worker" not in done.stdout, "told twice"
    assert line.removeprefix("error: ") in (tmp_path / "log.txt").read_text()


def test_train_net_that_evaluates(market, weights, tmp_path):
    words = ["--config-file", MARKET, "--eval-only", *SMALL, "OUTPUT_DIR", tmp_path]
    place = "plugins.evaluation.vvi_evaluator:VVIEvaluator.process"
    words += ["MODEL.WEIGHTS", weights]
    (said,) = run_signalled("train_net", place, "SIGINT", *words, datasets=market)
    assert said == (
        "interrupted by SIGINT: what was saved before is kept; the same command evaluates anew"
    )


@pytest.mark.parametrize("tool", ["robust_report", "compare_attacks"])
def test_attacks(market, weights, tmp_path, tool):
    words = ["--config-file", MARKET, "--out", tmp_path / "out"]
    if tool == "compare_attacks":
        words += ["--column", "eps 4", "ATTACK.EPS 4.0", "TEST.ATTACKS", "['FNA']"]
    words += [*SMALL, "MODEL.WEIGHTS", weights, "ATTACK.QUERIES", 4, "ATTACK.STEPS", 1]
    place = "plugins.robustness.attack_rows:attack_batch"
    *log, said = run_signalled(tool, place, "SIGINT", *words, datasets=market)
    assert not [line for line in log if "nterrupt" in line]
    assert said == (
        "interrupted by SIGINT: the results of the attacks are kept in --out; the same command "
        "resumes"
    )


def test_cache_data(datasets, tmp_path):
    name, cache = "SIGINT", tmp_path / "cache"
    words = ["--config-file", CONFIG, "--out", cache, "--workers", 2, *SIZES]
    (said,) = run_signalled("cache_data", PROGRESS, name, *words, datasets=datasets)
    assert said.startswith(f"interrupted by {name}: frames of a size are written all or not at all")
    assert os.listdir(cache) == []


def test_check_data(datasets):
    words = ["HITSZVCM", "--workers", 2]
    (said,) = run_signalled("check_data", PROGRESS, "SIGTERM", *words, datasets=datasets)
    assert said == "interrupted by SIGTERM: nothing was changed; the same command starts anew"


def test_convert_data(datasets, tmp_path):
    words = ["--from", "HITSZVCM", "--to", "manifest", "--out", tmp_path / "out"]
    (said,) = run_signalled("convert_data", PROGRESS, "SIGTERM", *words, datasets=datasets)
    assert said == "interrupted by SIGTERM: nothing was written; the same command starts anew"
    assert os.listdir(tmp_path) == []


def test_extract_frames(tmp_path):
    write_video(tmp_path / "a.mkv")
    write_table(tmp_path, ("a.mkv", 1, 1, "visible", "", "", "train"))
    words = [tmp_path / "videos.csv", "--out", tmp_path / "out"]
    place = "plugins.data.conversion.videos:extract"
    (said,) = run_signalled("extract_frames", place, "SIGINT", *words, datasets=tmp_path)
    assert said == "interrupted by SIGINT: nothing was written; the same command starts anew"
    assert sorted(os.listdir(tmp_path)) == ["a.mkv", "videos.csv"]


@pytest.mark.parametrize("option", ["--out", "--store"])
def test_extract(datasets, tmp_path, option):
    run, out = clip_run(tmp_path / "run"), tmp_path / "features.npz"
    words = [run, "--dataset", "HITSZVCM", option, out, "TEST.IMS_PER_BATCH", 4]
    (said,) = run_signalled("extract", PROGRESS, "SIGINT", *words, datasets=datasets)
    folder = out if option == "--store" else f"{out}.parts"
    told = re.fullmatch(r"interrupted by SIGINT: 0 of (\d+) items are kept in (.*); the .*", said)
    assert told and int(told[1]) > 8 and told[2] == str(folder), said


def test_make_synthetic(tmp_path):
    name, out = "SIGINT", tmp_path / "HITSZ-VCM"
    small = ["--train-ids", 3, "--test-ids", 3, "--height", 32, "--width", 16]
    words = ["--out", out, "--workers", 2, *small]
    (said,) = run_signalled("make_synthetic", PROGRESS, name, *words, datasets=tmp_path)
    assert said == (
        f"interrupted by {name}: the data set is not whole; the same command renders it anew"
    )


def test_balance_data(market, tmp_path):
    pytest.importorskip("diffusers")
    config = tmp_path / "balance.yml"
    config.write_text(BALANCE)
    words = ["train", "--config-file", config, "DATASETS.BALANCE.DIR", tmp_path / "balance"]
    words += ["DATASETS.BALANCE.GENERATOR.CHECKPOINT_PERIOD", 100]
    place = "plugins.balancing.training:GeneratorTraining._advance"
    (said,) = run_signalled("balance_data", place, "SIGTERM", *words, datasets=market)
    file = tmp_path / "balance/generator.pth"
    assert said == (
        f"interrupted by SIGTERM: saved {file} after step 1 of 8; the same command goes on from "
        "there"
    )
    assert file.exists()


def test_export_onnx(market, tmp_path):
    pytest.importorskip("onnx")
    (tmp_path / "config.yaml").write_text(small_cfg().dump())
    words = ["--config-file", tmp_path / "config.yaml", "--out", tmp_path / "model.onnx"]
    place = "plugins.inference.embedder:load_model"
    (tmp_path / "any.pth").touch()
    words += ["MODEL.WEIGHTS", tmp_path / "any.pth"]
    (said,) = run_signalled("export_onnx", place, "SIGINT", *words, datasets=market)
    assert said == "interrupted by SIGINT: nothing was written; the same command starts anew"
