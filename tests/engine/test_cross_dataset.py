"""Trained on one set, tested on others: other people, other cameras, another number of them."""

import json
from pathlib import Path

import pytest
import torch

from plugins.config import setup_cfg
from plugins.engine import Trainer
from plugins.engine.checkpoint import Checkpointer, read_checkpoint
from plugins.errors import InputError
from plugins.synthetic import MARKET1501, SyntheticSettings, render_layout
from tests.helpers import commands
from tests.helpers.image_trees import write_sysu
from tests.helpers.small_runs import CONFIG, ROOT, command, environment, options

pytestmark = pytest.mark.slow

STOCK = ROOT / "configs/Defense/synthetic/vanilla.yml"
SHORT = {
    "SOLVER__MAX_EPOCH": 1,
    "SOLVER__WARMUP_EPOCHS": 0,
    "TEST__EVAL_PERIOD": 1,
    "DATALOADER__NUM_INSTANCE": 2,
    "SEED": 0,
}
ATTACKED = {"TEST__ATTACKS": "['FNA']", "ATTACK__STEPS": 1, "ATTACK__QUERIES": 2}


@pytest.fixture(scope="module")
def both(datasets, tmp_path_factory) -> Path:
    """Two rendered image sets of 4 and 6 training people, and images of both modalities."""
    root = tmp_path_factory.mktemp("both")
    for folder, people in (("Market-1501-v15.09.15", 4), ("DukeMTMC-reID", 6)):
        settings = SyntheticSettings(
            train_ids=people, test_ids=3, height=32, width=16, max_frames=12, seed=people
        )
        # Duke's reader takes Market's file names too.
        render_layout(MARKET1501, root / folder, settings, workers=1)
    (root / "HITSZ-VCM").symlink_to(datasets / "HITSZ-VCM")
    write_sysu(root, pictures=True)
    return root


@pytest.fixture(autouse=True)
def in_both(both, monkeypatch):
    monkeypatch.setenv("FASTREID_DATASETS", str(both))


@pytest.fixture(scope="module")
def stock(both, tmp_path_factory) -> Path:
    """Folder of fastreid's Baseline, trained on Market-1501 by the command of docs/defenses.md."""
    output = tmp_path_factory.mktemp("stock")
    sets = {"DATASETS__NAMES": "['Market1501']", "DATASETS__TESTS": "['DukeMTMC','Market1501']"}
    words = command(output=output, config=STOCK, **SHORT, **sets)
    done = commands.run(words, env=environment(both))
    assert done.returncode == 0, done.stderr
    return output


def evaluate(config: Path, weights: Path, output: Path, tests: str, **changes) -> dict:
    """What --eval-only gives."""
    torch.set_num_threads(1)
    changes = {"DATASETS__TESTS": tests, **changes}
    cfg = setup_cfg(str(config), options(output, **changes))
    model = Trainer.build_model(cfg)
    Checkpointer(model).load(str(weights), checkpointables=[])
    return Trainer.test(cfg, model)


def assert_close(found: dict, expected: dict) -> None:
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert found[name] == pytest.approx(value)


def test_every_test_set_is_evaluated_and_the_first_chooses_the_best_checkpoint(stock):
    results = json.loads((stock / "results.json").read_text())["results"]
    assert list(results) == ["DukeMTMC", "Market1501"]
    assert results["DukeMTMC"] != results["Market1501"]
    metric = read_checkpoint(str(stock / "model_best.pth"))["metric"]
    assert metric == pytest.approx(results["DukeMTMC"]["metric"])
    log = (stock / "log.txt").read_text()
    assert "| DukeMTMC/Q2G " in log and "| Market1501/Q2G " in log


@pytest.mark.parametrize("classes", [0, 6], ids=["none", "those of the other set"])
def test_a_stock_model_needs_no_classifier_that_fits(stock, tmp_path, classes):
    trained = json.loads((stock / "results.json").read_text())["results"]
    weights = stock / "model_final.pth"
    changes = {"MODEL__HEADS__NUM_CLASSES": classes, **ATTACKED}
    found = evaluate(STOCK, weights, tmp_path, "['DukeMTMC']", **changes)
    assert_close(found["Q2G"], trained["DukeMTMC"]["Q2G"])
    assert found.keys() == {"Q2G", "Q2G+clean", "Q2G+FNA", "Q2G+worst", "metric"}


def test_a_clip_model_is_tested_on_images_clean_and_attacked(both, tmp_path):
    torch.manual_seed(0)
    trained = setup_cfg(str(CONFIG), options(tmp_path, MODEL__HEADS__NUM_CLASSES=6))
    weights = tmp_path / "model.pth"
    torch.save({"model": Trainer.build_model(trained).state_dict()}, weights)
    tests = "['SYSUMM01','Market1501','HITSZVCM']"
    found = evaluate(CONFIG, weights, tmp_path, tests, **ATTACKED)
    assert list(found) == ["SYSUMM01", "Market1501", "HITSZVCM"]
    for name, direction in (
        ("SYSUMM01", "I2V all 1-shot official-draw"),
        ("Market1501", "Q2G"),
        ("HITSZVCM", "V2I"),
    ):
        assert {direction, f"{direction}+FNA", f"{direction}+worst"} <= found[name].keys()
        alone = evaluate(CONFIG, weights, tmp_path, f"['{name}']")
        assert_close(found[name][direction], alone[direction])


def test_a_saved_config_does_not_train_on_a_larger_set_unnoticed(stock, tmp_path):
    opts = ["DATASETS.NAMES", "['DukeMTMC']", "OUTPUT_DIR", str(tmp_path)]
    with pytest.raises(InputError, match=r"NUM_CLASSES: 4, but there are 6 people to train on"):
        Trainer(setup_cfg(str(stock / "config.yaml"), opts))
