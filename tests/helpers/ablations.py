"""A small ablation: two rows of one epoch each, on a rendered set, tested on another one."""

from plugins.experiments.checks import OWN_KEYS
from tests.helpers.small_runs import CONFIG, OPTIONS

TREE = {
    "config": str(CONFIG),
    "dataset": {
        "name": "tiny",
        "render": {"preset": "quick", "train_ids": 6, "test_ids": 4, "height": 32, "width": 16},
    },
    "tests": {
        "other": {
            "render": {
                **{"preset": "quick", "train_ids": 2, "test_ids": 3, "height": 32, "width": 16},
                "seed": "{seed+5}",
            },
        },
    },
    "metrics": ["tiny/I2V/Rank-1", "tiny/I2V/mAP", "other/V2I/Rank-1", "other/V2I/mAP"],
    "primary": [{"row": "full", "dataset": "other", "metric": "mAP"}],
    "seeds": [0, 1],
    "options": {
        **{key: value for key, value in OPTIONS.items() if key not in OWN_KEYS},
        "SOLVER.BASE_LR": 0.001,
        "SOLVER.MAX_EPOCH": 1,
        "SOLVER.WARMUP_EPOCHS": 0,
        "SOLVER.ADVERSARY.START_EPOCH": 0,
    },
    "rows": {
        "baseline": {
            "description": "the skeleton",
            "overrides": {
                "MODEL.META_ARCHITECTURE": "VVIBaseline",
                "MODEL.TEMPORAL.NAME": "TemporalMean",
                "SOLVER.STEP": "SimpleStep",
            },
        },
        "full": {"description": "all of it"},
    },
}
