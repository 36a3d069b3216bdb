"""What a record of an attack depends on."""

import pytest
import torch
from torch import nn

from plugins.modeling.losses import Loss
from plugins.modeling.meta_arch import VVIBaseline
from plugins.robustness.fingerprint import hash_weights, without_losses
from tests.helpers.small_models import small_cfg


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
