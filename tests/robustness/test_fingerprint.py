"""What a record of an attack depends on."""

import pytest
import torch
from torch import nn

from plugins.config import setup_cfg
from plugins.modeling.losses import Loss
from plugins.modeling.meta_arch import VVIBaseline
from plugins.robustness.fingerprint import fingerprint, hash_weights, without_losses
from tests.helpers.small_models import small_cfg
from tests.helpers.user_code import nothing_left_behind


class Centers(Loss):
    key = "loss_centers"

    def __init__(self):
        super().__init__()
        self.centers = nn.Parameter(torch.ones(4, 512))


@pytest.mark.slow
def test_losses_are_no_part_of_what_is_attacked_so_that_older_records_are_found():
    model = VVIBaseline(small_cfg())
    shown, weights = f"{without_losses(model)}", hash_weights(model)
    assert "(loss_functions)" in f"{model}"
    # As it was when losses were no modules: neither a line of theirs nor a weight.
    lines = f"{model}".splitlines()
    begin = lines.index("  (loss_functions): ModuleList(")
    end = lines.index("  )", begin)
    assert shown.splitlines() == lines[:begin] + lines[end + 1 :]
    model.loss_functions.append(Centers())
    assert f"{without_losses(model)}" == shown
    assert hash_weights(model) == weights
    assert "loss_functions.3.centers" in model.state_dict(), "the view has changed the model"


PART = """
from plugins.attacks.per_query import FNA
from plugins.config import Key, add_keys
from plugins.registry import ATTACK

def add_config(cfg):
    add_keys(cfg, {"MINE.PULL": Key(0.5, "Share of the nearest.", least=0)})

@ATTACK.register()
class MineOfAUser(FNA):
    sign = SIGN
"""


def test_a_record_depends_on_code_and_keys_of_the_user(tmp_path):
    """Also where the file alone has changed: an objective is edited and tried again."""
    model, found = nn.Linear(1, 1), []
    for folder, sign, pull in (("a", "1", 0.5), ("b", "1", 0.5), ("c", "-1", 0.5), ("d", "1", 1)):
        file = tmp_path / folder / "mine_of_a_user.py"
        file.parent.mkdir()
        file.write_text(PART.replace("SIGN", sign))
        with nothing_left_behind():
            cfg = setup_cfg(opts=["MINE.PULL", pull], plugins=[str(file)])
            found.append(fingerprint(cfg, model, ()))
    first, same, other_code, other_value = found
    assert first == same, "the folder counts"
    assert len({first, other_code, other_value}) == 3
