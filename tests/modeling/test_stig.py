import pytest
import torch
import torch.nn.functional as F

from plugins.errors import InputError
from plugins.modeling.temporal import STIG
from tests.helpers.small_models import (
    awaken,
    lstm_by_hand,
    maps_of,
    parameters_of,
    small_cfg,
)

MODALITIES = torch.tensor([0, 1])


def small_stig(*opts, channels=8):
    """Three rows and two columns of cells."""
    torch.manual_seed(0)
    small = [
        "MODEL.BACKBONE.FEAT_DIM", channels,
        "MODEL.TEMPORAL.STIG.STRIPES", 3,
        "MODEL.TEMPORAL.STIG.COLUMNS", 2,
        "MODEL.TEMPORAL.STIG.DIM", 6,
        "MODEL.TEMPORAL.STIG.GUIDE_DIM", 5,
        "MODEL.TEMPORAL.STIG.RELATION.DIM", 4,
    ]  # fmt: skip
    return STIG(small_cfg(*small, *opts))


def recorded(stig, frames=4):
    """Its parts moved, in evaluation mode, with statistics of maps that have a common mean."""
    awaken(stig)
    stig(20 + maps_of(clips=6, frames=frames, seed=3), torch.arange(6) % 2)
    return stig.eval()


def normalized(norm, values, modality):
    """A list of values, one for each cell, by what a norm has recorded and learned."""
    length = len(values[0])
    results = []
    for cell, value in enumerate(values):
        part = slice(cell * length, (cell + 1) * length)
        std = (norm.running_var[modality, part] + norm.eps).sqrt()
        unit = (value - norm.running_mean[modality, part]) / std
        results.append(unit * norm.weight[part] + norm.bias[part])
    return results


def stig_by_hand(stig, clip, source_clip, modality):
    """The equations of the class docstring, frame by frame and cell by cell."""
    cells = [
        [
            cell.mean((1, 2))
            for band in frame.tensor_split(stig.rows, dim=1)
            for cell in band.tensor_split(stig.columns, dim=2)
        ]
        for frame in source_clip
    ]
    related = []
    for frame in cells:
        described = [stig.describe(x).relu() for x in normalized(stig.norm, frame, modality)]
        if stig.spatial is not None:
            down = lstm_by_hand(described, *parameters_of(stig.spatial))
            up = lstm_by_hand(described[::-1], *parameters_of(stig.spatial, "_reverse"))[::-1]
            described = [p + torch.cat(pair) for p, *pair in zip(described, down, up, strict=True)]
        related.append(described)
    if stig.temporal is not None:
        changes = [
            normalized(
                stig.change_norm, [now - past for now, past in zip(*pair, strict=True)], modality
            )
            for pair in zip(cells[1:], cells[:-1], strict=True)
        ]
        changes = [changes[0] if changes else [torch.zeros_like(x) for x in cells[0]], *changes]
        for cell in range(len(cells[0])):
            steps = [
                torch.cat([s[cell], stig.describe_change(m[cell]).relu()])
                for s, m in zip(related, changes, strict=True)
            ]
            states = lstm_by_hand([steps[0], steps[0], *steps], *parameters_of(stig.temporal))
            for t, hidden in enumerate(states[2:]):
                related[t][cell] = hidden
    moved = [list(frame) for frame in related]
    if stig.motion is not None:
        for cell in range(len(cells[0])):
            steps = [stig.describe_change(m[cell]).relu() for m in changes]
            states = lstm_by_hand([steps[0], steps[0], *steps], *parameters_of(stig.motion))
            for t, hidden in enumerate(states[2:]):
                moved[t][cell] = hidden
    feature, relation = 0, 0
    read = stig.hidden_norm if stig.motion is None else stig.motion_norm
    for frame, described, motion in zip(clip, related, moved, strict=True):
        hidden = torch.cat(normalized(stig.hidden_norm, described, modality))
        (gate,) = normalized(stig.gate_norm, [stig.guide(hidden)], modality)
        feature = feature + frame.mean((1, 2)) * (1 + gate.tanh())
        relation = relation + stig.relation(torch.cat(normalized(read, motion, modality)))
    return torch.cat([feature, relation]) / len(clip)


@pytest.mark.parametrize("spatial", [True, False])
@pytest.mark.parametrize("temporal", [True, False])
@pytest.mark.parametrize("frames", [1, 4])
def test_stig_equals_its_equations_written_as_loops(spatial, temporal, frames):
    stig = recorded(
        small_stig("MODEL.TEMPORAL.STIG.SPATIAL", spatial, "MODEL.TEMPORAL.STIG.TEMPORAL", temporal)
    )
    maps = 20 + maps_of(frames=frames)
    expected = [
        stig_by_hand(stig, clip, clip, modality)
        for clip, modality in zip(maps, MODALITIES.tolist(), strict=True)
    ]
    found = stig(maps, MODALITIES)
    torch.testing.assert_close(found, torch.stack(expected), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("source", "channels"), [("layer2", 2), ("layer3", 4)])
def test_cells_come_from_the_source_and_the_feature_from_the_last_maps(source, channels):
    stig = awaken(small_stig("MODEL.TEMPORAL.STIG.SOURCE", source))
    maps = 20 + maps_of()
    source_maps = 20 + maps_of(channels=channels, height=14, width=4, seed=1)
    stig(maps.repeat(3, 1, 1, 1, 1), torch.arange(6) % 2, source_maps.repeat(3, 1, 1, 1, 1))
    stig.eval()
    expected = [
        stig_by_hand(stig, clip, source_clip, modality)
        for clip, source_clip, modality in zip(maps, source_maps, MODALITIES.tolist(), strict=True)
    ]
    found = stig(maps, MODALITIES, source_maps)
    torch.testing.assert_close(found, torch.stack(expected), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("frames", [1, 4])
def test_a_relation_of_changes_equals_its_equations_and_sees_no_still_looks(frames):
    stig = recorded(small_stig("MODEL.TEMPORAL.STIG.RELATION.READS", "changes"))
    maps = 20 + maps_of(frames=frames)
    expected = [
        stig_by_hand(stig, clip, clip, modality)
        for clip, modality in zip(maps, MODALITIES.tolist(), strict=True)
    ]
    found = stig(maps, MODALITIES)
    torch.testing.assert_close(found, torch.stack(expected), rtol=1e-4, atol=1e-4)
    looks = stig(maps + maps_of(frames=1, seed=5), MODALITIES)
    torch.testing.assert_close(looks[:, 8:], found[:, 8:], rtol=1e-4, atol=1e-4)
    assert not torch.allclose(looks[:, :8], found[:, :8])


def test_a_relation_of_changes_needs_frames_that_are_related():
    with pytest.raises(InputError, match=r"RELATION.READS: changes, found .*TEMPORAL False"):
        small_stig(
            "MODEL.TEMPORAL.STIG.RELATION.READS", "changes", "MODEL.TEMPORAL.STIG.TEMPORAL", False
        )


def test_without_temporal_relation_the_order_of_frames_does_not_matter():
    maps = maps_of()
    unordered = recorded(small_stig("MODEL.TEMPORAL.STIG.TEMPORAL", False))
    ordered = recorded(small_stig())
    for part, counts in ((unordered, False), (ordered, True)):
        forward, backward = part(maps, MODALITIES), part(maps.flip(1), MODALITIES)
        for kept in (slice(0, 8), slice(8, 12)):  # the feature and the relation
            changed = not torch.allclose(forward[:, kept], backward[:, kept], atol=1e-5)
            assert changed == counts


def test_left_and_right_count_with_columns_alone():
    maps = maps_of(width=4)
    for columns, counts in ((1, False), (2, True)):
        stig = recorded(small_stig("MODEL.TEMPORAL.STIG.COLUMNS", columns))
        mirrored = stig(maps.flip(-1), MODALITIES)
        assert (not torch.allclose(stig(maps, MODALITIES), mirrored, atol=1e-4)) == counts


def test_switched_off_parts_have_no_parameters():
    for opts, names in (
        (("MODEL.TEMPORAL.STIG.SPATIAL", False), ("spatial.",)),
        (("MODEL.TEMPORAL.STIG.TEMPORAL", False), ("temporal.", "change_norm.", "describe_change")),
        (("MODEL.TEMPORAL.STIG.RELATION.DIM", 0), ("relation.",)),
    ):
        kept = [n for n, _ in small_stig(*opts).named_parameters() if n.startswith(names)]
        assert kept == []


def test_without_a_relation_it_gives_the_feature_alone():
    maps = maps_of()
    torch.manual_seed(0)
    assert small_stig("MODEL.TEMPORAL.STIG.RELATION.DIM", 0)(maps, MODALITIES).shape == (2, 8)
    assert small_stig()(maps, MODALITIES).shape == (2, 12)


def test_dropout_works_in_training_alone():
    maps, stig = maps_of(), recorded(small_stig("MODEL.TEMPORAL.STIG.DROPOUT", 0.5))
    assert torch.equal(stig(maps, MODALITIES), stig(maps, MODALITIES))
    stig.train()
    assert not torch.equal(stig(maps, MODALITIES), stig(maps, MODALITIES))


@pytest.mark.slow
def test_no_gate_drifts_for_all_clips_alike():
    stig, maps = small_stig(), 20 + maps_of(clips=16)
    modalities = torch.arange(16) % 2
    optimizer = torch.optim.SGD(stig.parameters(), lr=0.1)
    gates = []
    stig.gate_norm.register_forward_hook(lambda _, __, output: gates.append(output))
    for _ in range(30):  # a larger feature is what this loss wants
        optimizer.zero_grad()
        (-stig(maps, modalities)[:, :8].mean()).backward()
        optimizer.step()
    assert gates[-1].mean(dim=(0, 1)).abs().max() < 1e-4


def test_autocast_does_not_round_the_changes_of_frames_away():
    stig = recorded(small_stig())
    maps = 20 + maps_of() / 100
    with torch.autocast("cpu", torch.bfloat16):
        rounded = stig(maps, MODALITIES)
    torch.testing.assert_close(rounded, stig(maps, MODALITIES))


def test_odd_descriptors_are_refused_only_where_two_directions_share_them():
    with pytest.raises(InputError, match=r"STIG.DIM: expected an even number, found 5"):
        small_stig("MODEL.TEMPORAL.STIG.DIM", 5)
    small_stig("MODEL.TEMPORAL.STIG.DIM", 5, "MODEL.TEMPORAL.STIG.SPATIAL", False)


def test_statistics_of_frames_and_of_changes_are_their_own():
    stig = small_stig()
    maps = 20 + maps_of(clips=8, frames=5)
    modalities = torch.arange(8) % 2
    stig(maps, modalities)
    cells = F.adaptive_avg_pool2d(maps[..., :6, :].flatten(0, 1), (3, 2)).mean()
    assert stig.norm.running_mean.mean() == pytest.approx(cells.item(), abs=0.2)
    assert stig.change_norm.running_mean.abs().max() < 2  # of differences: no common mean
