import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from plugins.errors import InputError
from plugins.modeling.temporal import STIG
from plugins.modeling.temporal.stig import frame_differences, guided_mean, stripe_means
from tests.modeling.samples import lstm_by_hand, maps_of, parameters_of, small_cfg


def small_stig(spatial=True, temporal=True, channels=8, stripes=3):
    torch.manual_seed(0)
    return STIG(
        channels=channels, stripes=stripes, dim=6, guide_dim=5, spatial=spatial, temporal=temporal
    )


@settings(max_examples=25, deadline=None)
@given(height=st.integers(1, 12), stripes=st.integers(1, 12))
def test_stripes_partition_the_rows(height, stripes):
    if stripes > height:
        with pytest.raises(InputError, match=f"{stripes} stripes do not fit in maps of {height}"):
            stripe_means(torch.zeros(1, 1, 1, height, 2), stripes)
        return
    # One-hot rows: the mean of a stripe tells which rows belong to it, and with which weight.
    rows = torch.eye(height)[None, None, :, :, None].expand(1, 1, height, height, 2)
    weights = stripe_means(rows, stripes)[0, 0]  # (stripes, rows)
    sizes = (weights > 0).sum(dim=1)
    assert (weights > 0).sum(dim=0).eq(1).all()
    assert sizes.max() - sizes.min() <= 1
    torch.testing.assert_close(weights.sum(dim=1), torch.ones(stripes))
    assert weights.argmax(dim=1).tolist() == sorted(weights.argmax(dim=1).tolist())


def test_differences_start_at_zero():
    sequence = torch.tensor([[[1.0], [4.0], [2.0]]])
    assert frame_differences(sequence).tolist() == [[[0.0], [3.0], [-2.0]]]
    assert frame_differences(sequence[:, :1]).tolist() == [[[0.0]]]


def test_guided_mean_of_silent_and_full_guidance():
    frames = torch.tensor([[[1.0], [3.0]]])
    assert guided_mean(frames, torch.zeros_like(frames)).item() == 2
    assert guided_mean(frames, torch.ones_like(frames)).item() == 4


def stig_by_hand(stig, clip):
    """The equations of the class docstring, frame by frame and stripe by stripe."""
    related = []
    for frame in clip:
        described = []
        for band in frame.tensor_split(stig.stripes, dim=1):
            described.append(stig.describe(band.mean((1, 2))))
        if stig.spatial is not None:
            down = lstm_by_hand(described, *parameters_of(stig.spatial))
            up = lstm_by_hand(described[::-1], *parameters_of(stig.spatial, "_reverse"))[::-1]
            described = [torch.cat(pair) for pair in zip(down, up, strict=True)]
        related.append(described)
    if stig.temporal is not None:
        for stripe in range(stig.stripes):
            track = [frame[stripe] for frame in related]
            before = [track[0], *track[:-1]]
            steps = [torch.cat([now, now - past]) for now, past in zip(track, before, strict=True)]
            for t, hidden in enumerate(lstm_by_hand(steps, *parameters_of(stig.temporal))):
                related[t][stripe] = hidden
    feature = 0
    for frame, described in zip(clip, related, strict=True):
        pooled = frame.mean((1, 2))
        feature = feature + pooled * stig.guide(torch.cat(described)) + pooled
    return feature / len(clip)


@pytest.mark.parametrize("spatial", [True, False])
@pytest.mark.parametrize("temporal", [True, False])
@pytest.mark.parametrize("frames", [1, 3])
def test_stig_equals_its_equations_written_as_loops(spatial, temporal, frames):
    stig = small_stig(spatial, temporal)
    maps = maps_of(frames=frames)
    expected = torch.stack([stig_by_hand(stig, clip) for clip in maps])
    torch.testing.assert_close(stig(maps), expected)


def test_without_temporal_relation_the_order_of_frames_does_not_matter():
    maps = maps_of()
    unordered, ordered = small_stig(temporal=False), small_stig()
    torch.testing.assert_close(unordered(maps), unordered(maps.flip(1)))
    assert not torch.allclose(ordered(maps), ordered(maps.flip(1)))


def test_switched_off_relations_have_no_parameters():
    assert not any("spatial" in n for n, _ in small_stig(spatial=False).named_parameters())
    assert not any("temporal" in n for n, _ in small_stig(temporal=False).named_parameters())


def test_stig_of_the_paper_s_size_has_about_2_2_million_parameters():
    cfg = small_cfg(
        "MODEL.BACKBONE.FEAT_DIM", 2048, "MODEL.TEMPORAL.STIG.STRIPES", 6,
        "MODEL.TEMPORAL.STIG.DIM", 256,
    )  # fmt: skip
    count = sum(p.numel() for p in STIG(cfg).parameters())
    assert count == pytest.approx(2.2e6, rel=0.05)


def test_odd_descriptors_are_refused_only_where_two_directions_share_them():
    with pytest.raises(InputError, match=r"STIG.DIM: expected an even number, found 5"):
        STIG(channels=8, stripes=2, dim=5, guide_dim=4, spatial=True, temporal=False)
    STIG(channels=8, stripes=2, dim=5, guide_dim=4, spatial=False, temporal=True)
