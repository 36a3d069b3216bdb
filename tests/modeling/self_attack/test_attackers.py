import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from plugins.errors import InputError
from plugins.modeling.losses.functional import confusion_loss
from plugins.modeling.self_attack import (
    GradientAttack,
    RandomAttack,
    SelfAttack,
    bounded,
    build_self_attack,
    channel_attention,
    relative_norm,
)
from plugins.modeling.self_attack.losses import other_class_loss
from tests.helpers.small_models import small_cfg


def maps_of(count=4, seed=0, channels=64):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, channels, 6, 3, generator=generator).relu()


MODALITIES = torch.tensor([0, 1, 1, 0])


@settings(max_examples=40, deadline=None)
@given(
    eps=st.floats(0, 2),
    seed=st.integers(0, 1000),
    sizes=st.lists(st.sampled_from([0.0, 1e-6, 1e-2, 1.0, 1e4]), min_size=3, max_size=3),
)
def test_budget_holds_per_frame_and_only_scales(eps, seed, sizes):
    maps = maps_of(3, seed)
    raw = maps_of(3, seed + 1) * torch.tensor(sizes).view(-1, 1, 1, 1)
    delta = bounded(raw, maps, eps)
    for wanted, found, base in zip(raw, delta, maps, strict=True):
        room = eps * base.norm()
        assert found.norm() <= room * (1 + 1e-5)
        if wanted.norm() <= room:
            torch.testing.assert_close(found, wanted)
        else:
            torch.testing.assert_close(found, wanted / wanted.norm() * room)


def test_no_perturbation_and_no_map_are_safe():
    raw = torch.zeros(2, 64, 6, 3, requires_grad=True)
    delta = bounded(raw, torch.stack([maps_of(1)[0], torch.zeros(64, 6, 3)]), 0.3)
    delta.sum().backward()
    assert torch.equal(delta, torch.zeros_like(delta))
    assert raw.grad.isfinite().all()


def test_relative_norm_is_the_mean_over_frames():
    maps = maps_of(2)
    delta = maps * torch.tensor([0.1, 0.3]).view(2, 1, 1, 1)
    assert relative_norm(delta, maps).item() == pytest.approx(0.2)


def slow_channel_attention(query, key, value, temperature):
    heads, (count, channels) = len(temperature), query.shape[:2]
    size = channels // heads
    out = torch.zeros_like(value)
    for n in range(count):
        for i in range(channels):
            head = i // size
            mates = range(head * size, (head + 1) * size)
            scores = []
            for j in mates:
                q, k = query[n, i].flatten(), key[n, j].flatten()
                scores.append((q @ k / (q.norm() * k.norm()) * temperature[head]).exp().item())
            for j, score in zip(mates, scores, strict=True):
                out[n, i] += score / sum(scores) * value[n, j]
    return out


def test_channel_attention_equals_a_loop_over_channels():
    query, key, value = (torch.randn(2, 8, 3, 2, dtype=torch.float64) for _ in range(3))
    temperature = torch.tensor([0.5, 1.0, 2.0, 7.0], dtype=torch.float64).view(4, 1, 1)
    # float32 cosines, hence the tolerance
    torch.testing.assert_close(
        channel_attention(query, key, value, temperature),
        slow_channel_attention(query, key, value, temperature),
        rtol=1e-5,
        atol=1e-6,
    )


@pytest.fixture(scope="module")
def attack():
    torch.manual_seed(0)
    return SelfAttack(small_cfg())


def test_attack_has_about_0_04_million_parameters(attack):
    norm, qkv, depthwise, mix, heads = 2 * 64, 64 * 192, 192 * 9, 64 * 64, 4
    by_hand = 2 * (norm + qkv + depthwise + mix + heads) + 64 * 2 + 2
    count = sum(parameter.numel() for parameter in attack.parameters())
    assert count == by_hand
    assert count == pytest.approx(0.04e6, rel=0.1)


@torch.no_grad()
@pytest.mark.parametrize("growth", [1, 100])
def test_learned_delta_stays_within_its_budget_and_is_not_nothing(attack, growth):
    grown, maps = copy.deepcopy(attack), maps_of()
    for part in grown.interference:
        part.mix.weight.mul_(growth)
    for delta, base in zip(grown(maps, MODALITIES), maps, strict=True):
        room = attack.eps * base.norm()
        assert 0 < delta.norm() <= room * (1 + 1e-5)
        if growth == 100:
            assert delta.norm() == pytest.approx(room.item(), rel=1e-5)


@torch.no_grad()
def test_each_frame_is_perturbed_by_its_modality_from_its_own_map_only(attack):
    maps = maps_of()
    delta = attack(maps, MODALITIES)
    for row, modality in enumerate(MODALITIES.tolist()):
        own = maps[row : row + 1]
        alone = bounded(attack.interference[modality](own), own, attack.eps)
        torch.testing.assert_close(delta[row : row + 1], alone)
    others = torch.cat([maps[:1], maps_of(3, seed=9)])
    torch.testing.assert_close(attack(others, MODALITIES)[0], delta[0])
    flipped = attack(maps, 1 - MODALITIES)
    assert not torch.allclose(flipped, delta)


def test_one_modality_alone_is_enough(attack):
    attack.zero_grad()
    attack(maps_of(), torch.ones(4).long()).square().sum().backward()
    assert all(p.grad is None for p in attack.interference[0].parameters())
    assert any(p.grad is not None for p in attack.interference[1].parameters())


def classifiers_of(attack, cameras):
    return [
        ("mod", 0.5, attack.modality_classifier, MODALITIES),
        ("cam", 0.1, attack.camera_classifier, cameras),
    ]


def test_interference_losses_are_the_odds_of_another_class():
    cfg = small_cfg("MODEL.SELF_ATTACK.CAM_WEIGHT", 0.1, "MODEL.SELF_ATTACK.NUM_CAMERAS", 3)
    attack, maps, cameras = SelfAttack(cfg), maps_of(), torch.tensor([2, 0, 1, 1])
    losses = attack.interference_losses(maps, MODALITIES, cameras)
    taught = attack.classifier_losses(maps, MODALITIES, cameras)
    pooled = maps.mean((2, 3))
    for key, weight, classifier, labels in classifiers_of(attack, cameras):
        own = classifier(pooled).softmax(1)[range(4), labels]
        expected = -weight * (1 - own).log().mean().item()
        assert losses[f"loss_{key}"].item() == pytest.approx(expected, rel=1e-5)
        expected = -weight * own.log().mean().item()
        assert taught[f"loss_{key}_classifier"].item() == pytest.approx(expected, rel=1e-5)


def test_the_classifiers_learn_from_clean_maps_alone_and_the_attack_from_attacked_ones():
    # Were they taught on attacked maps with the other class, they would learn to call it so.
    attack, maps = SelfAttack(small_cfg()), maps_of().requires_grad_(True)
    sum(attack.interference_losses(maps, MODALITIES, MODALITIES).values()).backward()
    assert maps.grad.any() and attack.modality_classifier.weight.grad is None
    sum(attack.classifier_losses(maps.detach(), MODALITIES, MODALITIES).values()).backward()
    assert attack.modality_classifier.weight.grad.any()


@given(st.lists(st.floats(-30, 30), min_size=2, max_size=5), st.data())
def test_other_class_loss_equals_the_sum_of_the_other_probabilities(logits, data):
    label = data.draw(st.integers(0, len(logits) - 1))
    row = torch.tensor([logits], dtype=torch.float64)
    others = sum(p for k, p in enumerate(row.softmax(1)[0]) if k != label)
    found = other_class_loss(row, torch.tensor([label]))
    torch.testing.assert_close(found, -others.log(), rtol=1e-6, atol=1e-9)


def test_l_mod_makes_infrared_maps_look_visible_and_visible_ones_infrared():
    """Maps whose modality shows in their channel means, as in real ones; a classifier of them."""
    generator = torch.Generator().manual_seed(0)
    modalities = torch.arange(2).repeat(8)
    tint = torch.randn(64, generator=generator).mul(0.3).view(64, 1, 1)
    maps = (maps_of(16) + 2 + torch.where(modalities.view(-1, 1, 1, 1) == 1, tint, -tint)).relu()
    attack = GradientAttack(small_cfg("MODEL.SELF_ATTACK.EPS", 0.1))
    optimizer = torch.optim.Adam(attack.parameters(), lr=0.02)
    for _ in range(60):
        optimizer.zero_grad()
        sum(attack.classifier_losses(maps, modalities, modalities).values()).backward()
        optimizer.step()

    def looks_other(x):
        seen = attack.modality_classifier(x.mean((2, 3))).softmax(1)
        return seen[range(16), 1 - modalities]

    delta = attack(maps, modalities, lambda x: attack.interference_losses(x, modalities, None))
    assert looks_other(maps).max() < 0.5, "the classifier tells the modalities apart"
    assert (looks_other(maps + delta) > looks_other(maps)).all()


def test_without_camera_weight_there_is_no_camera_loss(attack):
    losses = attack.interference_losses(maps_of(), MODALITIES, MODALITIES)
    assert list(losses) == ["loss_mod"]


def test_weights_scale_the_losses_against_the_reid_network():
    outputs = {"pred_class_logits": torch.randn(4, 4), "features": torch.randn(4, 5)}
    guides, targets = torch.randn(4, 5), torch.tensor([0, 0, 1, 1])
    cfg = small_cfg("MODEL.SELF_ATTACK.CONF_WEIGHT", 2.0, "MODEL.SELF_ATTACK.REV_WEIGHT", 0.0)
    losses = SelfAttack(cfg).reid_losses(outputs, guides, targets)
    torch.testing.assert_close(
        losses["loss_conf"], 2 * confusion_loss(outputs["pred_class_logits"], 4.0)
    )
    assert losses["loss_rev"].item() == 0


def test_random_delta_has_exactly_the_largest_norm_and_nothing_to_train():
    attack = RandomAttack(small_cfg("MODEL.SELF_ATTACK.EPS", 0.2))
    maps = maps_of()
    delta = attack(maps, MODALITIES, generator=torch.Generator().manual_seed(3))
    shares = delta.flatten(1).norm(dim=1) / maps.flatten(1).norm(dim=1)
    torch.testing.assert_close(shares, torch.full((4,), 0.2))
    again = attack(maps, MODALITIES, generator=torch.Generator().manual_seed(3))
    assert torch.equal(delta, again)
    other = attack(maps, MODALITIES, generator=torch.Generator().manual_seed(4))
    assert not torch.equal(delta, other)
    assert list(attack.parameters()) == []


@pytest.mark.parametrize("grad", [True, False])
def test_gradient_delta_is_the_steepest_descent_of_its_losses_with_the_largest_norm(grad):
    attack = GradientAttack(small_cfg("MODEL.SELF_ATTACK.EPS", 0.05))
    maps, weights = maps_of(), maps_of(seed=1)
    with torch.set_grad_enabled(grad):
        # By hand: the gradient of sum w x + sum x^2 / 2 is w + x.
        delta = attack(
            maps, MODALITIES, lambda x: {"a": (weights * x).sum(), "b": x.square().sum() / 2}
        )
    assert not delta.requires_grad
    down = -(weights + maps).flatten(1)
    shares = delta.flatten(1).norm(dim=1) / maps.flatten(1).norm(dim=1)
    torch.testing.assert_close(shares, torch.full((4,), 0.05))
    cosines = torch.cosine_similarity(delta.flatten(1), down)
    torch.testing.assert_close(cosines, torch.ones(4))


def test_gradient_delta_of_a_map_that_no_loss_reads_is_zero():
    maps = maps_of()
    attack = GradientAttack(small_cfg())
    delta = attack(maps, MODALITIES, lambda x: {"first": x[0].square().sum()})
    assert delta[0].any() and not delta[1:].any()


def test_gradient_attack_learns_its_classifiers_alone():
    attack = GradientAttack(small_cfg())
    assert {name.split(".")[0] for name, _ in attack.named_parameters()} == {"modality_classifier"}


def test_kind_names_the_attacker():
    assert isinstance(build_self_attack(small_cfg()), SelfAttack)
    for kind, cls in (("gradient", GradientAttack), ("random", RandomAttack)):
        assert isinstance(build_self_attack(small_cfg("MODEL.SELF_ATTACK.KIND", kind)), cls)
    with pytest.raises(InputError, match=r"no kind 'noise'; known: learned, gradient, random"):
        build_self_attack(small_cfg("MODEL.SELF_ATTACK.KIND", "noise"))


@pytest.mark.parametrize("heads", [3, 128])
def test_heads_divide_the_channels(heads):
    with pytest.raises(InputError, match=f"HEADS: expected a divisor of 64, found {heads}"):
        SelfAttack(small_cfg("MODEL.SELF_ATTACK.HEADS", heads))


@pytest.mark.slow
def test_camera_loss_needs_the_number_of_cameras():
    for count in (0, 1):  # with one there is no other to look like
        cfg = small_cfg("MODEL.SELF_ATTACK.CAM_WEIGHT", 0.1, "MODEL.SELF_ATTACK.NUM_CAMERAS", count)
        with pytest.raises(InputError, match=rf"NUM_CAMERAS: CAM_WEIGHT 0.1 .*, found {count}"):
            SelfAttack(cfg)
