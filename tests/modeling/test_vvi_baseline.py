import pytest
import torch
import torch.nn.functional as F
from fastreid.utils.events import EventStorage

from plugins.errors import InputError
from plugins.modeling.meta_arch import VVIBaseline
from tests.helpers.small_models import copied, differing, small_batch, small_cfg, state


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    built = VVIBaseline(small_cfg())
    built(small_batch())  # statistics unlike the identity, unlike in the two stems
    return built


@torch.no_grad()
def features_of(model, batch):
    return model.eval()(batch)


def test_training_returns_each_configured_loss_by_name(model):
    losses = model.train()(small_batch())
    relation = ["loss_cls_relation", "loss_cross_modal_triplet_relation"]
    assert list(losses) == ["loss_cls", "loss_triplet", "loss_cross_modal_triplet", *relation]
    for loss in losses.values():
        assert loss.shape == ()
        assert loss.dtype == torch.float32
        assert loss.isfinite()


def test_losses_reach_every_trained_parameter(model):
    model.train().zero_grad()
    sum(model(small_batch()).values()).backward()
    silent = [n for n, p in model.named_parameters() if p.requires_grad and p.grad is None]
    assert silent == []


def test_evaluation_returns_unit_features(model):
    features = features_of(model, small_batch())
    assert features.shape == (8, 512 + 256)
    assert features.dtype == torch.float32
    torch.testing.assert_close(features.norm(dim=1), torch.ones(8))


@pytest.mark.parametrize("training", [True, False])
def test_the_batch_is_left_as_it_was(model, training):
    batch = small_batch()
    before = copied(batch)
    model.train(training)(batch)
    assert batch.keys() == before.keys()
    assert batch["img_paths"] == before["img_paths"]
    tensors = [key for key in batch if key != "img_paths"]
    assert differing({k: batch[k] for k in tensors}, {k: before[k] for k in tensors}) == []


def test_images_equal_clips_of_one_frame(model):
    clips = small_batch(frames=1)
    images = {**clips, "images": clips["images"][:, 0]}
    assert torch.equal(features_of(model, images), features_of(model, clips))


def test_a_clip_s_feature_depends_on_nothing_else_in_the_batch(model):
    batch = small_batch()
    together = features_of(model, batch)
    for row in range(8):
        alone = {key: value[row : row + 1] for key, value in batch.items()}
        torch.testing.assert_close(
            features_of(model, alone)[0], together[row], rtol=1e-3, atol=1e-5
        )


@pytest.mark.slow
def test_without_modalities_all_is_visible(model):
    batch = small_batch()
    untold = {"images": batch["images"]}
    visible = {"images": batch["images"], "modalities": torch.zeros(8).long()}
    infrared = {"images": batch["images"], "modalities": torch.ones(8).long()}
    assert torch.equal(features_of(model, untold), features_of(model, visible))
    assert not torch.allclose(features_of(model, untold), features_of(model, infrared))


def test_a_batch_of_one_modality_trains(model):
    batch = {**small_batch(), "modalities": torch.ones(8).long()}
    losses = model.train()(batch)
    assert losses["loss_cross_modal_triplet"].item() == 0
    assert all(loss.isfinite() for loss in losses.values())


def test_parts_give_what_the_whole_gives(model):
    batch = small_batch()
    whole = features_of(model, batch)
    with torch.no_grad():
        mean = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)
        std = torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)
        frames = ((batch["images"] / 255 - mean) / std).flatten(0, 1)
        maps = model.backbone(frames, batch["modalities"].repeat_interleave(2))
        clips = maps.unflatten(0, (8, 2))
        by_hand = model.heads(model.temporal(clips, batch["modalities"]))
    torch.testing.assert_close(whole, by_hand, rtol=1e-3, atol=1e-5)


def test_images_may_require_a_gradient_in_evaluation(model):
    batch = small_batch()
    batch["images"].requires_grad_()
    model.eval()(batch)[:, 0].sum().backward()
    assert batch["images"].grad.flatten(1).abs().sum(dim=1).gt(0).all()


def test_losses_are_float32_and_finite_under_autocast(model):
    with torch.autocast("cpu", torch.bfloat16):
        losses = model.train()(small_batch())
        features = model.eval()(small_batch())
    assert {loss.dtype for loss in losses.values()} == {torch.float32}
    assert all(loss.isfinite() for loss in losses.values())
    assert features.dtype == torch.float32


def test_losses_under_autocast_are_those_of_float32():
    distances = "('TripletLoss', 'CircleLoss', 'Cosface', 'CrossModalTriplet')"
    model = VVIBaseline(small_cfg("MODEL.LOSSES.NAME", distances))
    generator = torch.Generator().manual_seed(0)
    # Long and near each other, as before a BNNeck.
    features = 18 * F.normalize(1 + 0.02 * torch.randn(8, 512, generator=generator), dim=1)
    batch = small_batch()
    labels = batch["targets"], batch["modalities"]
    plain = model.losses({"features": features}, *labels)
    with torch.autocast("cpu", torch.bfloat16):
        assert model.losses({"features": features}, *labels) == plain


def test_accuracy_is_logged_only_where_a_trainer_keeps_a_log(model):
    batch = small_batch()
    with EventStorage() as storage:
        model.train()(batch)
        model.eval()(batch)
    accuracy, _ = storage.latest()["cls_accuracy"]
    assert accuracy * 8 == pytest.approx(round(accuracy * 8))
    assert len(storage.history("cls_accuracy").values()) == 1


def test_checkpoints_hold_weights_but_not_the_pixel_statistics(model):
    assert not any("pixel" in name for name in state(model))
    torch.manual_seed(9)
    other = VVIBaseline(small_cfg())
    other.load_state_dict(state(model))
    batch = small_batch()
    assert torch.equal(features_of(other, batch), features_of(model, batch))


@pytest.mark.slow
def test_parts_that_do_not_fit_clips_of_two_modalities_are_refused():
    with pytest.raises(InputError, match=r"BACKBONE.NAME: VVIBaseline needs a stem per modality"):
        VVIBaseline(small_cfg("MODEL.BACKBONE.NAME", "build_resnet_backbone"))
    with pytest.raises(InputError, match=r"HEADS.NAME: .* found EmbeddingHead, expected VideoHead"):
        VVIBaseline(small_cfg("MODEL.HEADS.NAME", "EmbeddingHead"))
    with pytest.raises(InputError, match=r"TEMPORAL.NAME: .* 'Stig'; known: STIG, Temporal"):
        VVIBaseline(small_cfg("MODEL.TEMPORAL.NAME", "Stig"))


def source_model(name="STIG", source="layer3", *opts):
    torch.manual_seed(0)
    cells = "MODEL.TEMPORAL.STIG.STRIPES", 2, "MODEL.TEMPORAL.STIG.COLUMNS", 2
    return VVIBaseline(
        small_cfg("MODEL.TEMPORAL.NAME", name, "MODEL.TEMPORAL.STIG.SOURCE", source, *cells, *opts)
    )


@pytest.mark.slow
@torch.no_grad()
@pytest.mark.parametrize("source", ["layer2", "layer3", "layer4"])
@pytest.mark.parametrize("name", ["STIG", "TemporalMean", "TemporalLSTM"])
@pytest.mark.parametrize("stage", ["layer1", "layer2", "layer3"])
def test_features_go_on_from_the_maps_after_any_stage(name, source, stage):
    model, batch = source_model(name, source), small_batch()
    model(batch)
    model.eval()
    modalities, following = batch["modalities"], f"layer{int(stage[-1]) + 1}"
    stem_maps = model.stem_maps(batch["images"], modalities)
    whole = model.extract(stem_maps, 2, modalities)
    stages = model.backbone.stage_maps(stem_maps, last=stage)
    torch.testing.assert_close(
        model.extract(stages[stage], 2, modalities, following, stages), whole
    )
    changed = stages[stage] + 1
    moved = model.extract(changed, 2, modalities, following, stages)
    relation_moved = not torch.allclose(moved[:, 512:], whole[:, 512:])
    assert not torch.allclose(moved[:, :512], whole[:, :512])
    # The cells of a stage before the change, and only they, are what they were.
    assert relation_moved == (name == "STIG" and source >= stage)


def test_a_part_that_normalizes_by_modality_asks_for_the_modalities(model):
    maps = torch.zeros(4, 64, 16, 8)
    with pytest.raises(AssertionError, match="STIG needs the modalities of the clips"):
        model.extract(maps, frames=2)
    averaging = VVIBaseline(small_cfg("MODEL.TEMPORAL.NAME", "TemporalMean"))
    assert averaging.extract(maps, frames=2).shape == (2, 512)


@pytest.mark.slow
def test_losses_of_the_relation_have_their_weight_and_train_it():
    losses = []
    for weight in (1.0, 0.25):
        model = source_model("STIG", "layer4", "MODEL.TEMPORAL.STIG.RELATION.WEIGHT", weight)
        losses.append(model(small_batch()))
    for name, loss in losses[0].items():
        scale = 0.25 if name.endswith("_relation") else 1.0
        torch.testing.assert_close(losses[1][name], scale * loss)
    losses[1]["loss_cls_relation"].backward()
    assert model.temporal.relation.weight.grad.abs().sum() > 0
    assert model.heads.relation.weight.grad.abs().sum() > 0
    assert model.backbone.stems[0].conv1.weight.grad.abs().sum() > 0
    assert model.heads.weight.grad is None


def test_without_a_relation_there_are_no_losses_of_one():
    model = source_model("STIG", "layer4", "MODEL.TEMPORAL.STIG.RELATION.DIM", 0)
    assert not any("relation" in name for name in model(small_batch()))
    assert not any("relation" in name for name in state(model))
    assert features_of(model, small_batch()).shape == (8, 512)


def test_the_relation_s_accuracy_is_logged(model):
    with EventStorage() as storage:
        model.train()(small_batch())
    accuracy, _ = storage.latest()["relation_accuracy"]
    assert accuracy * 8 == pytest.approx(round(accuracy * 8))


@pytest.mark.slow
def test_cross_modal_attention_leaves_the_relation_alone():
    model = source_model("STIG", "layer4", "MODEL.CROSS_MODAL_ATTENTION.ENABLED", True)
    torch.nn.init.normal_(model.cross_modal.residual.weight)
    batch = small_batch()
    features = model.clip_features(batch["images"], batch["modalities"])
    outputs = model.outputs(features, batch["targets"], batch["modalities"])
    torch.testing.assert_close(outputs["relation_features"], features[:, 512:])
    assert not torch.allclose(outputs["features"], features[:, :512])
