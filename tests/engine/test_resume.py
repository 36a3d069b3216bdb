"""A run that is killed and resumed ends where the uninterrupted run ends, to the bit."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from plugins.utils.io import file_digest
from plugins.utils.locks import hold
from tests.helpers.checkpoints import assert_same, checkpoint
from tests.helpers.small_runs import ROOT, environment, train, train_and_kill

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def uninterrupted(datasets, tmp_path_factory) -> Path:
    output = tmp_path_factory.mktemp("uninterrupted")
    done = train(datasets=datasets, output=output)
    assert done.returncode == 0, done.stderr
    return output


def test_checkpoint_holds_all_that_a_resume_needs(uninterrupted):
    saved = checkpoint(uninterrupted)
    assert {
        "model",
        "optimizer",
        "adversary_optimizer",
        "lr_sched",
        "warmup_sched",
        "sampler",
        "random_state",
        "best_metric",
        "epoch",
        "metric",
    } <= saved.keys()
    assert saved["adversary_optimizer"]["state"], "the adversary was never stepped"


@pytest.mark.parametrize("delay", [0.0, 1.5])
def test_killed_at_any_step_and_resumed_is_bit_identical(uninterrupted, datasets, tmp_path, delay):
    train_and_kill(datasets=datasets, output=tmp_path, until="model_0001.pth", delay=delay)
    resumed = train("--resume", datasets=datasets, output=tmp_path)
    assert resumed.returncode == 0, resumed.stderr
    assert "epochs are done" in resumed.stdout
    expected, found = checkpoint(uninterrupted), checkpoint(tmp_path)
    for key in ("model", "optimizer", "adversary_optimizer", "lr_sched", "sampler", "random_state"):
        assert_same(expected[key], found[key])


def test_the_draws_of_an_attack_go_on_where_they_were(datasets, tmp_path):
    style = {
        "MODEL__SELF_ATTACK__KIND": "style",
        "MODEL__SELF_ATTACK__AFTER": "layer1",
        "MODEL__SELF_ATTACK__PARTNER": "other_person",
        "SOLVER__ADVERSARY__START_EPOCH": 0,
    }
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert train(datasets=datasets, output=whole, **style).returncode == 0
    train_and_kill(datasets=datasets, output=killed, until="model_0001.pth", **style)
    resumed = train("--resume", datasets=datasets, output=killed, **style)
    assert resumed.returncode == 0, resumed.stderr
    expected, found = checkpoint(whole), checkpoint(killed)
    for key in ("model", "optimizer", "random_state"):
        assert_same(expected[key], found[key])
    metrics = (whole / "metrics.json").read_text()
    assert '"self_attack/feature_distance_eval"' in metrics


def test_half_written_newest_checkpoint_is_named_and_the_previous_one_resumes(
    uninterrupted, datasets, tmp_path
):
    previous = uninterrupted / "model_0000.pth"
    newest = tmp_path / "model_0001.pth"
    (tmp_path / previous.name).write_bytes(previous.read_bytes())
    newest.write_bytes((uninterrupted / newest.name).read_bytes()[:1000])
    (tmp_path / "last_checkpoint").write_text(newest.name)

    failed = train("--resume", datasets=datasets, output=tmp_path)
    assert failed.returncode == 2
    assert failed.stderr.strip().splitlines()[-1].startswith(f"error: {newest}: not a whole")

    resumed = train("--resume", str(tmp_path / previous.name), datasets=datasets, output=tmp_path)
    assert resumed.returncode == 0, resumed.stderr
    assert_same(checkpoint(uninterrupted)["model"], checkpoint(tmp_path)["model"])


def test_resume_tells_which_settings_differ(uninterrupted, datasets):
    again = train("--resume", datasets=datasets, output=uninterrupted, SOLVER__LOG_PERIOD=7)
    assert again.returncode == 0, again.stderr
    assert "Resuming with SOLVER.LOG_PERIOD 7; was 1" in again.stdout
    assert "All 3 epochs are done already" in again.stdout


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"SOLVER__WEIGHT_DECAY": 0.5},
            "cannot resume from it with SOLVER.WEIGHT_DECAY 0.5; was 0.0005",
        ),
        ({"SOLVER__EMA_DECAY": 0.9}, "its run was without averaged weights"),
        ({"MODEL__TEMPORAL__NAME": "TemporalLSTM"}, "not the weights of this SADSTRM"),
    ],
)
def test_a_refused_resume_leaves_the_run_as_it_is(uninterrupted, datasets, changes, message):
    config = (uninterrupted / "config.yaml").read_bytes()
    refused = train("--resume", datasets=datasets, output=uninterrupted, **changes)
    assert refused.returncode == 2
    assert message in refused.stderr
    assert (uninterrupted / "config.yaml").read_bytes() == config


def test_killed_before_the_final_checkpoint_and_resumed_writes_it(
    uninterrupted, datasets, tmp_path
):
    best = tmp_path / "model_best.pth"
    best.write_bytes((uninterrupted / "model_final.pth").read_bytes())
    (tmp_path / "last_checkpoint").write_text(best.name)
    resumed = train("--resume", datasets=datasets, output=tmp_path)
    assert resumed.returncode == 0, resumed.stderr
    expected, found = checkpoint(uninterrupted), checkpoint(tmp_path)
    assert expected.keys() == found.keys()
    del expected["config"], found["config"]  # each names its own folder
    assert_same(expected, found)


@pytest.mark.parametrize("period", [2, 3])
def test_killed_in_the_last_evaluation_and_resumed_makes_up_for_it(
    uninterrupted, datasets, tmp_path, period
):
    whole = checkpoint(uninterrupted)
    unevaluated = {"metric": -1.0, "best_metric": {"value": -1.0}}
    torch.save(whole | unevaluated, tmp_path / "model_final.pth")
    (tmp_path / "last_checkpoint").write_text("model_final.pth")
    changes = {"datasets": datasets, "output": tmp_path, "TEST__EVAL_PERIOD": period}
    for _ in range(2):
        resumed = train("--resume", **changes)
        assert resumed.returncode == 0, resumed.stderr
        for name in ("model_best.pth", "model_final.pth"):
            found = checkpoint(tmp_path, name)
            for key in ("metric", "best_metric", "epoch", "model", "random_state"):
                assert_same({key: whole[key]}, {key: found[key]})
        assert (tmp_path / "metrics.json").read_text().count("I2V/mAP") == 1


def test_eval_only_prints_the_very_numbers_of_training(uninterrupted, datasets, tmp_path):
    def table(text: str) -> list[str]:
        rows = [line for line in text.splitlines() if "HITSZVCM/" in line]
        return rows[-2:]

    log = (uninterrupted / "log.txt").read_text()
    alone = train(
        "--eval-only",
        datasets=datasets,
        output=tmp_path,
        MODEL__WEIGHTS=uninterrupted / "model_final.pth",
    )
    assert alone.returncode == 0, alone.stderr
    assert len(table(log)) == 2
    assert table(alone.stdout) == table(log)
    trained = json.loads((uninterrupted / "results.json").read_text())
    found = json.loads((tmp_path / "evaluation.json").read_text())
    weights = str(uninterrupted / "model_final.pth")
    about = {"schema": "fastreid-plugins/results", "version": 1}
    about |= {"settings": trained["settings"], "results": trained["results"]}
    assert found == {**about, "weights": weights, "weights_digest": file_digest(weights)}
    assert trained == {**about, "epochs": trained["epochs"]}


def test_saved_config_is_enough_to_evaluate(uninterrupted, datasets, tmp_path):
    done = subprocess.run(
        [
            sys.executable,
            str(ROOT / "tools/train_net.py"),
            "--config-file",
            str(uninterrupted / "config.yaml"),
            "--eval-only",
            "MODEL.WEIGHTS",
            str(uninterrupted / "model_final.pth"),
            "OUTPUT_DIR",
            str(tmp_path),
        ],
        env=environment(datasets),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr


def test_output_folder_looks_as_fastreid_users_know_it(uninterrupted):
    names = {path.name for path in uninterrupted.iterdir()}
    assert {
        "config.yaml",
        "log.txt",
        "metrics.json",
        "model_0000.pth",
        "model_best.pth",
        "model_final.pth",
        "last_checkpoint",
    } <= names
    assert any(name.startswith("events.out.tfevents") for name in names)
    log = (uninterrupted / "log.txt").read_text()
    for name in ("eta: ", "epoch/iter: ", "total_loss: ", "loss_cls: ", "data_time: ", "lr: "):
        assert name in log


def test_the_last_evaluation_is_in_the_metrics(uninterrupted):
    lines = (uninterrupted / "metrics.json").read_text().splitlines()
    evaluated = [json.loads(line) for line in lines if "I2V/mAP" in line]
    assert [line["I2V/mAP"] for line in evaluated] == [evaluated[0]["I2V/mAP"]]
    assert evaluated[0]["iteration"] == max(json.loads(line)["iteration"] for line in lines)
    assert "total_loss" in evaluated[0]


def test_every_loss_of_both_players_is_logged_by_name(uninterrupted):
    metrics = (uninterrupted / "metrics.json").read_text()
    for name in (
        "loss_cls",
        "loss_triplet",
        "loss_cross_modal_triplet",
        "loss_cls_attacked",
        "loss_consistency",
        "loss_conf",
        "loss_rev",
        "loss_mod",
        "loss_mod_classifier",
    ):
        assert f'"{name}"' in metrics


def test_a_folder_in_use_is_refused(uninterrupted, datasets):
    config = (uninterrupted / "config.yaml").read_bytes()
    with hold(uninterrupted, "OUTPUT_DIR", "training"):
        refused = train("--resume", datasets=datasets, output=uninterrupted)
    assert refused.returncode == 2
    (line,) = [line for line in refused.stderr.splitlines() if line.startswith("error: ")]
    assert f"OUTPUT_DIR {uninterrupted}: in use by another training, process {os.getpid()}" in line
    assert (uninterrupted / "config.yaml").read_bytes() == config
