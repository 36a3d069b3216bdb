"""A run with every part of the strong recipe: trained, resumed to the bit, evaluated, exported."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers.checkpoints import assert_same, checkpoint
from tests.helpers.small_runs import ROOT, environment, train

pytestmark = pytest.mark.slow

CONFIG = ROOT / "configs/VVI/synthetic/strong_sadstrm.yml"
LOSSES = "CrossEntropyLoss CrossModalAlignment FrameSeparation CenterAlignment ModalityConfusion"
CHANGES = {
    "config": CONFIG,
    "MODEL__LOSSES__NAME": str(LOSSES.split()),
    "INPUT__CHANNEL_SWAP__ENABLED": "True",
    "MODEL__SELF_ATTACK__KIND": "gradient",
    "MODEL__SELF_ATTACK__EPS": "0.03",
    "TEST__FLIP__ENABLED": "True",
    "TEST__CLIPS": "0",
}


@pytest.fixture(scope="module")
def run(datasets, tmp_path_factory) -> Path:
    output = tmp_path_factory.mktemp("strong")
    done = train(datasets=datasets, output=output, **CHANGES)
    assert done.returncode == 0, done.stderr
    return output


def test_every_loss_is_logged_and_finite_and_p_is_learned(run):
    rows = [json.loads(line) for line in (run / "metrics.json").read_text().splitlines()]
    logged = {key for row in rows for key in row if key.startswith("loss_")}
    expected = {
        "loss_cls",
        "loss_cross_modal_alignment",
        "loss_frame_separation",
        "loss_center_alignment",
        "loss_modality_confusion",
        "loss_cls_frames",
        "loss_cross_modal_alignment_frames",
        "loss_cls_frames_attacked",
    }
    assert expected <= logged
    weights = checkpoint(run)["model"]
    assert weights["pooling.p"].item() != 3
    assert not any(name.startswith("backbone.stems.1.") for name in weights)
    learned = [name for name in weights if name.startswith("loss_functions.")]
    first = checkpoint(run, "model_0000.pth")["model"]
    assert len(learned) == 4
    assert all((weights[name] != first[name]).any() for name in learned)


def test_it_resumes_to_the_bit(run, datasets, tmp_path):
    saved = run / "model_0000.pth"
    (tmp_path / saved.name).write_bytes(saved.read_bytes())
    words = "--resume", str(tmp_path / saved.name)
    resumed = train(*words, datasets=datasets, output=tmp_path, new=True, **CHANGES)
    assert resumed.returncode == 0, resumed.stderr
    expected, found = checkpoint(run), checkpoint(tmp_path)
    for key in ("model", "optimizer", "random_state"):
        assert_same(expected[key], found[key])


def test_a_network_with_two_stems_does_not_take_its_place(run, datasets, tmp_path):
    weights = {"MODEL__WEIGHTS": str(run / "model_final.pth")}
    other = {**CHANGES, **weights, "MODEL__BACKBONE__SHARED_STEM": "False"}
    refused = train("--eval-only", datasets=datasets, output=tmp_path, **other)
    assert refused.returncode == 2
    assert "stems.1.conv1.weight (missing)" in refused.stderr


def test_the_exported_file_gives_its_features(run, datasets, tmp_path):
    out = tmp_path / "strong.onnx"
    tool = [sys.executable, str(ROOT / "tools/export_onnx.py"), "--out", str(out)]
    words = [
        "--config-file",
        str(run / "config.yaml"),
        "MODEL.WEIGHTS",
        str(run / "model_final.pth"),
    ]
    done = subprocess.run(
        [*tool, *words], env=environment(datasets), capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stderr
    assert "largest difference of a feature" in done.stdout
