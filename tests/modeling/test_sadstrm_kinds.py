"""The kinds of self-attack in the network that trains against them."""

import copy
import functools

import pytest
import torch
from fastreid.utils.events import EventStorage
from torch.nn.modules.batchnorm import _BatchNorm

from plugins.modeling.batch_statistics import BatchStatistics
from plugins.modeling.losses.functional import pairwise_distances
from plugins.modeling.meta_arch import SADSTRM
from plugins.modeling.self_attack import ATTACKERS, CleanPass, Passes, StageAttack
from plugins.modeling.self_attack.base import map_gradient
from plugins.modeling.self_attack.channel_statistics import clip_statistics, restyle
from plugins.modeling.self_attack.partners import partner_candidates
from plugins.modeling.self_attack.style_worst import partner_changes
from tests.helpers.small_models import (
    differing,
    rendered_batch,
    small_batch,
    small_cfg,
    state,
)

pytestmark = pytest.mark.slow

OURS = ["style", "style_worst", "statistics", "background"]
PREFIX = "self_attack/"


def built(kind, temporal="TemporalMean", **settings):
    """A model whose ``MODEL.SELF_ATTACK`` has the settings."""
    settings = {"KIND": kind, "EPS": 0.5, **settings}
    keys = [word for key in settings for word in (f"MODEL.SELF_ATTACK.{key}", settings[key])]
    torch.manual_seed(0)
    return SADSTRM(small_cfg("MODEL.TEMPORAL.NAME", temporal, *keys))


def turn(model, batch, name="defense", seed=0):
    """Losses of a turn, and what it logs."""
    torch.manual_seed(seed)
    with EventStorage() as storage:
        losses = model(batch, turn=name)
    return losses, {key: value for key, (value, _) in storage.latest().items()}


def rows(batch, kept):
    return {k: v[kept] if torch.is_tensor(v) else v for k, v in batch.items()}


@pytest.mark.parametrize("kind", ATTACKERS)
def test_a_batch_costs_the_passes_that_the_kind_states(kind):
    model, counts = built(kind, EPS=0.1), dict.fromkeys(Passes._fields, 0)

    def count(name, *_):
        counts[name] += 1

    stem, top = model.backbone.stems[0].conv1, model.backbone.trunk.layer4[1].conv2
    for part, layer in (("lower", stem), ("upper", top)):
        layer.register_forward_hook(functools.partial(count, f"{part}_forward"))
        layer.register_full_backward_hook(functools.partial(count, f"{part}_backward"))
    for name in ("attack", "defense"):
        losses = model(small_batch(), turn=name)
        if losses:
            sum(losses.values()).backward()
    assert Passes(**counts) == model.attack.passes


@pytest.mark.parametrize("kind", OURS)
def test_the_attacker_has_no_turn_and_the_defender_trains_all_but_it(kind):
    model = built(kind)
    assert list(model.adversary_parameters()) == []
    assert model(small_batch(), turn="attack") == {}
    plain = copy.deepcopy(model)
    plain(small_batch())
    losses, _ = turn(model, small_batch())
    assert differing(state(plain), state(model)) == [], "statistics of the clean pass only"
    assert all(norm.training for norm in model.modules())
    trainable = {name for name, p in model.named_parameters() if p.requires_grad}
    sum(losses.values()).backward()
    assert {name for name, p in model.named_parameters() if p.grad is not None} == trainable
    assert all(loss.isfinite() for loss in losses.values())


@pytest.mark.parametrize("kind", OURS)
def test_attacked_losses_alone_reach_the_stems(kind):
    model = built(kind)
    losses, _ = turn(model, small_batch())
    losses["loss_cls_attacked"].backward()
    assert all(stem.conv1.weight.grad.any() for stem in model.backbone.stems)


def keep_input_statistics(norm, inputs):
    values = inputs[0].transpose(0, 1).flatten(1)
    norm.momentum = 0.0
    norm.running_mean.copy_(values.mean(dim=1))
    norm.running_var.copy_(values.var(dim=1, correction=0))


@torch.no_grad()
@pytest.mark.parametrize("after", ["layer1", "layer3"])
def test_defense_losses_are_those_of_clean_and_attacked_clips(after):
    model = built("style", AFTER=after, LAMBDA_D=0.25)
    model.lambda_a, model.lambda_c = 0.5, 2.0
    batch = rendered_batch()
    losses, _ = turn(model, batch)

    # Slowly: the network cut open by hand, and for the attacked pass in evaluation mode, with what
    # its BatchNorms saw in the clean one as their recorded statistics.
    images, labels = model.unpack_labeled(batch)
    targets, modalities = labels.targets, labels.modalities
    stages = model.backbone.stage_maps(model.stem_maps(images, modalities))
    torch.manual_seed(0)
    attacked_maps = model.attack(CleanPass(stages[after], labels), None)
    assert not torch.equal(attacked_maps, stages[after])

    def run(network, maps):
        following = f"layer{int(after[-1]) + 1}"
        top = network.backbone.stage_maps(maps, first=following)["layer4"]
        features = top.unflatten(0, (16, 3)).mean(dim=(1, 3, 4))
        return features, network.heads(features, targets)

    clean, outputs = run(model, stages[after])
    frozen = copy.deepcopy(model)
    norms = [part for part in frozen.modules() if isinstance(part, _BatchNorm)]
    hooks = [norm.register_forward_pre_hook(keep_input_statistics) for norm in norms]
    run(frozen, stages[after])
    for norm, hook in zip(norms, hooks, strict=True):
        hook.remove()
        norm.eval()
    attacked, attacked_outputs = run(frozen, attacked_maps)
    judged = outputs, attacked_outputs

    expected = model.losses(judged[0], targets, modalities)
    for name, loss in model.losses(judged[1], targets, modalities).items():
        expected[f"{name}_attacked"] = 0.5 * loss
    p, q = (x["pred_class_logits"].softmax(1) for x in judged)
    expected["loss_consistency"] = 2 * (p * (p / q).log()).sum() / 16
    expected["loss_feature_distance"] = 0.25 * (clean - attacked).square().sum(1).sqrt().mean()
    assert losses.keys() == expected.keys()
    for name, loss in expected.items():
        torch.testing.assert_close(losses[name], loss, msg=name, rtol=1e-3, atol=1e-5)


def test_the_distance_of_features_is_a_loss_by_weight_whose_gradient_is_0_where_they_are_equal():
    assert "loss_feature_distance" not in turn(built("style"), small_batch())[0]
    losses, logged = turn(built("style", LAMBDA_D=0.5), small_batch())
    assert losses["loss_feature_distance"].item() == pytest.approx(
        0.5 * logged[PREFIX + "feature_distance"]
    )
    model = built("style", LAMBDA_D=0.5, EPS=0.0)
    losses, _ = turn(model, small_batch())
    losses["loss_feature_distance"].backward()
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)


@pytest.mark.parametrize("kind", OURS)
def test_a_budget_of_0_gives_two_equal_clean_passes(kind):
    _, logged = turn(built(kind, EPS=0.0), rendered_batch())
    assert logged[PREFIX + "attacked_clips"] == logged[PREFIX + "success"] == 0
    assert logged[PREFIX + "feature_distance"] < 1e-3
    assert logged[PREFIX + "feature_distance_eval"] == 0


class SharedShift(StageAttack):
    """Moves all clips alike, which the BatchNorm of the attacked batch takes away."""

    def __init__(self, after):
        torch.nn.Module.__init__(self)
        self.after = after

    def forward(self, clean, losses, generator=None):
        offsets = torch.rand(clean.maps.shape[1], generator=torch.Generator().manual_seed(0))
        return clean.maps + offsets[:, None, None]


def test_what_all_clips_share_arrives_at_the_feature_only_by_clean_statistics():
    distances = {}
    for normalization in ("attacked", "clean"):
        model = built("style", NORMALIZATION=normalization)
        assert model.normalization == normalization
        model.attack = SharedShift("layer2")
        _, logged = turn(model, rendered_batch())
        distances[normalization] = logged[PREFIX + "feature_distance"]
        assert logged[PREFIX + "feature_distance_eval"] > 1
    # What is left of it comes from the borders, where convolutions see zeros.
    assert distances["clean"] > 4 * distances["attacked"]


@pytest.mark.parametrize("kind", ["learned", "gradient", "random"])
def test_attacks_on_the_stem_are_normalized_by_themselves_unless_it_is_asked_for(kind):
    assert built(kind).normalization == "attacked"
    model = built(kind, NORMALIZATION="clean", EPS=0.1)
    for name in ("attack", "defense"):
        before = state(model)
        losses, _ = turn(model, small_batch(), name)
        assert all(loss.isfinite() for loss in losses.values())
        if name == "attack":
            assert differing(before, state(model)) == []


@pytest.mark.parametrize("kind", ["style", "gradient"])
def test_the_strength_is_logged_in_both_modes_of_batch_normalization(kind):
    model, batch = built(kind, EPS=0.1), rendered_batch()
    seen = []
    forward = model.attack.attacked_maps

    def kept(clean, losses):
        seen.extend((clean, forward(clean, losses).detach()))
        return seen[1]

    model.attack.attacked_maps = kept
    modes = [part.training for part in model.modules()]
    _, logged = turn(model, batch)
    assert [part.training for part in model.modules()] == modes
    del model.attack.attacked_maps

    # The statistics at that moment: of the first clean pass.
    frozen = copy.deepcopy(model).eval()
    clean, attacked = seen
    first = "layer1" if kind == "gradient" else "layer3"
    with torch.no_grad():
        features = [
            frozen.backbone.stage_maps(maps, first=first)["layer4"]
            .unflatten(0, (16, 3))
            .mean((1, 3, 4))
            for maps in (clean.maps, attacked)
        ]
    expected = (features[0] - features[1]).norm(dim=1).mean().item()
    assert logged[PREFIX + "feature_distance_eval"] == pytest.approx(expected, rel=1e-4)
    assert logged[PREFIX + "feature_distance"] > 0


def test_the_measurement_in_evaluation_mode_comes_every_period_and_only_then():
    model, batch = built("style", STRENGTH_PERIOD=3), small_batch()
    measured = []
    with EventStorage() as storage:
        for iteration in range(5):
            storage.iter = iteration
            model(batch, turn="defense")
            _, last = storage.latest()[PREFIX + "feature_distance_eval"]
            measured.append(last)
    assert measured == [0, 0, 0, 3, 3]
    _, logged = turn(built("style", STRENGTH_PERIOD=0), batch)
    assert PREFIX + "feature_distance_eval" not in logged
    assert PREFIX + "feature_distance" in logged


@pytest.mark.parametrize("after", ["layer1", "layer2", "layer3"])
@pytest.mark.parametrize("partner", ["same_person", "other_person"])
def test_the_worst_partner_is_that_of_the_exhaustive_choice_on_8_clips(after, partner):
    """Each clip towards each partner, one at a time, a small step: whose L_rev is lowest?"""
    # A margin at which no hinge is at rest.
    model = built("style_worst", AFTER=after, PARTNER=partner, MARGIN=12.0)
    batch = rows(rendered_batch(), torch.tensor([0, 1, 2, 3, 8, 9, 10, 11]))
    images, labels = model.unpack_labeled(batch)
    statistics = BatchStatistics(model)
    with torch.no_grad(), statistics.recorded():
        below = model.run_below(images, labels)
        guides = model.labeled_outputs(below.maps, labels, below)["features"]

    def losses(maps):
        return model.attacker_losses(maps, guides, labels, below, statistics)

    own = clip_statistics(below.maps, 3)
    candidates, step = partner_candidates(labels, partner), 0.002
    measured = torch.full((8, 8), torch.inf)
    with torch.no_grad():
        before = losses(below.maps)["loss_rev"]
        for clip, other in candidates.nonzero().tolist():
            share = torch.zeros(8).index_fill(0, torch.tensor(clip), step)
            wanted = own.mixed(own.of(torch.full((8,), other)), share)
            after_step = losses(restyle(below.maps, 3, own, wanted))["loss_rev"]
            measured[clip, other] = (after_step - before) / step
    predicted = partner_changes(map_gradient(below.maps, losses), below.maps, 3, own)
    predicted = predicted.masked_fill(~candidates, torch.inf)
    assert (measured.isfinite().sum(dim=1) > 1).all()
    best = measured.gather(1, predicted.argmin(dim=1, keepdim=True)).squeeze(1)
    spread = measured[candidates].std()
    torch.testing.assert_close(best, measured.amin(dim=1), rtol=0, atol=0.02 * spread.item())


def test_a_batch_without_partners_is_not_attacked_and_trains_all_the_same(caplog):
    batch = rows(rendered_batch(), torch.arange(0, 16, 4))  # one clip of two people, and of two
    batch["targets"] = torch.arange(4)
    model = built("style")
    losses, logged = turn(model, batch)
    assert logged[PREFIX + "attacked_clips"] == logged[PREFIX + "relative_norm"] == 0
    assert logged[PREFIX + "feature_distance"] < 1e-3
    assert "no clip of a batch has a partner" in caplog.text
    torch.testing.assert_close(losses["loss_cls_attacked"], losses["loss_cls"])
    sum(losses.values()).backward()
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)


@pytest.mark.parametrize("kind", OURS)
@pytest.mark.parametrize("temporal", ["TemporalMean", "STIG"])
def test_a_batch_of_one_modality_and_of_images_is_attacked(kind, temporal):
    batch = rows(rendered_batch(), torch.arange(8, 16))  # infrared, two cameras
    batch["images"] = batch["images"][:, 0]
    losses, logged = turn(built(kind, temporal, PARTNER="other_person"), batch)
    assert logged[PREFIX + "attacked_clips"] > 0
    assert logged[PREFIX + "feature_distance"] > 0
    sum(losses.values()).backward()
    assert all(loss.isfinite() for loss in losses.values())


@pytest.mark.parametrize("kind", OURS)
def test_turns_are_float32_and_finite_under_autocast(kind):
    model = built(kind, LAMBDA_D=1.0)
    with torch.autocast("cpu", torch.bfloat16):
        losses, logged = turn(model, small_batch())
    assert {loss.dtype for loss in losses.values()} == {torch.float32}
    sum(losses.values()).backward()
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)
    assert logged[PREFIX + "feature_distance"] > 0


@pytest.mark.parametrize("kind", OURS)
def test_one_seed_one_attack(kind):
    model, batch = built(kind), small_batch()
    first, second, other = (turn(model, batch, seed=seed)[0] for seed in (1, 1, 2))
    assert all(torch.equal(first[name], second[name]) for name in first)
    if kind == "style":
        assert not torch.equal(first["loss_cls_attacked"], other["loss_cls_attacked"])


@pytest.fixture(scope="module")
def fitted():
    """State of a network whose classifier has just learned the rendered batch."""
    model, batch = built("style"), rendered_batch()
    images, labels = model.unpack_labeled(batch)
    with torch.no_grad():
        maps = model.stem_maps(images, labels.modalities)
        features = model.features_above(maps, labels)
    neck = torch.nn.functional.batch_norm(features, None, None, training=True)
    optimizer = torch.optim.Adam([model.heads.weight], lr=0.002)
    for _ in range(100):
        logits = neck @ model.heads.weight.T
        if (logits.argmax(1) == labels.targets).all():
            break
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(logits, labels.targets).backward()
        optimizer.step()
    return model.state_dict(), features


def test_features_of_the_rendered_batch_share_a_mean_as_real_ones_do(fitted):
    _, features = fitted
    assert features.mean(dim=0).norm() > 0.95 * features.norm(dim=1).mean()


def across_modalities(features, batch):
    """Mean distance of one person's clips in the two modalities."""
    same = batch["targets"][:, None] == batch["targets"]
    other = batch["modalities"][:, None] != batch["modalities"]
    return pairwise_distances(features, features)[same & other].mean().item()


@pytest.mark.parametrize("partner", ["same_person", "other_person"])
@pytest.mark.parametrize(
    ("kind", "eps", "moved"),
    [
        ("style", 1.0, 0.2),
        ("style_worst", 1.0, 0.4),
        ("statistics", 3.0, 0.4),
        ("background", 0.5, 0.4),
    ],
)
def test_it_is_alive(fitted, kind, partner, eps, moved):
    """The attacked feature moves, as far as it should, by whom, and it costs answers."""
    weights, features = fitted
    batch, seen = rendered_batch(), []
    model = built(kind, PARTNER=partner, EPS=eps)
    model.load_state_dict(weights)
    model.heads.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].detach()))
    logs = []
    for seed in (0, 1):
        logs.append(turn(model, batch, seed=seed)[1])
    torch.testing.assert_close(seen[0], features, rtol=1e-3, atol=1e-3)
    distance = logs[0][PREFIX + "feature_distance"]
    assert distance == pytest.approx((seen[-1] - features).norm(dim=1).mean().item(), rel=0.5)
    assert distance > moved * across_modalities(features, batch)
    assert logs[0]["cls_accuracy"] == 1
    if kind in ("style", "background"):
        first, second = seen[1], seen[3]
        assert (first - second).norm(dim=1).mean() > 0.3 * distance, "the partner matters"
    if partner == "other_person":
        assert max(log[PREFIX + "success"] for log in logs) > 0
