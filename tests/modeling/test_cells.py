import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from plugins.errors import InputError
from plugins.modeling.backbones.two_stream import TwoStreamBackbone
from plugins.modeling.temporal.cells import (
    SOURCES,
    cell_means,
    frame_changes,
    source_channels,
    with_first,
)
from plugins.registry import BACKBONE
from tests.helpers.small_models import small_cfg


@settings(max_examples=25, deadline=None)
@given(size=st.integers(1, 12), count=st.integers(1, 12), side=st.sampled_from(["rows", "columns"]))
def test_cells_partition_each_side(size, count, side):
    grid = (count, 1) if side == "rows" else (1, count)
    # One-hot bands: the mean of a cell tells which belong to it, and with which weight.
    bands = torch.eye(size)[None, None]
    maps = bands[..., None].expand(-1, -1, -1, -1, 2)
    maps = maps if side == "rows" else maps.transpose(-1, -2)
    if count > size:
        key = "STRIPES" if side == "rows" else "COLUMNS"
        with pytest.raises(
            InputError, match=rf"STIG.{key}: {count} \w+ do not fit in maps of {size}"
        ):
            cell_means(maps, *grid)
        return
    weights = cell_means(maps, *grid)[0, 0]  # (cells, bands)
    sizes = (weights > 0).sum(dim=1)
    assert (weights > 0).sum(dim=0).eq(1).all()
    assert sizes.max() - sizes.min() <= 1
    torch.testing.assert_close(weights.sum(dim=1), torch.ones(count))
    assert weights.argmax(dim=1).tolist() == sorted(weights.argmax(dim=1).tolist())


def test_cells_are_numbered_row_by_row_and_tell_left_from_right():
    maps = torch.zeros(1, 1, 1, 4, 4)
    maps[..., 2:, :2] = 1.0  # below, on the left
    assert cell_means(maps, 2, 2)[0, 0, :, 0].tolist() == [0, 0, 1, 0]
    assert cell_means(maps, 2, 1)[0, 0, :, 0].tolist() == [0, 0.5]


def test_the_first_frame_has_the_change_of_the_second():
    sequence = torch.tensor([[[1.0], [4.0], [2.0]]])
    changes = frame_changes(sequence)
    assert changes.tolist() == [[[3.0], [-2.0]]]
    assert with_first(changes, 3).tolist() == [[[3.0], [3.0], [-2.0]]]
    assert with_first(frame_changes(sequence[:, :1]), 1).tolist() == [[[0.0]]]


@pytest.mark.parametrize("source", SOURCES)
def test_channels_of_a_source_are_those_of_its_maps(source):
    cfg = small_cfg()
    backbone: TwoStreamBackbone = BACKBONE.get(cfg.MODEL.BACKBONE.NAME)(cfg)
    maps = backbone.stage_maps(torch.zeros(1, 64, 16, 8))[source]
    assert maps.shape[1] == source_channels(cfg, source)
