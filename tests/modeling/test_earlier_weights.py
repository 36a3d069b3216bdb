"""Checkpoints of temporal parts that did not center their input are refused by name."""

import pytest
import torch

from plugins.config import setup_cfg
from plugins.engine.checkpoint import Checkpointer
from plugins.errors import InputError
from plugins.modeling.meta_arch import VVIBaseline
from tests.helpers.small_models import small_cfg, state

# Keys of earlier versions, as a config.yaml of theirs holds them.
EARLIER_KEYS = """
MODEL:
  TEMPORAL:
    NAME: STIG
    ATTENTION: {DIM: 256}
    GEM: {P: 3.0}
    LSTM: {DIM: 256}
    SHIFT: {SHARE: 0.125}
    STIG: {DIM: 256, GUIDE_DIM: 128, SPATIAL: true, STRIPES: 6, TEMPORAL: true}
    TRANSFORMER: {DIM: 256, HEADS: 4, LAYERS: 2}
"""
ADDED = ("norm.", "change_norm.", "hidden_norm.", "gate_norm.", "relation.", "describe")


def earlier_weights(model):
    """The names that a checkpoint of the earlier version has, with the tensors of this one."""
    weights = {
        name: value
        for name, value in state(model).items()
        if not name.startswith("heads.relation")
        and not name.startswith(tuple(f"temporal.{part}" for part in ADDED))
    }
    if any(name.startswith("temporal.guide") for name in weights):
        weights |= {f"temporal.describe.{i}.weight": torch.zeros(16) for i in (0, 1)}
    return weights


@pytest.mark.parametrize(
    "name", ["STIG", "TemporalAttention", "TemporalLSTM", "TemporalTransformer"]
)
@pytest.mark.parametrize("resumed", [False, True])
def test_weights_of_an_earlier_part_are_refused_by_name(name, resumed, tmp_path):
    model = VVIBaseline(small_cfg("MODEL.TEMPORAL.NAME", name))
    path = tmp_path / "model_final.pth"
    torch.save({"model": earlier_weights(model)}, path)
    with pytest.raises(InputError) as refusal:
        Checkpointer(model).load(str(path), checkpointables=None if resumed else [])
    message = str(refusal.value)
    assert message.startswith(f"{path}: its {name} is that of an earlier version")
    assert "train again, or evaluate it with the package at commit" in message
    assert "\n" not in message


@pytest.mark.slow
@pytest.mark.parametrize("name", ["STIG", "TemporalLSTM"])
def test_this_version_s_weights_load_with_another_number_of_people(name, tmp_path):
    trained = VVIBaseline(small_cfg("MODEL.TEMPORAL.NAME", name, "MODEL.HEADS.NUM_CLASSES", 7))
    Checkpointer(trained, str(tmp_path)).save("model_final")
    model = VVIBaseline(small_cfg("MODEL.TEMPORAL.NAME", name))
    Checkpointer(model).load(str(tmp_path / "model_final.pth"), checkpointables=[])
    for key, value in state(model).items():
        if key not in ("heads.weight", "heads.relation.weight"):
            assert torch.equal(value, trained.state_dict()[key]), key


@pytest.mark.slow
def test_weights_of_another_part_are_not_called_earlier_ones(tmp_path):
    mean = VVIBaseline(small_cfg("MODEL.TEMPORAL.NAME", "TemporalMean"))
    Checkpointer(mean, str(tmp_path)).save("model_final")
    model = VVIBaseline(small_cfg())
    with pytest.raises(InputError, match="not the weights of this VVIBaseline"):
        Checkpointer(model).load(str(tmp_path / "model_final.pth"), checkpointables=[])


def test_configs_of_earlier_versions_are_still_read(tmp_path):
    config = tmp_path / "config.yaml"
    config.write_text(EARLIER_KEYS)
    stig = setup_cfg(str(config)).MODEL.TEMPORAL.STIG
    assert (stig.STRIPES, stig.COLUMNS, stig.SOURCE) == (6, 1, "layer4")
