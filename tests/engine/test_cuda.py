"""On a GPU a run does what it does on a CPU, and in mixed precision nearly so."""

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest

from plugins.balancing.generator import EDMGenerator
from plugins.balancing.training import CHECKPOINT, GeneratorTraining
from plugins.robustness.report.card import make_card
from tests.helpers.balancing_toys import SETTINGS, write_photographs
from tests.helpers.checkpoints import checkpoint
from tests.helpers.defense_runs import SMALL
from tests.helpers.robust_subjects import TINY, Undefended, runner_of
from tests.helpers.small_runs import CONFIG, ROOT, train, train_and_kill

DEFENSES = ROOT / "configs/Defense/synthetic"
CONFIGS = {
    "sadstrm": CONFIG,
    "metric_at": DEFENSES / "metric_at.yml",
    "dddefense": DEFENSES / "dddefense.yml",
}
HALF = {"SOLVER__AMP__ENABLED": True}

pytestmark = pytest.mark.gpu


@pytest.fixture(autouse=True)
def in_full_precision(monkeypatch):
    monkeypatch.setenv("NVIDIA_TF32_OVERRIDE", "0")  # in the processes that the tests start


@pytest.fixture(params=CONFIGS)
def small_run(request, datasets, market) -> dict:
    """Arguments of a small run, of SADSTRM or of a defense."""
    if request.param == "sadstrm":
        return {"datasets": datasets, "SOLVER__ADVERSARY__START_EPOCH": 0}
    return SMALL | {"datasets": market, "config": CONFIGS[request.param]}


def trained(output: Path, device: str, **changes) -> Path:
    """Train; returns its folder."""
    done = train(output=output, MODEL__DEVICE=device, **changes)
    assert done.returncode == 0, done.stderr
    return output


def losses(folder: Path, iteration: int = 0) -> dict[str, float]:
    lines = (folder / "metrics.json").read_text().splitlines()
    logged = next(one for one in map(json.loads, lines) if one["iteration"] == iteration)
    return {name: value for name, value in logged.items() if "loss" in name}


def test_the_first_losses_are_those_on_a_cpu(small_run, tmp_path):
    on_cpu, on_cuda = (
        losses(trained(tmp_path / device, device, **small_run)) for device in ("cpu", "cuda")
    )
    assert len(on_cpu) > 2
    assert on_cuda == pytest.approx(on_cpu, rel=1e-3, abs=1e-4)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_mixed_precision_begins_with_nearly_the_same_losses_and_stays_finite(
    small_run, tmp_path, dtype
):
    full = losses(trained(tmp_path / "full", "cuda", **small_run))
    half = trained(tmp_path / "half", "cuda", **small_run, **HALF, SOLVER__AMP__DTYPE=dtype)
    assert losses(half) == pytest.approx(full, rel=0.1, abs=0.05)
    assert all(map(math.isfinite, losses(half, 2).values()))


def test_a_killed_run_goes_on_with_its_loss_scale(small_run, tmp_path):
    output = tmp_path / "killed"
    train_and_kill(output=output, MODEL__DEVICE="cuda", **small_run, **HALF)
    done = train("--resume", output=output, MODEL__DEVICE="cuda", **small_run, **HALF)
    assert done.returncode == 0, done.stderr
    assert "epochs are done" in done.stdout
    assert checkpoint(output)["grad_scaler"]["scale"] > 0


def test_an_attacked_evaluation_finds_what_a_cpu_finds(small_run, tmp_path):
    weights = trained(tmp_path / "run", "cuda", **small_run) / "model_final.pth"
    attacks = {"TEST__ATTACKS": "['FNA']", "ATTACK__STEPS": 2, "MODEL__WEIGHTS": weights}
    found = {}
    for device in ("cpu", "cuda"):
        folder = tmp_path / device
        changes = small_run | attacks | {"MODEL__DEVICE": device}
        done = train("--eval-only", output=folder, **changes)
        assert done.returncode == 0, done.stderr
        (blocks,) = json.loads((folder / "evaluation.json").read_text())["results"].values()
        found[device] = {
            name: block["mAP"] for name, block in blocks.items() if isinstance(block, dict)
        }
    assert any("FNA" in name for name in found["cpu"])
    assert found["cuda"] == pytest.approx(found["cpu"], abs=1.0)


def test_a_report_holds(market, tmp_path, monkeypatch):
    monkeypatch.setenv("FASTREID_DATASETS", str(market))
    runner = runner_of(Undefended().cuda(), tmp_path, level=replace(TINY, hsj_queries=2))
    assert make_card(runner, "tiny", "Market1501")["established"]


def test_the_generator_learns_and_draws_what_it_does_on_a_cpu(tmp_path):
    photographs = write_photographs(tmp_path / "photographs", [("ann", "1"), ("bob", "2")])
    images, curves = [], []
    for device in ("cpu", "cuda"):
        training = GeneratorTraining(photographs, SETTINGS, device)
        training.run(tmp_path / device, steps=3, period=3)
        curves.append(training.losses)
        generator = EDMGenerator(tmp_path / device / CHECKPOINT, device, seed=0, scheduler="euler")
        images.append(generator.generate("ann", "1", 2).cpu().float())
    assert curves[1] == pytest.approx(curves[0], rel=1e-2)
    assert (images[0] - images[1]).abs().mean() < 2
