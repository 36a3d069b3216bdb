"""BNNeck and losses on frames, pooling over space and style variation, inside a model."""

import pytest
import torch
import torch.nn.functional as F
from fastreid.utils.events import EventStorage

from plugins.errors import InputError
from plugins.modeling.losses.alignment import cross_modal_alignment, separation
from plugins.modeling.meta_arch import SADSTRM, VVIBaseline
from plugins.modeling.pooling import build_pooling
from plugins.modeling.self_attack.losses import feature_distances
from plugins.modeling.style_variation import style_factors
from plugins.registry import TEMPORAL, known
from tests.helpers.small_models import awaken, differing, maps_of, small_batch, small_cfg, state

FRAME_LEVEL = ("MODEL.HEADS.NECK_LEVEL", "frame", "MODEL.HEADS.NECK_FEAT", "after")
RECIPE = (
    *FRAME_LEVEL,
    "MODEL.LOSSES.NAME", "('CrossEntropyLoss', 'CrossModalAlignment', 'FrameSeparation')",
    "MODEL.LOSSES.FRAMES.NAME", "['CrossEntropyLoss', 'CrossModalAlignment']",
)  # fmt: skip
MEANS = [name for name in known(TEMPORAL) if hasattr(TEMPORAL.get(name), "frame_features")]
CHANNELS = 32


def model_of(*opts, architecture=VVIBaseline, temporal="TemporalMean"):
    torch.manual_seed(0)
    return architecture(small_cfg("MODEL.TEMPORAL.NAME", temporal, *opts))


def part_of(name):
    torch.manual_seed(0)
    return awaken(TEMPORAL.get(name)(small_cfg("MODEL.BACKBONE.FEAT_DIM", CHANNELS)))


def arguments_of(name, maps):
    modalities = torch.arange(len(maps)) % 2
    return (maps,) if name in ("TemporalMean", "TemporalShift") else (maps, modalities)


def test_the_parts_that_are_a_mean_over_the_frames_say_so():
    assert set(known(TEMPORAL)) - set(MEANS) == {"TemporalGeM", "TemporalMax"}


@pytest.mark.parametrize("name", MEANS)
@pytest.mark.parametrize("frames", [1, 4])
def test_a_clips_feature_is_the_mean_of_its_frames_vectors(name, frames):
    maps = maps_of(4, frames, CHANNELS).abs()
    part = part_of(name).eval()
    vectors = part.frame_features(*arguments_of(name, maps))
    feature = part(*arguments_of(name, maps))
    assert vectors.shape == (4, frames, feature.shape[1])
    torch.testing.assert_close(vectors.mean(dim=1), feature)


def head_of(*opts):
    model = model_of(*RECIPE, *opts)
    with torch.no_grad():
        model.heads.weight.normal_()
        model.heads.frame_weight.normal_()
    return model.heads


def frames_of(clips=8, frames=3, channels=512):
    """With a large common mean, as a trunk's last ReLU leaves it."""
    generator = torch.Generator().manual_seed(4)
    return 5 + torch.randn(clips, frames, channels, generator=generator)


TARGETS = torch.tensor([0, 1, 2, 3, 0, 1, 2, 3])


@pytest.mark.parametrize("side", ["before", "after"])
def test_the_neck_normalizes_frames_and_a_clip_is_their_mean_behind_it(side):
    head, frames = head_of("MODEL.HEADS.NECK_FEAT", side), frames_of()
    outputs = head(frames, TARGETS)
    # By hand, channel by channel.
    values = frames.flatten(0, 1).double()
    mean, variance = values.mean(dim=0), values.var(dim=0, unbiased=False)
    neck = ((frames - mean) / (variance + head.bottleneck[0].eps).sqrt()).float()
    told = {
        "pred_class_logits": neck.mean(dim=1) @ head.weight.T,
        "features": (neck if side == "after" else frames).mean(dim=1),
        "frame_pred_class_logits": neck @ head.frame_weight.T,
        "frame_features": neck if side == "after" else frames,
    }
    told |= {"cls_outputs": told["pred_class_logits"]}
    told |= {"frame_cls_outputs": told["frame_pred_class_logits"]}
    assert outputs.keys() == told.keys()
    for name, value in told.items():
        torch.testing.assert_close(outputs[name], value, rtol=1e-4, atol=1e-4)


def test_in_evaluation_the_mean_goes_through_the_neck_that_frames_trained():
    head, frames = head_of(), frames_of()
    head(frames, TARGETS)
    head.eval()
    neck = head.bottleneck[0]
    per_frame = neck(frames.flatten(0, 1)[..., None, None])[..., 0, 0].unflatten(0, (8, 3))
    expected = F.normalize(per_frame.mean(dim=1))
    torch.testing.assert_close(head(frames.mean(dim=1)), expected, rtol=1e-4, atol=1e-5)


def test_statistics_are_those_of_frames_which_vary_more_than_clips():
    frames, variances = frames_of(), {}
    for level in ("clip", "frame"):
        head = model_of("MODEL.HEADS.NECK_LEVEL", level).heads
        for _ in range(60):
            head(frames if level == "frame" else frames.mean(dim=1), TARGETS)
        variances[level] = head.bottleneck[0].running_var
    torch.testing.assert_close(
        variances["frame"], frames.flatten(0, 1).var(dim=0), rtol=0.02, atol=0
    )
    assert (variances["clip"] < 0.8 * variances["frame"]).float().mean() > 0.9


def test_margin_classifiers_mark_the_target_of_every_frame():
    head = head_of(
        "MODEL.HEADS.CLS_LAYER", "CosSoftmax", "MODEL.HEADS.SCALE", 8, "MODEL.HEADS.MARGIN", 0.25
    )
    outputs = head(frames_of(), TARGETS)
    margins = outputs["frame_pred_class_logits"] - outputs["frame_cls_outputs"]
    marks = 8 * 0.25 * F.one_hot(TARGETS, 4).float()[:, None].expand(8, 3, 4)
    torch.testing.assert_close(margins, marks)


@pytest.mark.slow
@pytest.mark.parametrize("architecture", [VVIBaseline, SADSTRM])
@pytest.mark.parametrize("temporal", MEANS)
def test_losses_of_clips_and_of_frames_reach_every_parameter(architecture, temporal):
    model = model_of(*RECIPE, architecture=architecture, temporal=temporal)
    awaken(model.temporal)
    losses = model(small_batch(frames=3))
    sum(losses.values()).backward()
    expected = ["loss_cls", "loss_cross_modal_alignment", "loss_frame_separation"]
    relation = ["loss_cls_relation", "loss_cross_modal_triplet_relation"]
    expected += relation if temporal == "STIG" else []
    assert list(losses) == [*expected, "loss_cls_frames", "loss_cross_modal_alignment_frames"]
    assert all(loss.isfinite() for loss in losses.values())
    silent = [n for n, p in model.named_parameters() if p.requires_grad and p.grad is None]
    assert [name for name in silent if not name.startswith("attack.")] == []


def test_losses_of_frames_are_those_of_a_batch_of_frames_and_weighted():
    batch = small_batch(frames=3)
    model = model_of(*RECIPE, "MODEL.LOSSES.FRAMES.WEIGHT", 0.5)
    outputs = {}
    model.heads.register_forward_hook(lambda _, __, out: outputs.update(out))
    losses = model(batch)
    vectors = outputs["frame_features"]
    labels = [batch[key].repeat_interleave(3) for key in ("targets", "modalities")]
    torch.testing.assert_close(
        losses["loss_cross_modal_alignment_frames"],
        0.5 * cross_modal_alignment(vectors.flatten(0, 1), *labels),
    )
    logits = outputs["frame_cls_outputs"].flatten(0, 1)
    torch.testing.assert_close(
        losses["loss_cls_frames"], 0.5 * F.cross_entropy(logits, labels[0]), rtol=1e-3, atol=1e-3
    )
    torch.testing.assert_close(losses["loss_frame_separation"], separation(vectors))


def test_the_accuracy_of_frames_is_logged():
    with EventStorage() as storage:
        model_of(*RECIPE)(small_batch(frames=3))
    accuracy, _ = storage.latest()["frame_accuracy"]
    assert accuracy * 24 == pytest.approx(round(accuracy * 24))


def test_losses_under_autocast_are_float32_and_finite():
    model = model_of(*RECIPE, temporal="STIG")
    with torch.autocast("cpu", torch.bfloat16):
        losses = model(small_batch())
    assert {loss.dtype for loss in losses.values()} == {torch.float32}
    assert all(loss.isfinite() for loss in losses.values())


def test_a_self_attack_moves_clips_not_frames_apart():
    clean, attacked = frames_of(), frames_of() + frames_of()[:, :1]
    torch.testing.assert_close(
        feature_distances(clean, attacked),
        feature_distances(clean.mean(dim=1), attacked.mean(dim=1)),
    )
    swapped = clean.flip(dims=[1])
    assert feature_distances(clean, swapped).max() < 1e-4


@pytest.mark.slow
def test_both_turns_of_sadstrm_take_frames():
    model, batch = model_of(*RECIPE, architecture=SADSTRM, temporal="STIG"), small_batch()
    with EventStorage():
        assert all(loss.isfinite() for loss in model(batch, turn="attack").values())
        defended = model(batch, turn="defense")
    assert all(loss.isfinite() for loss in defended.values())
    assert {"loss_cls_frames", "loss_cls_frames_attacked"} <= defended.keys()


def test_a_model_without_frames_has_the_weights_that_it_had():
    plain, framed = model_of().state_dict(), model_of(*RECIPE).state_dict()
    assert framed.keys() - plain.keys() == {"heads.frame_weight"}
    assert differing(plain, {name: framed[name] for name in plain}) == []


REFUSED = [
    (
        FRAME_LEVEL,
        "TemporalMax",
        "frame, but TemporalMax is no mean over the frames; expected clip",
    ),
    (
        (*FRAME_LEVEL, "MODEL.CROSS_MODAL_ATTENTION.ENABLED", True),
        "TemporalMean",
        "frame, but MODEL.CROSS_MODAL_ATTENTION relates clips",
    ),
    (
        ("MODEL.LOSSES.NAME", "('FrameSeparation',)"),
        "TemporalMean",
        "clip, but FrameSeparation needs frames; expected frame",
    ),
    (
        ("MODEL.LOSSES.FRAMES.NAME", "['TripletLoss']"),
        "TemporalMean",
        r"clip, but TripletLoss of MODEL\.LOSSES\.FRAMES needs frames; expected frame",
    ),
]


@pytest.mark.parametrize(("opts", "temporal", "message"), REFUSED)
def test_parts_that_disagree_about_frames_are_refused(opts, temporal, message):
    with pytest.raises(InputError, match=rf"^MODEL\.HEADS\.NECK_LEVEL: {message}"):
        model_of(*opts, temporal=temporal)


def test_an_unknown_loss_of_frames_is_refused_by_its_own_key():
    with pytest.raises(InputError, match=r"^MODEL\.LOSSES\.FRAMES\.NAME: .*'TripleLoss'; known"):
        model_of(*FRAME_LEVEL, "MODEL.LOSSES.FRAMES.NAME", "['TripleLoss']")


def eval_features(model, batch):
    with torch.no_grad():
        return model.eval()(batch)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["gem", "max"])
@pytest.mark.parametrize("temporal", known(TEMPORAL))
def test_every_temporal_part_gets_what_the_pooling_makes_of_a_frame(temporal, kind):
    opts = ("MODEL.SPATIAL_POOLING.KIND", kind)
    model, batch = model_of(*opts, temporal=temporal), small_batch(frames=3)
    awaken(model.temporal)
    model(batch)
    found = eval_features(model, batch)
    modalities = batch["modalities"]
    with torch.no_grad():
        normalized = (batch["images"] - model.pixel_mean) / model.pixel_std
        maps = model.backbone(normalized.flatten(0, 1), modalities.repeat_interleave(3))
        maps = maps.unflatten(0, (8, 3))
        flat = torch.stack(  # a map that is the pooled value everywhere
            [
                pooled[..., None, None].expand_as(frame)
                for pooled, frame in zip(build_pooling(small_cfg(*opts))(maps), maps, strict=True)
            ]
        )
        plain = temporal in ("TemporalMean", "TemporalMax", "TemporalGeM", "TemporalShift")
        by_hand = model.temporal(flat) if plain else model.temporal(flat, modalities, maps)
        torch.testing.assert_close(found, model.heads(by_hand), rtol=1e-3, atol=1e-4)
    assert not torch.allclose(found, eval_features(model_of(temporal=temporal), batch), atol=1e-3)


@pytest.mark.slow
def test_gem_learns_its_p_and_the_mean_has_nothing_to_learn():
    model = model_of("MODEL.SPATIAL_POOLING.KIND", "gem")
    sum(model(small_batch()).values()).backward()
    assert model.pooling.p.grad.abs() > 0
    assert state(model).keys() - state(model_of()).keys() == {"pooling.p"}
    assert model_of().pooling is None


@pytest.mark.slow
def test_style_variation_acts_behind_the_normalization_in_training_alone():
    model, batch = model_of("INPUT.STYLE_VARIATION.ENABLED", True), small_batch()
    seen = []
    model.backbone.stems[0].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    for training in (True, False):
        torch.manual_seed(5)
        model.train(training).stem_maps(batch["images"], batch["modalities"])
    torch.manual_seed(5)
    factors = style_factors(batch["modalities"], 0.5, 1.5)[:4]  # of the visible clips
    normalized = ((batch["images"] - model.pixel_mean) / model.pixel_std)[:4]
    varied = normalized * factors[:, None, :, None, None]
    torch.testing.assert_close(seen[0], varied.flatten(0, 1))
    assert torch.equal(seen[1], normalized.flatten(0, 1))
    assert model_of().style_variation is None
