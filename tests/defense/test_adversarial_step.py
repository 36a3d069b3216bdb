"""Who moves, by which losses, and what an adversarial step without an adversary comes to."""

import copy

import pytest
import torch
from fastreid.utils.events import EventStorage

from plugins.compat import protect_input
from plugins.defense.adversarial_step import captured_outputs, feature_gap
from plugins.engine.steps import SimpleStep
from plugins.errors import InputError
from plugins.modeling.dual_norm import add_dual_norm
from tests.helpers.attack_models import batch_for, built
from tests.helpers.defense_toys import pair_of, run, step_of, tiny, tiny_batch, tiny_cfg
from tests.helpers.small_models import copied, differing, state


@pytest.mark.slow
@pytest.mark.parametrize("name", ["Baseline", "VVIBaseline", "SADSTRM"])
def test_everything_but_an_adversary_moves_on_every_meta_architecture(name):
    model, cfg = built(name, "DEFENSE.STEPS", 1, "DEFENSE.DISTANCE_WEIGHT", 1.0)
    # A first classifier is nearly 0, and its gradient to the rest too small for one step.
    torch.nn.init.normal_(model.heads.weight)
    # Twice: STIG's gate starts at the identity, and what is in front of it moves with the second.
    step = step_of(model=protect_input(model), cfg=cfg, batches=2 * [batch_for(name)])
    before = state(model)
    logged = run(step)
    run(step)
    trained = [n for n, p in model.named_parameters() if p.requires_grad]
    moved = set(differing(before, state(model)))
    assert {n for n in trained if n not in moved} == {n for n in trained if n.startswith("attack.")}
    assert {"loss_cls", "loss_cls_attacked", "loss_distance", "attack/eps"} <= logged.keys()
    assert logged["attack/moved"] > 4


@pytest.mark.parametrize(
    "opts",
    [
        ("DEFENSE.CLEAN_WEIGHT", 1.0),
        ("DEFENSE.CLEAN_WEIGHT", 0.0),
        ("DEFENSE.ATTACKED_WEIGHT", 0.0),
        ("DEFENSE.ATTACKED_WEIGHT", 0.0, "DEFENSE.DISTANCE_WEIGHT", 1.0),
    ],
)
def test_the_branches_that_it_names_are_those_that_see_its_batches(opts):
    cfg = tiny_cfg(*opts, "MODEL.DUAL_NORM.ENABLED", True)
    step = step_of(model=add_dual_norm(tiny(), cfg), cfg=cfg)
    before = state(step.model)
    run(step)
    moved = [name for name in differing(before, state(step.model)) if "num_batches" in name]
    seen = {"attacked" if ".attacked." in name else "clean" for name in moved}
    assert step.branches() == seen


@pytest.mark.slow
@pytest.mark.parametrize("weight", [0.0, 1.0])
def test_the_accuracy_in_the_log_is_that_of_one_pass(weight):
    model, cfg = built("Baseline", "DEFENSE.STEPS", 1, "DEFENSE.CLEAN_WEIGHT", weight)
    torch.nn.init.normal_(model.heads.weight)
    batch, twin = batch_for("Baseline"), copy.deepcopy(model)
    step = step_of(model=protect_input(model), cfg=cfg, batches=[batch])
    with EventStorage() as expected:
        protect_input(twin)(batch if weight else step.craft(batch))
    with EventStorage() as logged:
        step.run_step()
    values = [storage.history("cls_accuracy").values() for storage in (logged, expected)]
    assert len(values[0]) == 1
    assert values[0] == values[1]


def test_total_is_the_weighted_sum_of_what_the_model_says_of_both_batches():
    weights = ("DEFENSE.CLEAN_WEIGHT", 0.25, "DEFENSE.ATTACKED_WEIGHT", 0.75)
    step = step_of(*weights)
    batch, twin = tiny_batch(), copy.deepcopy(step.model)
    attacked = step.craft(batch)
    assert not torch.equal(attacked["images"], batch["images"])
    found = step.losses(batch, attacked)
    hurt, plain = twin(attacked), twin(batch)
    expected = {f"{name}_attacked": 0.75 * loss for name, loss in hurt.items()}
    expected |= {name: 0.25 * loss for name, loss in plain.items()}
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)


@pytest.mark.parametrize("iterations", [1, 4])
@pytest.mark.parametrize(
    "opts",
    [
        ("DEFENSE.ATTACKED_WEIGHT", 0.0),
        ("DEFENSE.EPS", 0.0, "DEFENSE.CLEAN_WEIGHT", 0.0),
        ("DEFENSE.WARMUP_EPOCHS", 3, "DEFENSE.CLEAN_WEIGHT", 0.0),
    ],
)
def test_without_an_attack_it_is_plain_training_to_the_bit(opts, iterations):
    ours, plain = step_of(*opts), step_of(kind=SimpleStep)
    run(ours, iterations), run(plain, iterations)
    assert differing(state(plain.model), state(ours.model)) == []


def test_with_an_attack_it_is_not():
    ours, plain = step_of("DEFENSE.CLEAN_WEIGHT", 0.0), step_of(kind=SimpleStep)
    run(ours), run(plain)
    assert differing(state(plain.model), state(ours.model))


def test_the_distance_is_the_attacked_and_the_clean_passes_and_pulls_at_both():
    trades = (
        "DEFENSE.INNER",
        "SMA",
        "DEFENSE.ATTACKED_WEIGHT",
        0.0,
        "DEFENSE.DISTANCE_WEIGHT",
        6.0,
    )
    step = step_of(*trades)
    batch, twin = tiny_batch(), copy.deepcopy(step.model)
    attacked = step.craft(batch)
    found = step.losses(batch, attacked)
    assert found.keys() == {"loss_cls", "loss_triplet", "loss_distance"}
    sides = []
    for images in (attacked["images"], batch["images"]):
        maps = twin.stem((images - 120) / 60)
        pooled = twin.trunk(torch.nn.functional.silu(twin.norm(maps))).mean(dim=(-2, -1))
        sides.append(twin.heads.bottleneck(pooled))
    rows = zip(*sides, strict=True)
    expected = sum(2 - 2 * torch.cosine_similarity(f, g, dim=0) for f, g in rows) / len(sides[0])
    torch.testing.assert_close(found["loss_distance"], 6 * expected)
    gradients = [
        torch.autograd.grad(loss, model.trunk.weight)[0]
        for loss, model in ((found["loss_distance"], step.model), (6 * expected, twin))
    ]
    torch.testing.assert_close(*gradients, atol=1e-5, rtol=1e-3)


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_feature_gap_is_a_loop_and_0_with_a_finite_gradient_where_nothing_moved(metric):
    generator = torch.Generator().manual_seed(0)
    features, others = (torch.randn(5, 3, generator=generator) for _ in range(2))
    gaps = []
    for f, g in zip(features, others, strict=True):
        if metric == "cosine":
            f, g = f / f.norm(), g / g.norm()
        gaps.append(sum((a - b) ** 2 for a, b in zip(f.tolist(), g.tolist(), strict=True)))
    assert float(feature_gap(features, others, metric)) == pytest.approx(sum(gaps) / 5)
    same = features.clone().requires_grad_()
    gap = feature_gap(same, features, metric)
    gap.backward()
    assert gap == 0 and same.grad.isfinite().all()
    assert feature_gap(features.half(), others.half(), metric).dtype == torch.float32


def test_the_hook_on_the_head_goes_away_also_after_an_error():
    model = tiny()
    with pytest.raises(ZeroDivisionError), captured_outputs(model.heads) as outputs:
        model(tiny_batch())
        assert outputs[0]["features"].shape == (8, 8)
        raise ZeroDivisionError
    assert not model.heads._forward_hooks


def test_draws_follow_from_seed_iteration_and_place():
    batch, step = tiny_batch(), step_of()
    images = []
    for iteration, place in ((0, 0), (0, 1), (1, 0)):
        step.iter = iteration
        images.append(step.craft(batch, place)["images"])
    assert not torch.equal(images[0], images[1]) and not torch.equal(images[0], images[2])
    torch.manual_seed(99)  # what else a resumed run has drawn
    resumed = step_of()
    resumed.iter = 1
    assert torch.equal(resumed.craft(batch)["images"], images[2])


def test_accumulated_batches_are_crafted_each_with_draws_of_its_own_and_left_alone():
    batch = tiny_batch()
    step, before = step_of("SOLVER.ACCUMULATION", 2, batches=[batch]), copied(batch)
    pairs = []
    step.backward = lambda both, optimizer: pairs.extend(both) or {"loss": torch.zeros(())}
    run(step)
    (first, one), (second, other) = (pair.values() for pair in pairs)
    assert first is batch and second is batch
    assert not torch.equal(one["images"], other["images"])
    assert torch.equal(before["images"], batch["images"])


def test_an_accumulated_gradient_is_the_mean_of_the_batches_gradients():
    step = step_of()
    pairs = [pair_of(batch, step.craft(batch)) for batch in (tiny_batch(0), tiny_batch(1))]
    gradients = []
    for chosen in (pairs[:1], pairs[1:], pairs):
        step.backward(chosen, step.optimizer)
        gradients.append(step.model.stem.weight.grad.clone())
    torch.testing.assert_close(gradients[2], (gradients[0] + gradients[1]) / 2)


def test_mixed_precision_trains_on_images_crafted_in_float32():
    amp, plain = step_of("SOLVER.AMP.ENABLED", True), step_of()
    batch = tiny_batch()
    assert torch.equal(amp.craft(batch)["images"], plain.craft(batch)["images"])
    before = state(amp.model)
    run(amp)
    assert differing(before, state(amp.model))


@pytest.mark.slow
def test_training_against_fna_hardens_a_network():
    """After equally many steps the same attack moves the features of the trained one less."""
    moved = []
    for opts in ((), ("DEFENSE.ATTACKED_WEIGHT", 0.0)):
        step = step_of("DEFENSE.EPS", 16.0, *opts)
        run(step, 40)
        model, batch = step.model, tiny_batch()
        attacked = step_of("DEFENSE.EPS", 16.0, model=model).craft(batch)
        with torch.no_grad():
            features = [model.eval()({**batch, "images": b["images"]}) for b in (batch, attacked)]
        moved.append(float((1 - torch.cosine_similarity(*features)).mean()))
    assert moved[0] < 0.8 * moved[1]


@pytest.mark.parametrize(
    ("opts", "message"),
    [
        (("DEFENSE.CLEAN_WEIGHT", -1.0), r"DEFENSE\.CLEAN_WEIGHT: -1\.0; expected 0 or more"),
        (
            ("DEFENSE.CLEAN_WEIGHT", 0.0, "DEFENSE.ATTACKED_WEIGHT", 0.0),
            r"DEFENSE: CLEAN_WEIGHT, .* are all 0; expected one above 0",
        ),
    ],
)
def test_weights_that_train_nothing_are_refused(opts, message):
    with pytest.raises(InputError, match=message):
        step_of(*opts)


def test_a_network_without_one_head_has_no_distance():
    model = tiny()
    model.first_head = model.heads
    del model.heads
    with pytest.raises(InputError, match=r"DISTANCE_WEIGHT: 1\.0; Tiny does not have exactly"):
        step_of("DEFENSE.DISTANCE_WEIGHT", 1.0, model=model)


def test_a_network_whose_neck_sees_frames_has_no_distance():
    model = tiny()
    model.heads.frame_level = True
    with pytest.raises(InputError, match=r"^MODEL\.HEADS\.NECK_LEVEL: frame, but DEFENSE compares"):
        step_of("DEFENSE.DISTANCE_WEIGHT", 1.0, model=model)
    step_of(model=model)
