"""Small ablations as files, with one data set or several, and results as their runs give them."""

from pathlib import Path

import yaml

from tests.helpers.small_runs import CONFIG

TREE = {
    "config": str(CONFIG),
    "dataset": {"name": "tiny", "render": {"preset": "quick", "train_ids": 6}},
    "metrics": ["I2V/Rank-1", "V2I/mAP"],
    "seeds": [0, 1, 2],
    "options": {"SOLVER.MAX_EPOCH": 2},
    "rows": {
        "baseline": {"description": "the skeleton"},
        "margin": {"description": "another margin", "overrides": {"MODEL.SELF_ATTACK.MARGIN": 0.5}},
    },
}

# A training in its place: seed 1 fails, seed 2 writes nothing.
STAND_IN = """
import json, pathlib, sys
words = dict(zip(sys.argv[4::2], sys.argv[5::2]))
if words["SEED"] == "1":
    sys.exit("error: boom")
if words["SEED"] != "2":
    blocks = {"I2V": {"Rank-1": float(words["SEED"])}, "V2I": {"mAP": 2.0}}
    saved = {"epochs": 2, "results": {"HITSZVCM": blocks}}
    pathlib.Path(words["OUTPUT_DIR"], "results.json").write_text(json.dumps(saved))
"""

SITE = {"preset": "quick", "train_ids": 2, "test_ids": 2, "height": 32, "width": 16}
TESTS = {
    "same-site": {"render": {**SITE, "seed": "{seed+7}"}},
    "other-sites": {"render": [{**SITE, "seed": 11}, {**SITE, "seed": 12}]},
    "noisy": {"options": {"TEST.FLIP.ENABLED": True}},
}
SEVERAL = {
    "dataset": {"name": "tiny", "render": {**SITE, "seed": "{seed}"}},
    "tests": TESTS,
    "metrics": ["tiny/I2V/mAP", "other-sites/I2V/mAP", "other-sites/V2I/mAP"],
    "options": {
        "SOLVER.MAX_EPOCH": 2,
        "MODEL.BACKBONE.PRETRAIN_PATH": "logs/trunk/seed{seed}/model_final.pth",
        "DATASETS.HELD_OUT.SEED": "{seed+100}",
    },
    "rows": {
        "baseline": {"seeds": [0, 1, 2]},
        "margin": {"overrides": {"MODEL.SELF_ATTACK.MARGIN": 0.5}},
    },
    "seeds": [0, 1],
    "primary": [{"row": "margin", "dataset": "other-sites", "metric": "mAP"}],
}


def write(folder: Path, **changes) -> Path:
    file = folder / "ablation.yml"
    file.write_text(yaml.safe_dump({**TREE, **changes}, sort_keys=False))
    return file


def result(ablation, row: str, seed: int, rank_1: float, mean_ap: float) -> dict:
    metrics = {"I2V": {"Rank-1": rank_1}, "V2I": {"mAP": mean_ap}}
    about = {"row": row, "seed": seed, "commit": "abc", "metrics": metrics, "epochs": 2}
    return about | ablation.wanted(ablation.rows[row])
