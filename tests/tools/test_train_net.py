"""What a user of tools/train_net.py is told: one line that names the culprit, exit status 2."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.helpers.small_market import save_weights
from tests.helpers.small_runs import CONFIG, ROOT, environment, options, train

pytestmark = pytest.mark.slow


@pytest.fixture
def own(datasets: Path, tmp_path: Path) -> Path:
    """A copy of the datasets folder that a test may damage."""
    return Path(shutil.copytree(datasets, tmp_path / "datasets"))


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> Path:
    """Of an untrained network of the small run."""
    folder = tmp_path_factory.mktemp("weights")
    return save_weights(folder, CONFIG, options(folder, MODEL__HEADS__NUM_CLASSES=6))


def message(done: subprocess.CompletedProcess) -> str:
    assert done.returncode == 2, done.stdout + done.stderr
    lines = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1, done.stderr
    assert "Traceback" not in done.stderr + done.stdout
    return lines[0]


def test_misspelt_config_key(datasets, tmp_path):
    failed = train(datasets=datasets, output=tmp_path, SOLVER__MAX_EPOCHS=1)
    assert message(failed) == (
        "error: command line: no config key 'SOLVER.MAX_EPOCHS'; "
        "nearest: SOLVER.MAX_EPOCH, SOLVER.DELAY_EPOCHS, SOLVER.WARMUP_EPOCHS"
    )


def test_misspelt_flag(datasets, tmp_path):
    failed = train("--eval_only", datasets=datasets, output=tmp_path)
    assert failed.returncode == 2
    assert "--eval_only" in failed.stderr


def test_wrong_dataset_name(datasets, tmp_path):
    failed = train(datasets=datasets, output=tmp_path, DATASETS__NAMES="['HITSZ']")
    assert message(failed).startswith(
        "error: DATASETS.NAMES: no DATASET is named 'HITSZ'; known: HITSZVCM,"
    )


def test_missing_data_names_folder_variable_source_and_stand_in(tmp_path):
    text = message(train(datasets=tmp_path, output=tmp_path / "run"))
    assert str(tmp_path / "HITSZ-VCM") in text
    assert "FASTREID_DATASETS" in text
    assert "https://github.com/VCM-project233/MITML" in text
    assert "python tools/make_synthetic.py --preset quick --out" in text


def test_too_small_a_dataset_names_the_numbers(datasets, tmp_path):
    text = message(train(datasets=datasets, output=tmp_path, SOLVER__IMS_PER_BATCH=64))
    assert "16" in text and "6" in text


@pytest.mark.parametrize("workers", [0, 2])
def test_unreadable_jpeg(own, tmp_path, workers):
    for frame in (own / "HITSZ-VCM/Train").rglob("*.jpg"):
        frame.write_bytes(frame.read_bytes()[:200])
    failed = train(datasets=own, output=tmp_path, DATALOADER__NUM_WORKERS=workers)
    text = message(failed)
    assert text.startswith(f"error: {own}/HITSZ-VCM/Train/")
    assert ".jpg" in text
    assert text.endswith("; python tools/check_data.py HITSZVCM lists all that cannot be read")
    assert "cannot be read" not in failed.stdout, "told twice"
    assert text.removeprefix("error: ") in (tmp_path / "log.txt").read_text()


@pytest.mark.parametrize(
    "name", ["train_name", "track_train_info", "test_name", "track_test_info", "query_IDX"]
)
def test_truncated_info_file(own, tmp_path, name):
    path = own / f"HITSZ-VCM/info/{name}.txt"
    text = path.read_text()
    # A cut inside a line; query_IDX loses all but its first half, which damages one token only.
    path.write_text("" if name == "query_IDX" else text[: len(text) // 2 - 3])
    assert f"{name}.txt" in message(train(datasets=own, output=tmp_path))


def test_an_unknown_attack_stops_a_run_before_it_trains(datasets, tmp_path):
    text = message(train(datasets=datasets, output=tmp_path, TEST__ATTACKS="['FNAA']"))
    assert text.startswith("error: TEST.ATTACKS: no ATTACK is named 'FNAA'; known: FNA,")
    assert not (tmp_path / "log.txt").exists()


def test_an_attack_in_other_units_is_warned_of_in_the_log(datasets, weights, tmp_path):
    changes = {"TEST__ATTACKS": "FNA", "ATTACK__EPS": 0.0314, "ATTACK__QUERIES": 2}
    changes |= {"MODEL__WEIGHTS": weights, "ATTACK__STEPS": 1}
    done = train("--eval-only", datasets=datasets, output=tmp_path, **changes)
    assert done.returncode == 0, done.stderr
    log = (tmp_path / "log.txt").read_text()
    assert log.count("ATTACK.EPS: 0.0314 is less than one gray level") == 1


def test_a_wrong_name_is_told_without_data_and_without_a_trace(tmp_path):
    changes = {"MODEL__TEMPORAL__NAME": "STIGG", "DATASETS__NAMES": "HITSZVCM"}
    failed = train(datasets=tmp_path / "none", output=tmp_path / "run", **changes)
    assert "MODEL.TEMPORAL.NAME: no TEMPORAL is named 'STIGG'; known: STIG, " in message(failed)
    assert not (tmp_path / "run").exists()


def test_flags_and_values_in_any_order(datasets, tmp_path):
    tool = [sys.executable, str(ROOT / "tools/train_net.py"), "SEED=1", "--eval-only"]
    words = ["OUTPUT_DIR", str(tmp_path), "--config-file", str(CONFIG), "MODEL.WEIGHTS=w.pth"]
    done = subprocess.run(
        [*tool, *words], env=environment(datasets), capture_output=True, text=True
    )
    assert message(done).startswith("error: MODEL.WEIGHTS w.pth: no such file")


def test_an_output_folder_that_cannot_be_is_told_before_the_work(tmp_path):
    (tmp_path / "file").touch()
    output = tmp_path / "file/below"
    failed = train(datasets=tmp_path, output=output)
    assert message(failed) == (
        f"error: OUTPUT_DIR {output}: {output.parent} is a file; expected a folder"
    )


def test_a_second_set_that_is_missing_is_told_before_the_first_is_evaluated(
    datasets, weights, tmp_path
):
    changes = {"MODEL__WEIGHTS": weights, "DATASETS__TESTS": "['HITSZVCM','Market1501']"}
    failed = train("--eval-only", datasets=datasets, output=tmp_path, **changes)
    assert message(failed).startswith("error: DATASETS.TESTS Market1501: ")
    assert "Start inference" not in (tmp_path / "log.txt").read_text()


def test_a_data_set_is_read_once_however_often_it_is_tested(datasets, tmp_path):
    expected = "[['HITSZVCM/I2V+clean','mAP',50.0,50.0],['HITSZVCM/V2I+worst','mAP',50.0,50.0]]"
    done = train(
        datasets=datasets,
        output=tmp_path,
        SOLVER__MAX_EPOCH=2,
        TEST__EVAL_PERIOD=1,
        TEST__ATTACKS="['FNA']",
        ATTACK__STEPS=1,
        ATTACK__QUERIES=2,
        TEST__EXPECTED_RESULTS=expected,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("| gallery ") == 1
    assert done.stdout.count("Evaluation results:") == 2


def test_wrong_weights(datasets, tmp_path):
    path = tmp_path / "other.pth"
    torch.save({"model": {"backbone.conv1.weight": torch.zeros(1)}}, path)
    failed = train("--eval-only", datasets=datasets, output=tmp_path, MODEL__WEIGHTS=path)
    assert message(failed).startswith(f"error: {path}: not the weights of this SADSTRM: ")


def test_without_a_config():
    tool = [sys.executable, str(ROOT / "tools/train_net.py")]
    done = subprocess.run([*tool, "SOLVER.MAX_EPOCH", "1"], capture_output=True, text=True)
    assert message(done).startswith("error: expected --config-file FILE, such as VVI/")


def test_eval_only_without_weights(datasets, tmp_path):
    failed = train("--eval-only", datasets=datasets, output=tmp_path)
    assert "--eval-only needs weights" in message(failed)


def test_a_missed_expected_result_exits_1(datasets, tmp_path):
    wrong = train(
        datasets=datasets,
        output=tmp_path,
        SOLVER__MAX_EPOCH=1,
        TEST__EVAL_PERIOD=1,
        TEST__EXPECTED_RESULTS="[['HITSZVCM/I2V', 'mAP', -50.0, 1.0]]",
    )
    assert wrong.returncode == 1
    assert "HITSZVCM/I2V" in wrong.stdout
    assert "mAP" in wrong.stdout


def test_works_from_another_folder_in_an_uninstalled_checkout(tmp_path):
    """A foreign ``plugins`` on the path must not win."""
    (tmp_path / "plugins.py").write_text("raise SystemExit('the wrong plugins')")
    done = subprocess.run(
        [sys.executable, str(ROOT / "tools/train_net.py"), "--help"],
        cwd=tmp_path,
        env={"PYTHONPATH": str(tmp_path), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "--config-file" in done.stdout
