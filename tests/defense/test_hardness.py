"""HM, LGA and ICS: which triplets, how hard they get and when that ends, and what is trained."""

import copy

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from plugins.defense.inner_attack import Crafter
from plugins.defense.triplet_attacks import GradualAdversary
from plugins.defense.triplets import hardness, softhard_triplets
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

HM = ("DEFENSE.INNER", "HardnessManipulation", "DEFENSE.TRIPLET_WEIGHT", 2.0)
FULL = (*HM, "DEFENSE.ICS_WEIGHT", 0.5, "DEFENSE.CLEAN_WEIGHT", 0.0)
SMALL_STEPS = ("DEFENSE.STEPS", 30, "DEFENSE.STEP_SIZE", 0.5)


def crafter_of(*opts, loss=None):
    """A crafter whose destination follows from ``loss``."""
    crafter = Crafter(tiny(), tiny_cfg(*HM, *opts))
    if loss is not None:
        crafter.attack.gradual.observe(loss)
    return crafter


def easy_batch(seed):
    """Images of a person are alike, so that most triplets are easy."""
    batch = tiny_batch(seed)
    looks = tiny_batch(seed + 100)["images"][: len(batch["targets"])]
    return {**batch, "images": looks[batch["targets"]] * 0.7 + 0.3 * batch["images"]}


def hardness_of(crafter, batch, triplets):
    with torch.no_grad():
        features = unit(crafter.adapter({**batch, "triplets": None}))
    return hardness(*features[triplets].unbind(dim=1))


@given(st.lists(st.integers(0, 3), min_size=1, max_size=12), st.integers(0, 99))
def test_triplets_are_soft_hard_where_possible_and_share_no_clip(people, seed):
    pids = torch.tensor(people, dtype=torch.long)
    features = torch.randn(len(people), 3, generator=seeded(seed))
    d = (features[:, None] - features).norm(dim=2)
    found = softhard_triplets(d, pids, seeded(seed)).tolist()
    free = set(range(len(people)))
    for triplet in found:
        a, p, n = triplet
        assert len(set(triplet)) == 3 and set(triplet) <= free
        assert people[a] == people[p] != people[n]
        mates = [c for c in range(len(people)) if people[c] == people[a] and c != a]
        others = [c for c in range(len(people)) if people[c] != people[a]]
        hard_mates = {c for c in mates if d[a, c] > min(d[a, o] for o in others)} & free
        hard_others = {c for c in others if d[a, c] < max(d[a, m] for m in mates)} & free
        assert p in (hard_mates or mates) and n in (hard_others or others)
        free -= set(triplet)
    # Nothing is left that could be one more.
    left = [people[clip] for clip in free]
    assert not any(left.count(person) > 1 for person in left) or len(set(left)) < 2


def test_positives_and_negatives_are_drawn():
    pids, d = torch.arange(3).repeat_interleave(4), torch.ones(12, 12)
    draws = [softhard_triplets(d, pids, seeded(seed)) for seed in range(40)]
    assert len({tuple(each.flatten().tolist()) for each in draws}) > 30


def slow_manipulation(crafter, batch, triplets, steps, step_size, eps, destination):
    """Each triplet by a loop of its own, that breaks at the first images that are hard enough."""
    model, attacked = crafter.adapter.model.eval(), batch["images"].clone()
    for triplet in triplets.tolist():
        clean = images = batch["images"][triplet]
        best = -torch.inf
        for step in range(steps + 1):
            images = images.detach().requires_grad_()
            with frozen_parameters(model.parameters()):
                a, p, n = unit(model({**batch, "images": images}))
            hard = (a - p).norm() - (a - n).norm()
            if hard.item() > best:
                best, attacked[triplet] = hard.item(), images.detach()
            if hard >= destination or step == steps:
                break
            (gradient,) = torch.autograd.grad(hard, images)
            images = clean + (images + step_size * gradient.sign() - clean).clamp(-eps, eps)
            images = images.clamp(0, 255)
    model.train()
    return attacked


@pytest.mark.parametrize("loss", [0.2, 0.05, 0.0])
def test_equals_a_slow_loop_over_the_triplets(loss):
    crafter, batch = crafter_of(*SMALL_STEPS, loss=loss), easy_batch(0)
    attacked = crafter(batch, epoch=0, seed=1)
    expected = slow_manipulation(crafter, batch, attacked["triplets"], 30, 0.5, 8.0, -loss)
    # A sign may turn where a gradient is nearly 0.
    assert ((attacked["images"] - expected).abs() < 1e-3).float().mean() > 0.99


@pytest.mark.slow
@pytest.mark.parametrize("loss", [0.2, 0.1, 0.0])
def test_hardness_rises_to_the_destination_and_not_beyond(loss):
    """A triplet that is hard enough stays as it is, another stops within one small step of it."""
    steps = ("DEFENSE.STEPS", 100, "DEFENSE.STEP_SIZE", 0.1, "DEFENSE.EPS", 16.0)
    crafter = crafter_of(*steps, loss=loss)
    untouched = reached = 0
    for number in range(4):
        batch = easy_batch(number)
        attacked = crafter(batch, epoch=0, seed=number)
        triplets = attacked["triplets"]
        before, after = (hardness_of(crafter, each, triplets) for each in (batch, attacked))
        same = (attacked["images"] == batch["images"]).flatten(1).all(dim=1)
        hard = before >= -loss
        assert torch.equal(same[triplets].all(dim=1), hard)
        assert torch.equal(after[hard], before[hard])
        assert (after[~hard] > before[~hard]).all()
        # One step of 0.1 adds less than this; from the start it is 0.3 to 1.3.
        assert (after[~hard] < -loss + 0.05).all()
        in_none = torch.ones(8, dtype=torch.bool).scatter(0, triplets.flatten(), False)
        assert same[in_none].all()
        untouched, reached = untouched + hard.sum(), reached + (after[~hard] >= -loss).sum()
    assert reached > 4 and (untouched > 0 or loss == 0)


def test_what_is_done_is_not_passed_through_the_network_again():
    crafter, passed = crafter_of("DEFENSE.STEPS", 30, "DEFENSE.EPS", 64.0, loss=0.2), []
    crafter.adapter.model.register_forward_pre_hook(
        lambda _, args: passed.append(len(args[0]["images"]))
    )
    attacked = crafter(easy_batch(0), epoch=0, seed=1)
    assert len(attacked["triplets"]) == 2
    # The guides' pass and a look at all clips, then the triplets that are left, then none.
    assert passed[:2] == [8, 8] and set(passed[2:]) <= {6, 3}
    assert passed == sorted(passed, reverse=True) and 2 < len(passed) < 30


def test_the_destination_follows_the_loss_from_minus_the_margin_to_0():
    gradual = GradualAdversary(0.2)
    found = [gradual.destination]
    for loss in (1.5, 0.2, 0.15, 0.0):
        gradual.observe(loss)
        found.append(gradual.destination)
    assert found == [-0.2, -0.2, -0.2, -0.15, 0.0]


def test_a_step_hands_on_its_triplet_loss_and_a_resumed_one_goes_on_from_there():
    step, batch = step_of(*FULL, "SOLVER.ACCUMULATION", 2), tiny_batch(5)
    logged = run(step, 3)
    # Of both batches of the update, without its weight.
    assert step.gradual.loss == pytest.approx(logged["loss_triplets"] / 2)
    assert 0 < step.gradual.loss < 0.4 and step.gradual.loss != 0.2
    saved = step.checkpointables()["gradual_adversary"].state_dict()
    resumed = step_of(*FULL, "DEFENSE.STEPS", 6, model=copy.deepcopy(step.model))
    fresh = step_of(*FULL, "DEFENSE.STEPS", 6, model=copy.deepcopy(step.model))
    resumed.checkpointables()["gradual_adversary"].load_state_dict(saved)
    assert resumed.crafter.attack_of(0, 1).gradual.destination == step.gradual.destination
    assert fresh.gradual.destination == -0.2
    assert torch.equal(resumed.craft(batch)["triplets"], fresh.craft(batch)["triplets"])


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_the_step_trains_on_attacked_triplets_and_the_structure_within_people(metric):
    step = step_of(*FULL, "TEST.METRIC", metric, "DEFENSE.TRIPLET.MARGIN", 0.3)
    batch, twin = tiny_batch(), copy.deepcopy(step.model)
    attacked = step.craft(batch)
    found = step.losses(batch, attacked)
    hurt, clean = (features_in_training(twin, each, metric) for each in (attacked, batch))
    inter, intra = 0.0, 0.0
    triplets = attacked["triplets"].tolist()
    assert len(triplets) == 2
    for a, p, n in triplets:
        gap = (hurt[a] - hurt[p]).norm() - (hurt[a] - hurt[n]).norm()
        inter = inter + (gap + 0.3).clamp(min=0)
        intra = intra + ((clean[a] - hurt[a]).norm() - (clean[a] - clean[p]).norm()).clamp(min=0)
    torch.testing.assert_close(found["loss_triplets"], inter)  # weight 2, two triplets
    torch.testing.assert_close(found["loss_intra_class"], 0.25 * intra)


def test_the_structure_loss_rises_where_the_attack_outruns_the_positive():
    """Three clean features on a line; the attacked anchor goes past the positive."""
    step = step_of(*FULL, "TEST.METRIC", "euclidean")
    clean = torch.tensor([[0.0], [1.0], [5.0]])
    triplets = torch.tensor([[0, 1, 2]])
    for reach, expected in ((0.5, 0.0), (1.0, 0.0), (3.0, 2.0)):
        attacked = torch.tensor([[reach], [1.0], [5.0]])
        losses = step.triplet_losses(clean, attacked, triplets)
        assert float(losses["loss_intra_class"]) == pytest.approx(0.5 * expected)


def test_the_clean_batch_is_passed_for_the_structure_loss_alone():
    passes = {}
    for weight in (0.0, 0.5):
        step = step_of(*FULL, "DEFENSE.ICS_WEIGHT", weight)
        batch, seen = tiny_batch(), []
        attacked = step.craft(batch)
        step.model.register_forward_pre_hook(lambda _, args, seen=seen: seen.append(args[0]))
        step.losses(batch, attacked)
        passes[weight] = [each is batch for each in seen]
    assert passes == {0.0: [False], 0.5: [False, True]}


def test_a_destination_without_its_loss_is_refused():
    with pytest.raises(InputError, match=r"TRIPLET_WEIGHT: 0\.0; the destination of Hardness"):
        step_of(*FULL, "DEFENSE.TRIPLET_WEIGHT", 0.0)
