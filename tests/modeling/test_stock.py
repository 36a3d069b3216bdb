import pytest

from plugins.config import setup_cfg
from plugins.engine import Trainer
from plugins.errors import InputError
from plugins.modeling.stock import WITHOUT, check_stock_parts

WANTED = {
    "INPUT.STYLE_VARIATION.ENABLED": "True",
    "MODEL.BACKBONE.SHARED_STEM": "True",
    "MODEL.HEADS.NECK_LEVEL": "frame",
    "MODEL.LOSSES.FRAMES.NAME": "['TripletLoss']",
    "MODEL.SPATIAL_POOLING.KIND": "gem",
}


def test_the_defaults_are_without_every_part():
    check_stock_parts(setup_cfg())
    assert WANTED.keys() == WITHOUT.keys()


@pytest.mark.parametrize("key", WANTED)
def test_fastreids_models_refuse_a_part_that_ours_take(key, tmp_path):
    opts = [key, WANTED[key], "OUTPUT_DIR", str(tmp_path)]
    cfg = setup_cfg("", [*opts, "MODEL.META_ARCHITECTURE", "Baseline"])
    with pytest.raises(InputError, match=rf"^{key}: .*, but fastreid's Baseline ignores it"):
        Trainer(cfg)
    check_stock_parts(setup_cfg("", [*opts, "MODEL.META_ARCHITECTURE", "VVIBaseline"]))
