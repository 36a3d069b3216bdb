import copy
import functools

import pytest
import torch
from fastreid.utils.events import EventStorage

from plugins.modeling.meta_arch import SADSTRM, VVIBaseline
from tests.helpers.small_models import copied, differing, small_batch, small_cfg, state

PLAIN = [
    "loss_cls",
    "loss_triplet",
    "loss_cross_modal_triplet",
    "loss_cls_relation",
    "loss_cross_modal_triplet_relation",
]


def built(*opts):
    torch.manual_seed(0)
    return SADSTRM(small_cfg(*opts))


@pytest.fixture
def model():
    return built()


def with_gradient(parameters):
    return {name for name, parameter in parameters if parameter.grad is not None}


def trained(model, adversary):
    return {
        name
        for name, parameter in model.named_parameters()
        if parameter.requires_grad and name.startswith("attack.") == adversary
    }


def test_without_a_turn_it_is_the_baseline(model):
    torch.manual_seed(0)
    baseline = VVIBaseline(small_cfg())
    ours, theirs = model(small_batch()), baseline(small_batch())
    assert ours.keys() == theirs.keys()
    for name in ours:
        assert torch.equal(ours[name], theirs[name])


def test_attack_turn_trains_the_adversary_and_nobody_else(model):
    losses = model(small_batch(), turn="attack")
    sum(losses.values()).backward()
    assert list(losses) == ["loss_conf", "loss_rev", "loss_mod", "loss_mod_classifier"]
    assert with_gradient(model.named_parameters()) == trained(model, adversary=True)
    assert all(p.grad.abs().sum() > 0 for p in model.attack.interference.parameters())


def test_attack_turn_changes_no_statistic_and_leaves_everything_trainable(model):
    before = state(model)
    trainable = [p.requires_grad for p in model.parameters()]
    model(small_batch(), turn="attack")
    assert differing(before, state(model)) == []
    assert [p.requires_grad for p in model.parameters()] == trainable
    model(small_batch())
    assert "backbone.trunk.layer4.1.bn2.num_batches_tracked" in differing(before, state(model))


@pytest.mark.slow
def test_defense_turn_trains_everybody_but_the_adversary(model):
    losses = model(small_batch(), turn="defense")
    sum(losses.values()).backward()
    assert list(losses) == [*PLAIN, *(f"{name}_attacked" for name in PLAIN), "loss_consistency"]
    assert with_gradient(model.named_parameters()) == trained(model, adversary=False)


def test_attacked_losses_alone_reach_the_stems(model):
    losses = model(small_batch(), turn="defense")
    losses["loss_cls_attacked"].backward()
    for stem in model.backbone.stems:
        assert stem.conv1.weight.grad.abs().sum() > 0


def test_defense_turn_records_the_statistics_of_the_clean_pass_only(model):
    plain = copy.deepcopy(model)
    plain(small_batch())
    model(small_batch(), turn="defense")
    assert differing(state(plain), state(model)) == []


@torch.no_grad()
def test_defense_losses_are_those_of_clean_and_attacked_clips(model):
    model.lambda_a, model.lambda_c = 0.5, 2.0
    batch = small_batch()
    losses = model(batch, turn="defense")
    modalities = batch["modalities"]
    maps = model.stem_maps(batch["images"], modalities)
    attacked_maps = maps + model.attack(maps, modalities.repeat_interleave(2))
    features = (model.extract(m, 2, modalities) for m in (maps, attacked_maps))
    clean, attacked = (model.heads(f, batch["targets"]) for f in features)
    expected = model.losses(clean, batch["targets"], modalities)
    for name, loss in model.losses(attacked, batch["targets"], modalities).items():
        expected[f"{name}_attacked"] = 0.5 * loss
    p, q = (x["pred_class_logits"].softmax(1) for x in (clean, attacked))
    expected["loss_consistency"] = 2 * (p * (p / q).log()).sum() / 8
    for name, loss in expected.items():
        torch.testing.assert_close(losses[name], loss, msg=name, rtol=1e-4, atol=1e-6)


@pytest.mark.slow
def test_attack_losses_improve_when_the_adversary_follows_them(model):
    batch = small_batch()
    optimizer = torch.optim.SGD(model.adversary_parameters(), lr=0.05, momentum=0.9)
    totals = []
    for _ in range(8):
        optimizer.zero_grad()
        total = sum(model(batch, turn="attack").values())
        total.backward()
        optimizer.step()
        totals.append(total.item())
    assert totals[-1] < totals[0]


def test_every_parameter_belongs_to_one_player(model):
    adversary = {id(p) for p in model.adversary_parameters()}
    defender = {id(p) for p in model.defender_parameters()}
    assert not adversary & defender
    assert adversary | defender == {id(p) for p in model.parameters()}


@pytest.mark.slow
def test_random_delta_has_no_attack_turn_and_defends_within_its_norm():
    model = built("MODEL.SELF_ATTACK.KIND", "random", "MODEL.SELF_ATTACK.EPS", 0.2)
    assert list(model.adversary_parameters()) == []
    assert model(small_batch(), turn="attack") == {}
    with EventStorage() as storage:
        losses = model(small_batch(), turn="defense")
    assert losses["loss_consistency"] > 0
    assert storage.latest()["self_attack/relative_norm"][0] == pytest.approx(0.2, rel=1e-4)


@pytest.fixture
def gradient():
    return built("MODEL.SELF_ATTACK.KIND", "gradient", "MODEL.SELF_ATTACK.EPS", 0.05)


@pytest.mark.slow
def test_gradient_delta_lowers_the_attackers_losses_more_than_noise_of_its_norm(gradient):
    batch = small_batch()
    images, labels = gradient.unpack_labeled(batch)
    with torch.no_grad():
        maps = gradient.stem_maps(images, labels.modalities)
        guides = gradient.labeled_outputs(maps, labels)["features"]

    def total(attacked_maps):
        return sum(gradient.attacker_losses(attacked_maps, guides, labels).values()).item()

    aim = functools.partial(gradient.attacker_losses, guides=guides, labels=labels)
    frames = labels.of_frames(labels.modalities)
    delta = gradient.attack(maps, frames, aim)
    noise = built("MODEL.SELF_ATTACK.KIND", "random", "MODEL.SELF_ATTACK.EPS", 0.05).attack
    controls = [total(maps + noise(maps, frames)) for _ in range(5)]
    assert total(maps + delta) < min(*controls, total(maps))


def test_gradient_attack_s_turn_trains_its_classifiers_on_clean_maps(gradient):
    batch, before = small_batch(), state(gradient)
    losses = gradient(batch, turn="attack")
    assert list(losses) == ["loss_mod_classifier"]
    assert differing(before, state(gradient)) == []
    sum(losses.values()).backward()
    assert with_gradient(gradient.named_parameters()) == trained(gradient, adversary=True)


@pytest.mark.slow
def test_gradient_attack_s_defense_trains_everybody_else_and_records_clean_statistics(gradient):
    plain = copy.deepcopy(gradient)
    plain(small_batch())
    losses = gradient(small_batch(), turn="defense")
    assert differing(state(plain), state(gradient)) == []
    sum(losses.values()).backward()
    assert with_gradient(gradient.named_parameters()) == trained(gradient, adversary=False)
    gradient.zero_grad()
    gradient(small_batch(), turn="defense")  # crafting leaves no gradient behind
    assert all(p.grad is None for p in gradient.parameters())


@pytest.mark.slow
def test_camera_loss_joins_when_it_is_weighted():
    model = built("MODEL.SELF_ATTACK.CAM_WEIGHT", 0.1, "MODEL.SELF_ATTACK.NUM_CAMERAS", 3)
    losses = model(small_batch(), turn="attack")
    pulls, classifiers = ["loss_mod", "loss_cam"], ["loss_mod_classifier", "loss_cam_classifier"]
    assert list(losses) == ["loss_conf", "loss_rev", *pulls, *classifiers]


@pytest.mark.slow
@torch.no_grad()
def test_evaluation_does_not_touch_the_attacker(model):
    model(small_batch())
    model.eval()
    before = model(small_batch())
    del model.attack
    assert torch.equal(model(small_batch()), before)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["learned", "gradient"])
@pytest.mark.parametrize("turn", ["attack", "defense"])
def test_turns_leave_the_batch_as_it_was(kind, turn):
    model = built("MODEL.SELF_ATTACK.KIND", kind)
    batch = small_batch()
    before = copied(batch)
    model(batch, turn=turn)
    assert batch["img_paths"] == before.pop("img_paths")
    assert differing(before, {key: batch[key] for key in before}) == []


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["learned", "gradient"])
@pytest.mark.parametrize("turn", ["attack", "defense"])
def test_turns_work_with_images_and_with_one_modality(kind, turn):
    model = built("MODEL.SELF_ATTACK.KIND", kind)
    batch = small_batch(frames=1)
    batch["images"] = batch["images"][:, 0]
    batch["modalities"] = torch.ones(8).long()
    losses = model(batch, turn=turn)
    sum(losses.values()).backward()
    assert all(loss.isfinite() for loss in losses.values())


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["learned", "gradient"])
@pytest.mark.parametrize("turn", ["attack", "defense"])
def test_turns_are_float32_and_finite_under_autocast(kind, turn):
    model = built("MODEL.SELF_ATTACK.KIND", kind)
    with torch.autocast("cpu", torch.bfloat16):
        losses = model(small_batch(), turn=turn)
    sum(losses.values()).backward()
    assert {loss.dtype for loss in losses.values()} == {torch.float32}
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)


def test_turns_are_for_training_and_have_two_names(model):
    with pytest.raises(AssertionError, match="found 'nap'"):
        model(small_batch(), turn="nap")
    with pytest.raises(AssertionError, match="evaluation has no attacker"):
        model.eval()(small_batch(), turn="attack")
