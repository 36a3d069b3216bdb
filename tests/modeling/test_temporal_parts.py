import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from plugins.errors import InputError
from plugins.modeling.temporal import (
    TemporalAttention,
    TemporalGeM,
    TemporalLSTM,
    TemporalMax,
    TemporalMean,
    TemporalShift,
    TemporalTransformer,
)
from plugins.modeling.temporal.gem import generalized_mean
from plugins.modeling.temporal.modality_norm import ModalityNorm
from plugins.modeling.temporal.transformer import sinusoids
from tests.helpers.small_models import awaken, lstm_by_hand, maps_of, parameters_of, small_cfg

MODALITIES = torch.tensor([0, 1])


def normalized(part, maps):
    """Each clip as a list of its frames' spatial means, and the same normalized by its modality."""
    frames = maps.mean(dim=(3, 4))
    plain, centered = [], []
    for clip, modality in zip(frames, MODALITIES.tolist(), strict=True):
        mean, std = clip.mean(dim=0), (clip.var(dim=0, correction=0) + 1e-5).sqrt()
        if len(clip) < 2:  # no variance of the batch
            mean, std = part.norm.running_mean[modality], part.norm.running_var[modality].sqrt()
        plain.append(list(clip))
        centered.append([(x - mean) / std * part.norm.weight + part.norm.bias for x in clip])
    return plain, centered


def own_norm():
    return ModalityNorm(cells=1, channels=8)


def frames_of(maps):
    """Each clip as a list of its frames' spatial means."""
    return [[frame.mean((1, 2)) for frame in clip] for clip in maps]


def mean_over_time(clips):
    return torch.stack([sum(clip) / len(clip) for clip in clips])


def test_mean_is_the_mean_over_time_and_space():
    maps = maps_of()
    torch.testing.assert_close(TemporalMean()(maps), mean_over_time(frames_of(maps)))


def test_max_is_the_largest_spatial_mean_of_each_channel():
    maps = maps_of()
    by_hand = [
        [max(frame[channel].item() for frame in clip) for channel in range(8)]
        for clip in frames_of(maps)
    ]
    torch.testing.assert_close(TemporalMax()(maps), torch.tensor(by_hand))


@settings(max_examples=30, deadline=None)
@given(
    values=st.lists(st.floats(0.01, 1e3), min_size=1, max_size=6),
    p=st.sampled_from([1.0, 1.5, 3.0, 10.0, 100.0]),
)
def test_generalized_mean_equals_its_formula_where_nothing_overflows(values, p):
    found = generalized_mean(torch.tensor(values).view(1, -1, 1), torch.tensor(p))
    by_hand = (sum(value**p for value in values) / len(values)) ** (1 / p)
    assert found.item() == pytest.approx(by_hand, rel=1e-4)


def test_generalized_mean_of_1_is_the_mean_and_of_much_the_maximum():
    maps = maps_of().abs()
    torch.testing.assert_close(TemporalGeM(p=1)(maps), TemporalMean()(maps))
    torch.testing.assert_close(TemporalGeM(p=100)(maps), TemporalMax()(maps), rtol=0.02, atol=0)


@pytest.mark.parametrize(("outside", "inside"), [(-3.0, 1.0), (1e4, 100.0)])
def test_p_that_training_drives_away_is_clamped(outside, inside):
    maps, driven = maps_of().abs(), TemporalGeM(p=3)
    driven.p.data.fill_(outside)
    assert torch.equal(driven(maps), TemporalGeM(p=inside)(maps))


@pytest.mark.parametrize("p", [1.0, 3.0, 100.0])
@pytest.mark.parametrize("size", [0.0, 1e-20, 1e20])
def test_silent_and_loud_channels_have_finite_gradients(p, size):
    gem, maps = TemporalGeM(p=p), (maps_of().abs() * size).requires_grad_()
    feature = gem(maps)
    feature.mean().backward()
    assert feature.isfinite().all()
    assert maps.grad.isfinite().all()
    assert gem.p.grad.isfinite()


@pytest.mark.parametrize("p", [0.5, 101.0])
def test_p_outside_its_range_is_refused(p):
    with pytest.raises(InputError, match=rf"GEM.P: {p}; expected 1 to 100"):
        TemporalGeM(small_cfg("MODEL.TEMPORAL.GEM.P", p))


def test_attention_equals_a_loop_over_frames():
    attention = awaken(TemporalAttention(channels=8, dim=5, norm=own_norm()))
    maps = 20 + maps_of()
    first, _, last = attention.score
    features = []
    for clip, centered in zip(*normalized(attention, maps), strict=True):
        scores = [last.weight[0] @ torch.tanh(first.weight @ x + first.bias) for x in centered]
        total = sum(score.exp() for score in scores)
        features.append(sum(s.exp() / total * frame for s, frame in zip(scores, clip, strict=True)))
    torch.testing.assert_close(
        attention(maps, MODALITIES), torch.stack(features), rtol=1e-4, atol=1e-4
    )


@pytest.mark.parametrize("frames", [1, 4])
def test_lstm_equals_its_gates_written_as_loops(frames):
    aggregate = awaken(TemporalLSTM(channels=8, dim=5, norm=own_norm()))
    maps = 20 + maps_of(frames=frames)
    clips = [
        [
            frame + aggregate.residual(hidden)
            for frame, hidden in zip(
                clip, lstm_by_hand(centered, *parameters_of(aggregate.lstm)), strict=True
            )
        ]
        for clip, centered in zip(*normalized(aggregate, maps), strict=True)
    ]
    torch.testing.assert_close(
        aggregate(maps, MODALITIES), mean_over_time(clips), rtol=1e-4, atol=1e-4
    )


def test_positions_are_sines_and_cosines_of_falling_frequency():
    code = sinusoids(50, 6, torch.device("cpu"))
    for t in (0, 1, 49):
        for i in range(3):
            angle = t / 10000 ** (2 * i / 6)
            assert code[t, 2 * i].item() == pytest.approx(math.sin(angle), abs=1e-5)
            assert code[t, 2 * i + 1].item() == pytest.approx(math.cos(angle), abs=1e-5)
    assert len(code.unique(dim=0)) == 50


def attend_by_hand(attention, tokens):
    """Multi-head self-attention over a list of vectors, query by query and head by head."""
    size = attention.embed_dim // attention.num_heads
    projected = [attention.in_proj_weight @ x + attention.in_proj_bias for x in tokens]
    results = []
    for query, _, _ in (x.chunk(3) for x in projected):
        heads = []
        for part in (slice(h * size, (h + 1) * size) for h in range(attention.num_heads)):
            shares = [(query[part] @ x.chunk(3)[1][part] / size**0.5).exp() for x in projected]
            heads.append(
                sum(s * x.chunk(3)[2][part] for s, x in zip(shares, projected, strict=True))
                / sum(shares)
            )
        results.append(attention.out_proj(torch.cat(heads)))
    return results


@pytest.mark.parametrize("frames", [1, 4])
def test_transformer_equals_its_layers_written_as_loops(frames):
    torch.manual_seed(0)
    part = TemporalTransformer(channels=8, dim=6, heads=3, layers=2, norm=own_norm())
    aggregate = awaken(part)
    maps = 20 + maps_of(frames=frames)
    *layers, last_norm = aggregate.encoder
    clips = []
    for clip, centered in zip(*normalized(aggregate, maps), strict=True):
        code = sinusoids(len(clip), 6, torch.device("cpu"))
        tokens = [aggregate.token(frame) + code[t] for t, frame in enumerate(centered)]
        for layer in layers:
            seen = attend_by_hand(layer.self_attn, [layer.norm1(x) for x in tokens])
            tokens = [x + y for x, y in zip(tokens, seen, strict=True)]
            tokens = [x + layer.linear2(layer.linear1(layer.norm2(x)).relu()) for x in tokens]
        clips.append(
            [x + aggregate.residual(last_norm(y)) for x, y in zip(clip, tokens, strict=True)]
        )
    expected = mean_over_time(clips)
    tolerance = {"rtol": 1e-4, "atol": 1e-4}
    torch.testing.assert_close(aggregate(maps, MODALITIES), expected, **tolerance)
    aggregate.encoder.eval()
    with torch.no_grad():  # torch takes another road here
        torch.testing.assert_close(aggregate(maps, MODALITIES), expected, **tolerance)


@pytest.mark.parametrize(("dim", "heads"), [(6, 4), (5, 1), (6, 0)])
def test_tokens_that_do_not_split_into_heads_and_sines_are_refused(dim, heads):
    with pytest.raises(InputError, match=f"TRANSFORMER.DIM: .* found {dim} with {heads} heads"):
        TemporalTransformer(channels=8, dim=dim, heads=heads, layers=1, norm=own_norm())


def test_a_transformer_without_layers_is_refused():
    with pytest.raises(InputError, match=r"TRANSFORMER.LAYERS: 0; expected 1 or more"):
        TemporalTransformer(small_cfg("MODEL.TEMPORAL.TRANSFORMER.LAYERS", 0))


@pytest.mark.parametrize("frames", [1, 2, 5])
def test_shift_equals_a_loop_over_frames_and_channels(frames):
    maps = maps_of(frames=frames)
    clips = [
        [
            torch.stack(
                [clip[max(t - 1, 0)][channel] for channel in (0, 1)]
                + [clip[min(t + 1, frames - 1)][channel] for channel in (2, 3)]
                + [clip[t][channel] for channel in (4, 5, 6, 7)]
            )
            for t in range(frames)
        ]
        for clip in frames_of(maps)
    ]
    torch.testing.assert_close(TemporalShift(channels=8, share=0.25)(maps), mean_over_time(clips))


def test_what_the_shift_changes_is_the_weight_of_the_ends():
    maps, shift = maps_of(frames=5), TemporalShift(channels=8, share=0.25)
    torch.testing.assert_close(shift(maps[:, [0, 2, 1, 3, 4]]), shift(maps))
    first, last = maps[:, 0].mean((2, 3)), maps[:, -1].mean((2, 3))
    change = (shift(maps) - TemporalMean()(maps)) * 5
    torch.testing.assert_close(change[:, :2], (first - last)[:, :2])
    torch.testing.assert_close(change[:, 2:4], (last - first)[:, 2:4])
    torch.testing.assert_close(change[:, 4:], torch.zeros(2, 4))


@pytest.mark.parametrize("share", [-0.1, 0.6])
def test_more_channels_than_there_are_cannot_be_shifted(share):
    with pytest.raises(InputError, match=f"SHIFT.SHARE: {share:g}; expected 0 to 0.5"):
        TemporalShift(small_cfg("MODEL.TEMPORAL.SHIFT.SHARE", share))
