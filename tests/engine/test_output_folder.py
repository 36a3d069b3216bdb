"""A folder that holds a training: a new one is refused, or starts anew without older files."""

import json
import os
import shutil
from pathlib import Path

import pytest

from plugins.engine.output_folder import (
    EVALUATION,
    EVALUATION_PICTURES,
    PICTURES,
    remove,
    require_regular,
    run_files,
    saved_files,
)
from plugins.errors import InputError
from tests.helpers.small_runs import train

pytestmark = pytest.mark.slow

SHORT = {"SOLVER__MAX_EPOCH": 1, "SOLVER__STEPS": "[]", "TEST__EVAL_PERIOD": 1}
SHORT |= {"SOLVER__ADVERSARY__START_EPOCH": 0, "TEST__RANK_PICTURE": 1}


@pytest.fixture(scope="module")
def trained(datasets, tmp_path_factory) -> Path:
    """The folder of a training of one epoch."""
    folder = tmp_path_factory.mktemp("trained") / "run"
    done = train(datasets=datasets, output=folder, **SHORT)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.fixture
def used(trained, tmp_path) -> Path:
    return Path(shutil.copytree(trained, tmp_path / "used"))


def contents(folder: Path) -> dict[str, bytes]:
    """All files of a folder but those whose names begin with a dot."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and not path.name.startswith(".")
    }


def refusal(done) -> str:
    assert done.returncode == 2, done.stdout + done.stderr
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    return line


def test_a_new_training_in_a_used_folder_is_refused_and_changes_nothing(datasets, used, tmp_path):
    before = contents(used)
    line = refusal(train(datasets=datasets, output=used, **SHORT))
    assert line == (
        f"error: OUTPUT_DIR {used}: holds a training (last_checkpoint, model_best.pth, "
        "model_final.pth, ...), which a new one would replace; expected --resume or "
        "--resume FILE to go on with it, --overwrite to remove it, or another OUTPUT_DIR"
    )
    checkpoint = str(shutil.copy(used / "model_final.pth", tmp_path))
    line = refusal(train("--resume", checkpoint, datasets=datasets, output=used, **SHORT))
    assert f"OUTPUT_DIR {used}: holds a training" in line, "going on from elsewhere"
    assert contents(used) == before


def test_a_resume_without_a_checkpoint_to_go_on_from_replaces_no_results(datasets, used):
    for path in [used / "last_checkpoint", *used.glob("model_[!b]*.pth")]:
        path.unlink()
    before = contents(used)
    assert "model_best.pth" in before
    line = refusal(train("--resume", datasets=datasets, output=used, **SHORT))
    assert f"OUTPUT_DIR {used}: holds a training (model_best.pth, queries.npz, res" in line
    assert contents(used) == before


@pytest.mark.parametrize("name", ["log.txt", "metrics.json", "model_final.pth", "results.json"])
@pytest.mark.parametrize("kind", ["folder", "pipe", "link"])
def test_a_name_that_takes_no_file_is_refused_before_the_run(tmp_path, name, kind):
    precious = tmp_path / "precious"
    precious.write_text("kept")
    place = tmp_path / "run" / name
    place.parent.mkdir()
    if kind == "link":
        place.symlink_to(precious)
    else:
        (Path.mkdir if kind == "folder" else os.mkfifo)(place)
    if kind == "link" and name in ("model_final.pth", "results.json"):  # replaced, not followed
        require_regular(place.parent)
    else:
        with pytest.raises(InputError, match=rf"^OUTPUT_DIR .*/run: {name} is no regular file"):
            require_regular(place.parent)
    assert precious.read_text() == "kept"


def test_overwrite_starts_anew_and_leaves_what_is_not_a_runs(datasets, used):
    foreign = ["notes.txt", "model_mine.pth", "results.csv"]
    older = ["evaluation.json", "evaluation_queries.npz", "model_0007.pth", "diverged_0000001.pth"]
    for name in (*foreign, *older):
        (used / name).write_text("x")
    events = [path.name for path in used.glob("events.*")]
    assert events
    done = train("--overwrite", datasets=datasets, output=used, SEED=7, **SHORT)
    assert done.returncode == 0, done.stdout + done.stderr
    left = contents(used)
    assert all(left[name] == b"x" for name in foreign)
    assert not [name for name in (*older, *events) if name in left]
    lines = [json.loads(line) for line in left["metrics.json"].splitlines()]
    iterations = [line["iteration"] for line in lines]
    assert iterations == sorted(set(iterations)), "metrics of both trainings"
    assert b"--overwrite: removed from " in left["log.txt"]


def test_overwrite_with_a_mistake_removes_nothing(datasets, used):
    before = contents(used)
    weights = {"MODEL__WEIGHTS": used / "model_final.pth"}
    line = refusal(train("--overwrite", datasets=datasets, output=used, **SHORT, **weights))
    assert f"--overwrite: would remove MODEL.WEIGHTS {used}/model_final.pth" in line
    line = refusal(train("--overwrite", "--resume", datasets=datasets, output=used, **SHORT))
    assert line.startswith("error: --overwrite: with --resume; expected it with a new training")
    assert contents(used) == before
    large = SHORT | {"SOLVER__IMS_PER_BATCH": 64}  # known when the data are read
    refusal(train("--overwrite", datasets=datasets, output=used, **large))
    left = contents(used)
    assert {name: left[name] for name in before if name != "log.txt"} == {
        name: data for name, data in before.items() if name != "log.txt"
    }


def test_an_evaluation_leaves_the_files_of_a_training(datasets, used):
    before = contents(used)
    weights = {"MODEL__WEIGHTS": used / "model_best.pth", "TEST__FLIP__ENABLED": True}
    done = train("--eval-only", datasets=datasets, output=used, **SHORT, **weights)
    assert done.returncode == 0, done.stdout + done.stderr
    after = contents(used)
    assert [name for name in before if after[name] != before[name]] == ["log.txt"]
    new = {name.split("/")[0] for name in after.keys() - before.keys()}
    assert new == {EVALUATION, "evaluation_queries.npz", EVALUATION_PICTURES}


def test_an_evaluation_of_another_size_is_kept_beside_and_overwrite_removes_it(datasets, used):
    weights = {"MODEL__WEIGHTS": used / "model_best.pth"}
    for size in ("[32,16]", "[48,16]"):
        done = train(
            "--eval-only", datasets=datasets, output=used, **SHORT, **weights, INPUT__SIZE_TEST=size
        )
        assert done.returncode == 0, done.stdout + done.stderr
    assert "INPUT.SIZE_TEST was [32, 16], is [48, 16]" in done.stdout + done.stderr
    for name, height in (("evaluation.json", 48), ("evaluation_1.json", 32)):
        record = json.loads((used / name).read_text())
        assert record["settings"]["INPUT.SIZE_TEST"] == [height, 16]
        assert record["weights"] == str(used / "model_best.pth")
    assert (used / "evaluation_queries_1.npz").is_file()
    assert (used / "evaluation_pictures_1").is_dir()
    names = {path.name for path in run_files(used)}
    assert names >= {"evaluation_1.json", "evaluation_queries_1.npz"}


def test_metrics_without_a_checkpoint_are_no_reason_to_refuse_but_told(datasets, tmp_path):
    (tmp_path / "metrics.json").write_text('{"iteration": 0}\n')
    done = train(datasets=datasets, output=tmp_path, **SHORT)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "of a training that saved no checkpoint" in (tmp_path / "log.txt").read_text()


def test_files_of_a_run_by_name(tmp_path):
    assert saved_files(tmp_path / "none") == run_files(tmp_path / "none") == []
    (tmp_path / PICTURES).mkdir()
    (tmp_path / "model_0003.pth").mkdir()  # a folder is not ours
    names = ["model_0001.pth", "model_12.pth", "metrics.json", "config.yaml", "log.txt"]
    for name in names:
        (tmp_path / name).touch()
    assert [path.name for path in saved_files(tmp_path)] == ["model_0001.pth"]
    assert [path.name for path in run_files(tmp_path)] == ["model_0001.pth", "metrics.json"]
    remove(run_files(tmp_path), tmp_path)
    assert not saved_files(tmp_path)
    assert (tmp_path / "model_12.pth").is_file()
