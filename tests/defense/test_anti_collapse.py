"""ACT: who is paired with whom, that the attack brings them together, and what is trained."""

import copy

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from plugins.defense.inner_attack import Crafter
from plugins.defense.triplets import distance, mirrored_triplets, triplet_hinge
from plugins.errors import InputError
from plugins.modeling.freeze import frozen_parameters
from tests.helpers.defense_toys import (
    features_in_training,
    run,
    seeded,
    step_of,
    tiny,
    tiny_batch,
    tiny_cfg,
    unit,
)
from tests.helpers.small_models import differing, state

ACT = ("DEFENSE.INNER", "AntiCollapse")
TRAINED = (*ACT, "DEFENSE.TRIPLET_WEIGHT", 2.0, "DEFENSE.CLEAN_WEIGHT", 0.0)


@given(st.lists(st.integers(0, 4), min_size=1, max_size=12), st.integers(0, 99))
def test_a_clip_has_one_partner_of_another_person_both_ways_round(people, seed):
    pids = torch.tensor(people, dtype=torch.long)
    found = mirrored_triplets(pids, seeded(seed))
    assert found.shape[1:] == (3,) and found.dtype == torch.long
    partner = {}
    for anchor, positive, negative in found.tolist():
        assert people[anchor] == people[positive] != people[negative]
        assert anchor != positive and positive not in partner
        partner[positive] = negative
    for positive, negative in partner.items():
        assert partner.get(negative, positive) == positive
    counts = [people.count(person) for person in people]
    if min(counts) > 1 and 2 * max(counts) <= len(people):
        assert len(found) == len(people) // 2 * 2
    assert torch.equal(found, mirrored_triplets(pids, seeded(seed)))


@pytest.mark.parametrize("people", [[3], [3, 3, 3], [1, 2]])
def test_no_pair_or_no_mate_is_no_triplet(people):
    assert mirrored_triplets(torch.tensor(people, dtype=torch.long), seeded()).shape == (0, 3)


def test_partners_and_anchors_are_drawn():
    pids = torch.arange(4).repeat_interleave(3)
    draws = torch.stack([mirrored_triplets(pids, seeded(seed)) for seed in range(40)])
    of_first = draws[draws[:, :, 1] == 0]
    assert set(of_first[:, 2].tolist()) == set(range(3, 12))
    assert set(of_first[:, 0].tolist()) == {1, 2}


@pytest.mark.parametrize("shared", ["dense", "shared"])
def test_positive_and_negative_come_together_within_the_budget(shared):
    crafter, batch = crafter_of("ATTACK.FRAMES", shared), tiny_batch()
    attacked = crafter(batch, epoch=0, seed=1)
    moved = (attacked["images"] - batch["images"]).abs()
    assert 4 < moved.amax() <= 8 + 1e-4
    assert attacked["images"].min() >= 0 and attacked["images"].max() <= 255
    _, positives, negatives = attacked["triplets"].unbind(dim=1)
    assert len(positives) == 8
    gaps = []
    for images in (batch["images"], attacked["images"]):
        features = unit(crafter.adapter({**batch, "images": images}))
        gaps.append((features[positives] - features[negatives]).norm(dim=1))
    assert (gaps[1] < 0.8 * gaps[0]).all()


def crafter_of(*opts):
    return Crafter(tiny(), tiny_cfg(*ACT, *opts))


def slow_collapse(model, batch, triplets, steps, step_size, eps):
    """Pairs pulled together one after the other, each by a loop of its own."""
    model.eval()
    attacked = batch["images"].clone()
    for _, positive, negative in triplets.tolist():
        rows = [positive, negative]
        clean = batch["images"][rows]
        images, best = clean, (torch.inf, None)
        for step in range(steps + 1):
            images = images.detach().requires_grad_()
            with frozen_parameters(model.parameters()):
                f = unit(model({**batch, "images": images}))
            gap = (f[0] - f[1]).norm()
            if gap.item() < best[0]:
                best = gap.item(), images.detach()
            if step < steps:
                (gradient,) = torch.autograd.grad(gap, images)
                images = clean + (images - step_size * gradient.sign() - clean).clamp(-eps, eps)
                images = images.clamp(0, 255)
        attacked[rows] = best[1]
    model.train()
    return attacked


def test_equals_a_slow_loop_over_the_pairs():
    crafter, batch = crafter_of(), tiny_batch()
    attacked = crafter(batch, epoch=0, seed=1)
    expected = slow_collapse(crafter.adapter.model, batch, attacked["triplets"], 3, 4.0, 8.0)
    # A sign may turn where a gradient is nearly 0.
    assert ((attacked["images"] - expected).abs() < 1e-3).float().mean() > 0.99


def test_a_clip_without_a_partner_is_left_alone():
    batch = tiny_batch()
    batch = {**batch, "targets": torch.tensor([0, 0, 0, 0, 0, 0, 1, 1])}
    attacked = crafter_of()(batch, epoch=0, seed=1)
    moved = (attacked["images"] != batch["images"]).flatten(1).any(dim=1)
    paired = attacked["triplets"][:, 1:].unique()
    assert torch.equal(moved.nonzero().flatten(), paired) and len(paired) == 4


def test_with_a_budget_of_0_the_triplets_are_there_and_the_images_the_clean_ones():
    batch = tiny_batch()
    attacked = crafter_of("DEFENSE.WARMUP_EPOCHS", 2)(batch, epoch=0, seed=1)
    assert attacked["images"] is batch["images"] and len(attacked["triplets"]) == 8
    assert "triplets" not in batch


def test_the_triplet_loss_is_a_loop_and_0_with_a_graph_without_triplets():
    anchors, positives, negatives = torch.randn(3, 5, 4, generator=seeded())
    total = 0.0
    for a, p, n in zip(anchors.tolist(), positives.tolist(), negatives.tolist(), strict=True):
        gaps = [sum((x - y) ** 2 for x, y in zip(a, other, strict=True)) ** 0.5 for other in (p, n)]
        total += max(0.0, gaps[0] - gaps[1] + 0.2)
    found = triplet_hinge(anchors, positives, negatives, margin=0.2)
    assert float(found) == pytest.approx(total / 5, rel=1e-5)
    nothing = anchors[:0].requires_grad_()
    loss = triplet_hinge(nothing, nothing, nothing, margin=0.2)
    loss.backward()
    assert loss == 0 and nothing.grad.shape == (0, 4)


def test_identical_features_have_no_distance_and_no_gradient():
    features = torch.ones(3, 4, requires_grad=True)
    between = distance(features, torch.ones(3, 4))
    between.sum().backward()
    assert torch.equal(between, torch.zeros(3)) and torch.equal(features.grad, torch.zeros(3, 4))


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_the_step_trains_on_clean_anchors_and_attacked_others(metric):
    step = step_of(*TRAINED, "TEST.METRIC", metric)
    batch, twin = tiny_batch(), copy.deepcopy(step.model)
    attacked = step.craft(batch)
    found = step.losses(batch, attacked)
    assert found.keys() == {"loss_cls_attacked", "loss_triplet_attacked", "loss_triplets"}
    hurt, clean = (features_in_training(twin, each, metric) for each in (attacked, batch))
    total = 0.0
    for a, p, n in attacked["triplets"].tolist():
        gap = (clean[a] - hurt[p]).norm() - (clean[a] - hurt[n]).norm()
        total = total + (gap + 0.2).clamp(min=0)
    torch.testing.assert_close(found["loss_triplets"], 2 * total / 8)
    gradients = [
        torch.autograd.grad(loss, model.stem.weight)[0]
        for loss, model in ((found["loss_triplets"], step.model), (2 * total / 8, twin))
    ]
    torch.testing.assert_close(*gradients, atol=1e-5, rtol=1e-3)


@pytest.mark.slow
def test_training_holds_the_pairs_apart():
    """After equally many steps the same attack brings positives and negatives less together."""
    gaps = []
    for weights in (TRAINED, ("DEFENSE.ATTACKED_WEIGHT", 0.0)):
        step = step_of(*weights, "DEFENSE.EPS", 16.0)
        run(step, 40)
        attacked = Crafter(step.model, tiny_cfg(*ACT, "DEFENSE.EPS", 16.0))(tiny_batch(), 0, 1)
        with torch.no_grad():
            features = unit(step.model.eval()(attacked))
        _, positives, negatives = attacked["triplets"].unbind(dim=1)
        gaps.append(float((features[positives] - features[negatives]).norm(dim=1).mean()))
    assert gaps[0] > 1.1 * gaps[1]


def test_without_triplet_weight_it_is_an_attack_like_any_other():
    step = step_of(*ACT)
    before = state(step.model)
    logged = run(step)
    assert "loss_triplets" not in logged and logged["loss_cls_attacked"] > 0
    assert differing(before, state(step.model))


@pytest.mark.parametrize(
    ("opts", "message"),
    [
        (
            ("DEFENSE.TRIPLET_WEIGHT", 1.0),
            r"1\.0; FNA attacks no triplets; expected 0, or ",
        ),
        ((*TRAINED, "DEFENSE.ICS_WEIGHT", 0.5), r"ICS_WEIGHT: 0\.5; AntiCollapse does not attack"),
        ((*TRAINED, "DEFENSE.TRIPLET_WEIGHT", -1.0), r"TRIPLET_WEIGHT: -1\.0; expected 0 or more"),
        ((*TRAINED, "DEFENSE.TRIPLET.MARGIN", -0.1), r"TRIPLET\.MARGIN: -0\.1; expected 0 or more"),
        (
            ("DEFENSE.INNER", "AntiColapse"),
            r"no ATTACK is named 'AntiColapse'; known: AntiC",
        ),
    ],
)
def test_what_does_not_go_together_is_refused(opts, message):
    with pytest.raises(InputError, match=message):
        step_of(*opts)
