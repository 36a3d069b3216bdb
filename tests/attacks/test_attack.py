"""Attacks as they are called: every registered one, on a toy and on a network."""

import logging
from dataclasses import replace

import pytest
import torch

import plugins.attacks  # noqa: F401  (registers the attacks)
from plugins.attacks import Adapter, Guides, Recipe, ThreatModel, build_attack
from plugins.attacks.objectives import odfa, rank_margin
from plugins.attacks.per_query import FNA, ODFA, SMA, MetricFGSM, RankMargin
from plugins.config import setup_cfg
from plugins.errors import InputError
from plugins.evaluation import evaluate_ranking
from plugins.registry import ATTACK, known
from tests.helpers.attack_models import batch_for, built, differing_entries, everything
from tests.helpers.attack_toys import clips, features_of, guides_of, part
from tests.helpers.sides import sides_of
from tests.helpers.small_models import copied

NAMES = known(ATTACK) + [f"{name}-strong" for name in ("SMA", "RankMargin")]

LONG = ("RankMargin", "SoftAP", "SMA-strong", "RankMargin-strong", "QAPlus", "CAPlus")
UNIVERSAL = ("UAP", "MUAP", "CMPS")
LINF = ("Square", *UNIVERSAL)
DRAWN = ("LTA",)  # whose objective is another at each pass


def attack_named(name, *opts):
    opts = ("ATTACK.STEPS", 12, *opts) if name in LONG else opts
    opts = ("ATTACK.STEPS", 60, *opts) if name == "Square" else opts
    return build_attack(name, setup_cfg("", [str(opt) for opt in opts]), "ATTACK.NAMES")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_every_attack_raises_its_objective_within_the_budget(name, norm):
    if norm == "l2" and name in LINF:
        pytest.skip("for L-inf only")
    batch = clips()
    guides, clean = guides_of(batch), copied(batch)
    attack = attack_named(name, "ATTACK.NORM", norm, "ATTACK.EPS", 8.0 if norm == "linf" else 15.0)
    attack = attack.prepare(features_of, [(batch, guides)])
    outcome = attack.run(features_of, batch, guides)
    attacked = outcome.batch["images"]
    delta = (attacked - batch["images"]).flatten(1)
    size = delta.abs().amax(dim=1) if norm == "linf" else delta.norm(dim=1)
    assert attacked.min() >= 0 and attacked.max() <= 255
    assert (size <= attack.threat.eps + 1e-4).all() and (size > 0.1).all()
    score = attack.score_function(features_of, batch, guides)
    (before, _), (after, margin) = score(batch["images"]), score(attacked)
    torch.testing.assert_close(margin, outcome.margin)
    if name not in DRAWN:
        torch.testing.assert_close(after, outcome.objective)
    if name not in (*DRAWN, *LINF):
        assert ((after >= before) | (margin > 0)).all()
    assert after.mean() > before.mean()
    assert not outcome.zero_gradient.any()
    assert differing_entries(clean, batch) == [] and outcome.batch["rows"] is batch["rows"]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("frames", ["dense", "sparse", "smooth"])
def test_the_size_of_the_batch_does_not_change_a_bit(name, frames):
    if frames != "dense" and name in UNIVERSAL:
        pytest.skip("one delta for all frames")
    batch = clips(people=3)
    guides = guides_of(batch)
    infrared = "free" if name in UNIVERSAL else "tied"
    opts = ("ATTACK.FRAMES", frames, "ATTACK.INFRARED", infrared, "ATTACK.STEPS", 4)
    if name.endswith("strong"):
        opts += ("ATTACK.RESTARTS", 2)
    attack = attack_named(name, *opts).prepare(features_of, [(batch, guides)])
    whole = attack.run(features_of, batch, guides).images
    for size in (1, 4):
        for rows in torch.arange(len(whole)).split(size):
            some, known_guides = part(batch, guides, rows.tolist())
            assert torch.equal(attack.run(features_of, some, known_guides).images, whole[rows])


@pytest.mark.parametrize("name", ["SMA", "RankMargin-strong"])
def test_the_same_seed_gives_the_same_images_and_another_seed_others(name):
    batch = clips()
    guides = guides_of(batch)
    first, again, other = (
        attack_named(name, "ATTACK.SEED", seed).run(features_of, batch, guides).images
        for seed in (3, 3, 4)
    )
    assert torch.equal(first, again) and not torch.equal(first, other)


def test_rows_of_several_clips_are_attacked_in_all_of_them():
    batch = {**clips(each=4), "rows": torch.arange(10).repeat_interleave(2)}

    def averaged(some):
        return features_of(some).unflatten(0, (-1, 2)).mean(dim=1)

    pids, clean = batch["targets"][::2], averaged(batch)
    guides = Guides(pids, clean, clean, pids, ~torch.eye(10, dtype=torch.bool), "cosine")
    outcome = FNA(ThreatModel(), FNA.published(8.0)).run(averaged, batch, guides)
    assert outcome.objective.shape == (10,)
    assert ((outcome.batch["images"] - batch["images"]).abs().flatten(1).amax(dim=1) > 7).all()


def restarts(stop):
    return Recipe("apgd", steps=10, random_start=True, restarts=4, early_stop=stop)


def test_early_stopping_fools_the_same_rows_and_changes_no_other():
    batch = clips(people=8)
    guides, threat = guides_of(batch), ThreatModel(eps=4.0)
    dropped, kept = (
        RankMargin(threat, restarts(stop)).run(features_of, batch, guides) for stop in (True, False)
    )
    fooled = kept.margin > 0
    assert 0 < fooled.sum() < len(fooled)
    assert torch.equal(dropped.margin > 0, fooled)
    images = [outcome.batch["images"][~fooled] for outcome in (dropped, kept)]
    assert torch.equal(*images)
    assert dropped.backwards < kept.backwards == 4 * 10 * len(fooled)


def test_skipping_successful_rows_inside_a_restart_fools_the_same_rows_for_less():
    batch = clips(people=8)
    guides, threat = guides_of(batch), ThreatModel(eps=6.0)
    for optimizer in ("apgd", "sign", "square"):
        recipe = Recipe(optimizer, steps=24, step_size=0.5, random_start=True)
        kept, dropped = (
            RankMargin(threat, replace(recipe, skip_successful=drop)).run(
                features_of, batch, guides
            )
            for drop in (False, True)
        )
        fooled = kept.margin > 0
        assert 0 < fooled.sum() < len(fooled)
        assert torch.equal(dropped.margin > 0, fooled)
        images = [outcome.batch["images"][~fooled] for outcome in (dropped, kept)]
        assert torch.equal(*images)
        saved = 1 - dropped.forwards / kept.forwards
        assert 0.1 < saved < fooled.double().mean()


def test_a_restart_ends_when_every_row_is_fooled():
    batch = clips(people=8)
    guides, asked = guides_of(batch), []

    def counted(some):
        asked.append(len(some["images"]))
        return features_of(some)

    recipe = Recipe("apgd", steps=50, random_start=True, skip_successful=True)
    outcome = RankMargin(ThreatModel(eps=40.0), recipe).run(counted, batch, guides)
    assert (outcome.margin > 0).all() and len(asked) < 25
    assert sum(asked) == outcome.forwards


def test_more_restarts_never_lose():
    batch = clips(people=8)
    guides, threat = guides_of(batch), ThreatModel(eps=4.0)
    few, many = (
        RankMargin(threat, Recipe("apgd", 10, random_start=True, restarts=number)).run(
            features_of, batch, guides
        )
        for number in (1, 4)
    )
    assert (many.objective >= few.objective).all()
    assert many.objective.mean() > few.objective.mean()


@pytest.mark.parametrize("name", ["TMA", "QAPlus"])
def test_an_attack_with_an_aim_of_its_own_goes_on_where_rank_1_fails(name):
    batch = clips(people=8)
    guides = guides_of(batch)
    opts = ("ATTACK.STEPS", 10, "ATTACK.RESTARTS", 3, "ATTACK.EPS", 1.0)
    attack = attack_named(f"{name}-strong", *opts)
    own = attack.run(features_of, batch, guides)
    assert (own.margin > 0).any() and own.backwards == 3 * 10 * len(guides.pids)
    attack.success_first = True
    other = attack.run(features_of, batch, guides)
    assert own.objective.mean() > other.objective.mean()


def test_the_objective_at_the_start_is_that_of_the_better_restart():
    batch = clips(people=8)
    guides = guides_of(batch)
    attack = FNA(ThreatModel(eps=4.0), Recipe("sign", steps=3, step_size=1.0))
    result = attack.run(features_of, batch, guides)
    torch.testing.assert_close(result.start, attack.objective(guides.clean, guides))
    noisy = FNA(ThreatModel(eps=4.0), Recipe("sign", 0, random_start=True, restarts=3))
    result = noisy.run(features_of, batch, guides)
    assert torch.equal(result.start, result.objective)


def test_a_margin_above_0_is_a_failed_rank_1_of_the_evaluator():
    batch = clips(people=8)
    guides = guides_of(batch)
    outcome = RankMargin(ThreatModel(eps=4.0), restarts(True)).run(features_of, batch, guides)
    features = features_of(outcome.batch)
    for row in range(len(features)):
        gallery = guides.gallery[guides.valid[row]], guides.gallery_pids[guides.valid[row]]
        ids = batch["targets"][row : row + 1], gallery[1]
        cameras = torch.zeros(1), torch.zeros(len(gallery[1]))
        ranking = evaluate_ranking(
            *sides_of(features[row : row + 1], gallery[0], *ids, *cameras),
            junk="none",
            metric="cosine",
        )
        assert (ranking.cmc[0] == 0) == (outcome.margin[row] > 0)


def test_sma_without_a_random_start_is_reported_not_called_robust(caplog):
    batch = clips()
    attack = SMA(ThreatModel(), Recipe(steps=15))
    with caplog.at_level(logging.WARNING):
        outcome = attack.run(features_of, batch, guides_of(batch))
    assert outcome.zero_gradient.all() and torch.equal(outcome.batch["images"], batch["images"])
    assert "SMA: the gradient at the start is 0 for 10 of 10 rows" in caplog.text


def test_no_image_is_left_untouched_because_a_classifier_would_call_it_successful():
    """ART's APGD filters by the argmax of logits, which a loss on guides does not have."""
    batch = clips()
    guides = guides_of(batch)
    attack = FNA(ThreatModel(), Recipe("apgd", steps=10, random_start=True))
    moved = (attack.run(features_of, batch, guides).images - batch["images"]).abs()
    assert (moved.flatten(1).mean(dim=1) > 4).all()


def test_odfa_turns_the_feature_away():
    batch, threat = clips(), ThreatModel(eps=32.0)
    guides = guides_of(batch)
    attacked = features_of(ODFA(threat, ODFA.published(32.0)).run(features_of, batch, guides).batch)
    assert torch.cosine_similarity(attacked, guides.clean).mean() < 0.7

    class Flipped(ODFA):
        objective = staticmethod(lambda features, guides: -odfa(features, guides))

    held = features_of(Flipped(threat, ODFA.published(32.0)).run(features_of, batch, guides).batch)
    assert torch.cosine_similarity(held, guides.clean).mean() > 0.99


def test_published_recipes_are_those_of_the_papers():
    assert [ODFA.published(eps).steps for eps in (2, 8, 16)] == [2, 10, 20]
    assert MetricFGSM.published(5.0) == Recipe(steps=1, step_size=5.0)
    steps = {name: ATTACK.get(name).published(5.0).steps for name in known(ATTACK)}
    assert (steps["MetricIFGSM"], steps["MetricMIFGSM"], steps["SMA"], steps["FNA"]) == (
        6,
        6,
        15,
        15,
    )
    assert SMA.published(8.0).random_start


@pytest.mark.slow
def test_a_budget_of_0_changes_nothing():
    batch = clips(people=3)
    guides = guides_of(batch)
    for name in known(ATTACK):
        attack = attack_named(name, "ATTACK.EPS", 0.0, "ATTACK.STEPS", 3)
        attack = attack.prepare(features_of, [(batch, guides)])
        assert torch.equal(attack.run(features_of, batch, guides).images, batch["images"])


def test_the_config_overrides_the_recipe_and_0_does_not():
    assert attack_named("SMA").recipe == SMA.published(8.0)
    opts = ("ATTACK.STEPS", 3, "ATTACK.STEP_SIZE", 0.5, "ATTACK.RESTARTS", 2, "ATTACK.EOT", 4)
    expected = Recipe(steps=3, step_size=0.5, random_start=True, restarts=2, eot=4)
    assert attack_named("SMA", *opts).recipe == expected
    assert build_attack("SMA-strong", setup_cfg(), "").recipe == SMA.strong(8.0)


@pytest.mark.parametrize(
    ("key", "value"),
    [("STEPS", -1), ("STEP_SIZE", -0.5), ("RESTARTS", -1), ("EOT", -1), ("SEED", -1)],
)
@pytest.mark.parametrize("name", ["FNA", "Square", "UAP-strong"])
def test_a_number_below_0_is_refused(name, key, value):
    with pytest.raises(InputError, match=rf"^ATTACK\.{key}: {value}; expected 0 (or more|to \d+)$"):
        attack_named(name, f"ATTACK.{key}", value)


def test_an_unknown_attack_names_the_key_and_the_nearest():
    with pytest.raises(InputError, match=r"ATTACK\.NAMES: no ATTACK is named 'SMAA'; known: SMA"):
        attack_named("SMAA-strong")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["VVIBaseline", "Baseline"])
def test_a_network_is_attacked_and_left_as_it_was(name):
    model, cfg = built(name)
    batch = batch_for(name)
    adapter = Adapter(model, cfg)
    with torch.no_grad():
        clean = adapter(batch)
    ids = batch["targets"], batch["targets"], batch["camids"], batch["camids"]
    guides = Guides.from_features(clean, clean, *ids, metric=cfg.TEST.METRIC)
    kept, before = copied(batch), everything(model)
    attacked = FNA(ThreatModel(), Recipe(steps=4, step_size=3.0)).run(adapter, batch, guides).batch
    assert everything(model) == before
    assert differing_entries(kept, batch) == []
    assert attacked["images"].shape == batch["images"].shape
    delta = attacked["images"] - batch["images"]
    assert delta.abs().max() <= 8 + 1e-4 and delta.abs().mean() > 4
    with torch.no_grad():
        margins = [rank_margin(adapter(some), guides) for some in (batch, attacked)]
    assert margins[1].mean() > margins[0].mean()


def test_a_model_that_draws_is_attacked_the_same_way_twice():
    batch = clips()

    def drawing(some):
        return features_of(some) + 0.1 * torch.randn(len(some["images"]), 6)

    attack = FNA(ThreatModel(), Recipe(steps=5, eot=3))
    state = torch.get_rng_state()
    twice = [attack.run(drawing, batch, guides_of(batch)).images for _ in range(2)]
    assert torch.equal(*twice) and torch.equal(torch.get_rng_state(), state)
