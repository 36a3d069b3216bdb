"""The inner attack: within its budget, as a slow loop says, and nothing left behind."""

import random

import numpy as np
import pytest
import torch
from fastreid.utils.events import EventStorage

from plugins.attacks import Adapter, Guides, PerturbationSet
from plugins.config import setup_cfg
from plugins.defense.goat import GOAT, farthest_items
from plugins.defense.inner_attack import Crafter
from plugins.errors import InputError
from plugins.modeling.freeze import frozen_parameters
from plugins.utils.random import derive_seed
from tests.helpers.attack_models import batch_for, built, differing_entries, everything
from tests.helpers.attack_toys import clips, features_of, guides_of
from tests.helpers.defense_toys import tiny, tiny_batch, tiny_cfg
from tests.helpers.small_models import copied


def crafter_of(*opts):
    return Crafter(tiny(), tiny_cfg(*opts))


@pytest.mark.parametrize("inner", ["SMA", "FNA", "NearestPushPull", "GOAT", "LTA", "RankMargin"])
def test_within_the_budget_and_nothing_but_the_images_is_another(inner):
    assert_only_images_change(crafter_of("DEFENSE.INNER", inner), tiny_batch())


@pytest.mark.slow
@pytest.mark.parametrize("name", ["Baseline", "VVIBaseline", "SADSTRM"])
def test_on_every_meta_architecture(name):
    model, cfg = built(name, "DEFENSE.STEPS", 1, "DEFENSE.STEP_SIZE", 16.0)
    assert_only_images_change(Crafter(model, cfg), batch_for(name))


def assert_only_images_change(crafter, batch):
    clean, model = copied(batch), crafter.adapter.model
    before = everything(model)
    attacked = crafter(batch, epoch=0, seed=1)
    assert differing_entries(clean, batch) == []
    assert everything(model) == before
    assert {key for key in batch if attacked[key] is not batch[key]} == {"images"}
    images = attacked["images"]
    moved = (images - clean["images"]).abs()
    assert images.shape == clean["images"].shape and not images.requires_grad
    assert images.min() >= 0 and images.max() <= 255
    assert moved.mean() > 0.5 * 8 and moved.max() <= 8 + 1e-4


def test_the_global_random_states_go_on_as_if_nothing_was_drawn():
    crafter, batch = crafter_of(), tiny_batch()
    torch.manual_seed(3), np.random.seed(3), random.seed(3)
    crafter(batch, epoch=0, seed=1)
    drawn = torch.rand(1), np.random.rand(), random.random()
    torch.manual_seed(3), np.random.seed(3), random.seed(3)
    assert drawn == (torch.rand(1), np.random.rand(), random.random())


def test_an_attack_with_momentum_keeps_it():
    images = [
        crafter_of("DEFENSE.INNER", inner)(tiny_batch(), 0, 1)["images"]
        for inner in ("MetricIFGSM", "MetricMIFGSM")
    ]
    assert not torch.equal(*images)


def test_the_seed_decides_and_nothing_else():
    crafter, batch = crafter_of(), tiny_batch()
    first, again, other = (crafter(batch, 0, seed)["images"] for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    seeds = {derive_seed(0, rank, iteration, 0) for rank in range(4) for iteration in range(50)}
    assert len(seeds) == 200 and max(seeds) < 2**32


def slow_fna(model, batch, start, steps, step_size, eps):
    """FNA of cosines by loops over the rows, in evaluation mode; of each row the best images."""
    model.eval()

    def features(images):
        with frozen_parameters(model.parameters()):
            found = model({**batch, "images": images.clone()})
        return torch.nn.functional.normalize(found, dim=1)

    clean, targets = features(batch["images"]).detach(), batch["targets"].tolist()
    people = sorted(set(targets))
    means = {p: clean[[t == p for t in targets]].mean(dim=0) for p in people}
    # As all features that the cosine compares, of length 1.
    centres = {p: mean / mean.norm() for p, mean in means.items()}

    def objective(f, row):
        others = [centres[p] for p in people if p != targets[row]]
        goal = max(others, key=lambda center: float((clean[row] - center).square().sum()))
        mates = [g for g in range(len(targets)) if targets[g] == targets[row] and g != row]
        return sum((f - clean[g]).square().sum() for g in mates) - (f - goal).square().sum()

    images, best = start, {}
    for step in range(steps + 1):
        images = images.detach().requires_grad_()
        found = features(images)
        values = [objective(f, row) for row, f in enumerate(found)]
        for row, value in enumerate(values):
            if row not in best or value.item() > best[row][0]:
                best[row] = (value.item(), images[row].detach())
        if step < steps:
            (gradient,) = torch.autograd.grad(sum(values), images)
            delta = images + step_size * gradient.sign() - batch["images"]
            images = (batch["images"] + delta.clamp(-eps, eps)).clamp(0, 255)
    model.train()
    return torch.stack([best[row][1] for row in sorted(best)])


def test_equals_a_slow_loop():
    crafter, batch = crafter_of("DEFENSE.INNER", "FNA"), tiny_batch()
    start = PerturbationSet(crafter.attack.threat, {"images": batch["images"]}).random_point(1, 0)[
        :, 0
    ]
    expected = slow_fna(crafter.adapter.model, batch, start, steps=3, step_size=4.0, eps=8.0)
    found = crafter(batch, epoch=0, seed=1)["images"]
    # A sign may turn where a gradient is nearly 0.
    assert ((found - expected).abs() < 1e-3).float().mean() > 0.99


def test_sma_starts_beside_the_clean_images_where_its_gradient_is_not_0():
    crafter, batch = crafter_of("DEFENSE.INNER", "SMA"), tiny_batch()
    attacked = crafter(batch, epoch=0, seed=1)["images"]
    noise = torch.randint(0, 2, attacked.shape, generator=torch.Generator().manual_seed(0)) * 2 - 1
    noisy = (batch["images"] + 8 * noise).clamp(0, 255)
    gaps = []
    for images in (attacked, noisy):
        clean, other = crafter.adapter(batch), crafter.adapter({**batch, "images": images})
        gaps.append(1 - torch.cosine_similarity(clean, other))
    assert (gaps[0] > gaps[1]).all()


def test_clips_of_one_item_are_attacked_each_for_itself():
    crafter, batch = crafter_of(), tiny_batch()
    twice = {**batch, "rows": torch.zeros(8, dtype=torch.long)}
    assert torch.equal(crafter(twice, 0, 1)["images"], crafter(batch, 0, 1)["images"])


def test_crafting_is_in_float32_whatever_the_training_is_in():
    crafter, batch = crafter_of(), tiny_batch()
    plain = crafter(batch, 0, 1)["images"]
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(crafter(batch, 0, 1)["images"], plain)


def test_budget_and_steps_grow_in_the_warm_up():
    crafter, batch = crafter_of("DEFENSE.WARMUP_EPOCHS", 4), tiny_batch()
    assert crafter(batch, epoch=0, seed=1) is batch
    attack = crafter.attack_of(epoch=1, seed=1)
    assert (attack.threat.eps, attack.recipe.step_size) == (2.0, 1.0)
    moved = (crafter(batch, epoch=1, seed=1)["images"] - batch["images"]).abs()
    assert 1 < moved.max() <= 2 + 1e-4
    assert crafter.attack_of(epoch=9, seed=1).threat.eps == 8.0


class TestGOAT:
    def test_without_guides_it_is_sma_to_the_bit(self):
        batch = tiny_batch()
        none = ("DEFENSE.GOAT.POSITIVES", 0, "DEFENSE.GOAT.NEGATIVES", 0)
        goat = crafter_of("DEFENSE.INNER", "GOAT", *none)
        sma = crafter_of("DEFENSE.INNER", "SMA")
        assert torch.equal(goat(batch, 0, 1)["images"], sma(batch, 0, 1)["images"])

    def test_a_clip_is_no_guide_of_itself(self):
        """Of people who are there once only the anchor could be the guide."""
        batch = {**tiny_batch(), "targets": torch.arange(8)}
        goat = crafter_of("DEFENSE.INNER", "GOAT", "DEFENSE.GOAT.NEGATIVES", 0)
        sma = crafter_of("DEFENSE.INNER", "SMA")
        assert torch.equal(goat(batch, 0, 1)["images"], sma(batch, 0, 1)["images"])

    @pytest.mark.parametrize("number", [0, 1, 3, 99])
    def test_farthest_items_are_those_of_a_loop(self, number):
        guides = guides_of(clips(people=4))
        found = farthest_items(guides, number)
        for row in range(len(found)):
            others = [
                (float((guides.compared_gallery[row] - guides.compared_gallery[g]).norm()), g)
                for g in guides.negatives[row].nonzero().flatten().tolist()
            ]
            expected = {g for _, g in sorted(others)[::-1][:number]}
            assert set(found[row].nonzero().flatten().tolist()) == expected

    def test_the_same_persons_guides_are_drawn_anew_by_each_seed(self):
        features = torch.randn(12, 4, generator=torch.Generator().manual_seed(0))
        pids = torch.arange(12) // 6
        guides = Guides.among(features, pids, metric="cosine", source="test")
        goat = GOAT.from_config(setup_cfg("", ["DEFENSE.GOAT.POSITIVES", "2"]))
        drawn = set()
        for goat.seed in range(30):
            aimed = goat.set_target(guides, torch.arange(12))
            assert (aimed.positives.sum(dim=1) == 2).all()
            assert (aimed.negatives.sum(dim=1) == 1).all()
            assert not aimed.valid.diagonal().any()
            drawn.add(tuple(aimed.positives[0].nonzero().flatten().tolist()))
        assert len(drawn) > 5

    def test_objective_by_hand(self):
        guides = GOAT.from_config(setup_cfg()).set_target(guides_of(clips()), torch.arange(10))
        features = features_of(clips(seed=3))
        f, g = (torch.nn.functional.normalize(each, dim=1) for each in (features, guides.gallery))
        for row, value in enumerate(GOAT.objective(features, guides)):
            signs = guides.positives[row].double() - guides.negatives[row].double()
            expected = sum(s * (f[row] - g[i]).square().sum() for i, s in enumerate(signs))
            torch.testing.assert_close(value, expected)


@pytest.mark.parametrize(
    ("opts", "message"),
    [
        (("DEFENSE.INNER", "FNAA"), r"DEFENSE\.INNER: no ATTACK is named 'FNAA'; known: FNA"),
        (("DEFENSE.INNER", "UAP"), r"DEFENSE\.INNER: UAP learns from a whole data set"),
        (("DEFENSE.INNER", "FNA-strong"), r"DEFENSE\.INNER: FNA-strong; expected FNA: "),
        (("DEFENSE.INNER", "Square"), r"DEFENSE\.INNER: Square uses no gradient"),
        (("DEFENSE.EPS", -1.0), r"DEFENSE\.EPS: -1\.0; expected 0 or more"),
        (("DEFENSE.STEPS", 0), r"DEFENSE\.STEPS: 0; expected 1 or more"),
        (("DEFENSE.STEP_SIZE", 0.0), r"DEFENSE\.STEP_SIZE: 0\.0; expected more than 0"),
        (("DEFENSE.WARMUP_EPOCHS", -1), r"DEFENSE\.WARMUP_EPOCHS: -1; expected 0 or more"),
        (
            ("DEFENSE.INNER", "GOAT", "DEFENSE.GOAT.NEGATIVES", -1),
            r"DEFENSE\.GOAT\.NEGATIVES: -1; expected 0 or more",
        ),
    ],
)
def test_what_describes_no_attack_is_refused(opts, message):
    with pytest.raises(InputError, match=message):
        crafter_of(*opts)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.bfloat16])
def test_a_batch_of_bytes_is_attacked_as_one_of_floats(dtype):
    batch = tiny_batch()
    images = batch["images"].to(dtype)
    found = crafter_of()({**batch, "images": images}, 0, 1)["images"]
    assert torch.equal(found, crafter_of()({**batch, "images": images.float()}, 0, 1)["images"])
    assert found.dtype == torch.float32


L2 = ("ATTACK.NORM", "l2")


@pytest.mark.parametrize(
    ("opts", "told"),
    [
        ((), ""),
        ((*L2, "DEFENSE.EPS", 400.0, "DEFENSE.STEP_SIZE", 200.0), ""),
        (("DEFENSE.EPS", 0.0314, "DEFENSE.STEP_SIZE", 0.0157), "DEFENSE.EPS: 0.0314 is less than"),
        (("DEFENSE.STEP_SIZE", 0.0157), "FNA: 3 steps of 0.0157 reach 0.0471, less than DEFENSE"),
        ((*L2, "DEFENSE.EPS", 8.0), "DEFENSE.EPS: 8 in ATTACK.NORM l2 is 0.026 gray levels"),
        (("DEFENSE.INNER", "AntiCollapse", "DEFENSE.STEP_SIZE", 0.01), "AntiCollapse: 3 steps of"),
    ],
)
def test_units_and_reach_of_the_inner_attack_are_told_once(opts, told, caplog):
    for _ in range(2):
        crafter_of(*opts)
    assert len(caplog.messages) == bool(told)
    assert told in caplog.text


@pytest.mark.parametrize("inner", ["FNA", "SMA", "HardnessManipulation"])
def test_steps_that_do_not_reach_an_l2_budget_are_refused(inner):
    opts = (*L2, "DEFENSE.INNER", inner, "DEFENSE.EPS", 400.0, "DEFENSE.STEPS", 5)
    with pytest.raises(InputError, match=f"INNER {inner}: 5 steps of 4 reach 20, less than DEFEN"):
        crafter_of(*opts)


def test_how_far_the_steps_went_is_logged_without_the_random_start():
    """A step of 4/255 gray levels leaves the images where they were drawn, which looks healthy."""

    def logged(step_size):
        crafter, batch = crafter_of("DEFENSE.STEP_SIZE", step_size), tiny_batch()
        with EventStorage() as storage:
            images = crafter(batch, 0, 1)["images"]
        value, _ = storage.latest()["attack/moved_from_start"]
        clips = {"images": batch["images"]}  # without the names of rows in the data set
        start = PerturbationSet(crafter.attack.threat, clips).random_point(1, 0)[:, 0]
        assert value == pytest.approx(float((images - start).abs().mean()), rel=1e-4)
        return value, float((images - batch["images"]).abs().mean())

    travelled, moved = logged(4.0)
    assert travelled > 3
    short, looks_healthy = logged(0.0157)
    assert short < 0.05
    assert looks_healthy > 0.5 * moved


def test_normalized_images_are_refused():
    """GOAT's public code attacks after normalization, at a budget of 1.13 instead of 5."""
    crafter, batch = crafter_of(), tiny_batch()
    with pytest.raises(InputError, match=r"expected \[0, 255\]"):
        crafter({**batch, "images": (batch["images"] - 120) / 60}, 0, 1)


@pytest.mark.slow
def test_features_are_those_of_the_evaluator_without_mirror_images():
    crafter = crafter_of("TEST.FLIP.ENABLED", True, "TEST.CLIPS", 4)
    batch = tiny_batch()
    assert torch.equal(crafter.adapter(batch), Adapter(tiny(), tiny_cfg())(batch))
