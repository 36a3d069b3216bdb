import logging

import pytest
import torch
from fastreid.utils.events import EventStorage

from plugins.modeling.meta_arch import SADSTRM
from plugins.modeling.temporal.watch import (
    PATIENCE,
    Watch,
    deviation_over_clips,
    deviation_over_frames,
)
from tests.helpers.small_models import small_batch, small_cfg

MODALITIES = torch.tensor([0, 1, 0, 1, 0])


def values_of(seed=0, frames=4):
    return torch.randn(5, frames, 3, generator=torch.Generator().manual_seed(seed))


def test_over_clips_is_the_deviation_of_the_clips_means_within_a_modality():
    values = values_of()
    by_hand = []
    for modality in (0, 1):
        means = [clip.mean(0) for clip, m in zip(values, MODALITIES, strict=True) if m == modality]
        centre = sum(means) / len(means)
        variance = sum((mean - centre) ** 2 for mean in means) / (len(means) - 1)
        by_hand.append(variance.sqrt().mean().item())
    found = deviation_over_clips(values, MODALITIES).item()
    assert found == pytest.approx(sum(by_hand) / 2, rel=1e-5)


def test_what_only_tells_the_modality_tells_no_clip_from_another():
    values = (10.0 * MODALITIES)[:, None, None].expand(-1, 4, 3)
    assert deviation_over_clips(values, MODALITIES) == 0


def test_what_only_tells_the_index_of_the_frame_tells_no_frame_from_another():
    index = torch.arange(4.0)[None, :, None].expand(5, -1, 3)
    values = values_of()
    assert deviation_over_frames(index, MODALITIES) == 0
    torch.testing.assert_close(
        deviation_over_frames(values + 10 * index, MODALITIES),
        deviation_over_frames(values, MODALITIES),
    )
    assert deviation_over_frames(values, MODALITIES) > 0.3


def test_one_clip_and_one_frame_have_no_deviation():
    alone = torch.zeros(1, dtype=torch.long)
    assert deviation_over_clips(values_of()[:1], alone) is None
    assert deviation_over_frames(values_of()[:1], alone) is None
    assert deviation_over_frames(values_of(frames=1), MODALITIES) is None
    Watch("Part", "gate").see(values_of()[:1, :1], alone)


def warnings_of(caplog, quantities, over="clips"):
    caplog.clear()
    watch = Watch("Part", "gate", over)
    with caplog.at_level(logging.WARNING):
        for values in quantities:
            watch.see(values, MODALITIES)
    return [record.getMessage() for record in caplog.records]


@pytest.mark.slow
def test_one_warning_names_the_part_that_is_constant_for_200_iterations(caplog):
    constant = torch.ones(5, 4, 3) + 1e-4 * values_of()
    (message,) = warnings_of(caplog, [constant] * (3 * PATIENCE))
    assert message.startswith("Part: its gate has been constant for 200 iterations")
    assert warnings_of(caplog, [constant] * (PATIENCE - 1)) == []
    alive = 1 + 0.02 * values_of()
    almost = [constant] * (PATIENCE - 1) + [alive]
    assert warnings_of(caplog, almost * 2) == []
    (message,) = warnings_of(caplog, [alive, *[constant] * PATIENCE])
    assert "tells no clip from another" in message


def test_a_part_that_weighs_frames_is_judged_over_frames(caplog):
    weights = 1 + 0.1 * torch.randn(5, 4, 1)
    weights = weights / weights.mean(dim=1, keepdim=True)  # every clip's mean is 1
    assert warnings_of(caplog, [weights] * PATIENCE, over="frames") == []
    assert len(warnings_of(caplog, [weights] * PATIENCE, over="clips")) == 1


SCALARS = {
    "STIG": ("gate", "relation"),
    "TemporalAttention": ("attention",),
    "TemporalLSTM": ("residual",),
    "TemporalTransformer": ("residual",),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", SCALARS)
def test_training_logs_the_deviations_of_the_clean_pass_alone(name):
    model, batch = SADSTRM(small_cfg("MODEL.TEMPORAL.NAME", name)), small_batch()
    expected = [f"temporal/{q}_over_{over}" for q in SCALARS[name] for over in ("clips", "frames")]
    expected += ["temporal/gate_saturation"] if name == "STIG" else []
    with EventStorage() as storage:
        model(batch, turn="attack")
        model.eval()(batch)
        with torch.no_grad():
            model.train()(batch)
        assert not any(key.startswith("temporal/") for key in storage.latest())
        model(batch, turn="defense")
    found = {key: value for key, (value, _) in storage.latest().items() if "temporal/" in key}
    assert sorted(found) == sorted(expected)
    assert all(len(storage.history(key).values()) == 1 for key in expected)
    if name == "STIG":
        assert found["temporal/gate_over_clips"] == 0  # starts at the identity
        assert found["temporal/relation_over_clips"] > 0.01
        assert found["temporal/relation_over_frames"] > 0.01
