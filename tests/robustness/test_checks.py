"""The checks judge models of which everybody knows how robust they are, and harnesses that err."""

import re
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from plugins.attacks import Attack, PerturbationSet, ThreatModel
from plugins.attacks.per_query import SMA
from plugins.errors import InputError
from plugins.registry import ATTACK
from plugins.robustness import probes
from plugins.robustness.checks import (
    CHECKS,
    FAIL,
    PASS,
    SKIPPED,
    WARN,
    clean,
    generality,
    harness,
    masking,
    retrieval,
    run_checks,
    strength,
    warn_of_skipped,
)
from plugins.robustness.checks.verdict import Verdict, at_least, at_most
from plugins.robustness.directions import EvaluatedDirection
from plugins.robustness.levels import LEVELS, REFERENCE_ATTACK, level_with
from plugins.robustness.probes import RandomPerturbation, equal_volume_radius
from plugins.robustness.results import rank_1
from plugins.robustness.runner import AttackRunner
from tests.helpers.attack_toys import clips, features_of, guides_of
from tests.helpers.robust_subjects import (
    TINY,
    Constant,
    Quantized,
    Randomized,
    Undefended,
    evaluated,
    runner_of,
    tiny_cfg,
)
from tests.helpers.small_market import render_market

torch.set_num_threads(1)


@pytest.fixture(scope="module")
def colorful(tmp_path_factory):
    """A FASTREID_DATASETS folder with people in clothes that tell them apart."""
    root = tmp_path_factory.mktemp("colorful")
    return render_market(root, test_ids=6, difficulty=0.0, nuisance=0.0)


@pytest.fixture(autouse=True)
def datasets_root(colorful, monkeypatch):
    monkeypatch.setenv("FASTREID_DATASETS", str(colorful))


def judge(model, folder, *opts):
    return {check.id: verdict for check, verdict in run_checks(runner_of(model, folder, *opts))}


def assert_plain(verdicts):
    """Each explanation is a whole sentence with its value in it."""
    for name, verdict in verdicts.items():
        text, value = verdict.explanation, verdict.value
        assert text[0].isupper() and text.endswith("."), (name, text)
        if value is not None:
            forms = [f"{value:{form}}" for form in (".3g", ".1f", ".2f", ".4f", ".2g")]
            forms.append(f"{100 * value:.1f} %")
            assert any(form in text for form in forms), (name, value, text)


def failed(verdicts):
    return {name for name, verdict in verdicts.items() if verdict.state == FAIL}


@pytest.mark.slow
def test_an_undefended_model_falls_and_its_figures_stand(tmp_path):
    runner = runner_of(Undefended(), tmp_path)
    verdicts = {check.id: verdict for check, verdict in run_checks(runner)}
    assert rank_1(runner.clean_scores) > 50
    assert rank_1(runner.worst_scores()) < 5
    assert failed(verdicts) == set()
    harness_checks = [verdict.state for name, verdict in verdicts.items() if name in HARNESS]
    assert harness_checks == [PASS] * len(HARNESS)
    assert_plain(verdicts)


HARNESS = {
    "zero_budget", "within_budget", "same_features", "no_side_effects", "right_gradient",
    "budget_used", "reach", "objective_rises",
}  # fmt: skip


@pytest.mark.slow
def test_queries_that_are_left_once_they_fail_change_no_verdict(tmp_path, monkeypatch):
    short = runner_of(Undefended(), tmp_path / "short")
    verdicts = dict(run_checks(short))
    monkeypatch.setattr(AttackRunner, "breaking", AttackRunner.make_attack)
    long = runner_of(Undefended(), tmp_path / "long")
    assert dict(run_checks(long)) == verdicts
    gradients = [sum(stats.backwards for stats in runner.all_stats()) for runner in (short, long)]
    assert gradients[0] < 0.5 * gradients[1]


@pytest.mark.slow
def test_a_quantised_input_is_called_masked(tmp_path):
    verdicts = judge(Quantized(), tmp_path)
    masked = {"right_gradient", "zero_gradients", "stronger_than_noise", "stronger_than_square"}
    assert masked | {"chance_at_large_budget"} <= failed(verdicts)
    assert "BPDA" in verdicts["right_gradient"].explanation
    assert_plain(verdicts)


@pytest.mark.slow
def test_of_a_randomised_model_expectation_over_transformation_is_asked(tmp_path):
    verdicts = judge(Randomized(), tmp_path)
    assert failed(verdicts) == {"deterministic"}
    assert "ATTACK.EOT 10" in verdicts["deterministic"].explanation
    assert verdicts["same_features"].state == verdicts["right_gradient"].state == SKIPPED
    asked = runner_of(Randomized(), tmp_path / "asked", "ATTACK.EOT", "10")
    assert masking.deterministic(asked).state == WARN


@pytest.mark.slow
def test_a_constant_embedding_is_rejected_and_its_ties_are_misses(tmp_path):
    verdicts = judge(Constant(), tmp_path)
    assert {
        "feature_collapse",
        "ties",
        "clean_accuracy",
        "zero_gradients",
        "right_gradient",
    } <= failed(verdicts)
    assert verdicts["clean_accuracy"].value < 0


@pytest.mark.slow
def test_a_twin_without_the_defence_gives_it_away(tmp_path):
    undefended = evaluated(tiny_cfg(tmp_path), Undefended())
    masked = runner_of(Quantized(), tmp_path / "masked", undefended=undefended)
    assert masking.stronger_than_transfer(masked).state == FAIL
    # On the undefended model itself the images are its own.
    itself = runner_of(Undefended(), tmp_path / "itself", undefended=undefended)
    assert masking.stronger_than_transfer(itself).state == PASS
    robust = evaluated(tiny_cfg(tmp_path), Quantized())
    wrong = runner_of(Undefended(), tmp_path / "wrong", undefended=robust)
    assert "it is not undefended" in masking.stronger_than_transfer(wrong).explanation


class Meddler(Undefended):
    """Changes a buffer whenever it is asked, behind the back of its attacker."""

    def forward(self, batch):
        self.grain.data.mul_(0.999)
        return super().forward(batch)


class Crowd(Undefended):
    """Its features depend on who else is in the batch."""

    def forward(self, batch):
        features = super().forward(batch)
        return features + features.mean(dim=0)


class Straight(Quantized):
    """Rounds, and lies about its gradient."""

    def prepare(self, images):
        return images.flip(-1) + (super().prepare(images) - images.flip(-1)).detach()


@pytest.mark.parametrize(
    ("model", "check"),
    [
        (Meddler, harness.no_side_effects),
        (Crowd, harness.same_features),
        (Straight, harness.right_gradient),
    ],
)
def test_harnesses_that_err_fail(model, check, tmp_path):
    assert check(runner_of(model(), tmp_path)).state == FAIL
    assert check(runner_of(Undefended(), tmp_path / "right")).state == PASS


def test_an_attack_cut_short_is_found_out(tmp_path):
    weak = runner_of(
        Undefended(), tmp_path / "weak", "ATTACK.STEPS", "1", "ATTACK.STEP_SIZE", "0.1"
    )
    assert harness.reach(weak).state == WARN
    assert harness.budget_used(weak).state == FAIL


@pytest.mark.slow
def test_the_figure_of_seeds_is_their_range(tmp_path):
    lucky = runner_of(Undefended(), tmp_path, "ATTACK.EPS", "0.5", level=replace(TINY, seeds=8))
    verdict = strength.other_seeds(lucky)
    figures = [float(word) for word in verdict.explanation.split(": ")[1].rstrip(" %.").split(", ")]
    assert len(figures) == 9 and figures[0] == round(
        rank_1(lucky.run_on_subset(REFERENCE_ATTACK)), 1
    )
    assert verdict.value == pytest.approx(max(figures) - min(figures))


@pytest.mark.slow
def test_hop_skip_jump_is_tried_on_the_probes(tmp_path):
    pytest.importorskip("foolbox")
    some = replace(TINY, hsj_queries=2)
    verdict = masking.stronger_than_hop_skip_jump(runner_of(Undefended(), tmp_path, level=some))
    assert verdict.state == PASS and "of 2 queries;" in verdict.explanation
    masked = masking.stronger_than_hop_skip_jump(
        runner_of(Quantized(), tmp_path / "masked", level=some)
    )
    assert masked.state == FAIL
    several = runner_of(Undefended(), tmp_path, "TEST.CLIPS", "2", level=some)
    assert "TEST.CLIPS 1" in masking.stronger_than_hop_skip_jump(several).explanation
    quick = masking.stronger_than_hop_skip_jump(runner_of(Undefended(), tmp_path))
    assert quick.state == SKIPPED and "--level full" in quick.explanation


class Detached(Undefended):
    """Shows its attacker a faint part of what it does."""

    def __init__(self, height, width):
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        shape = (2, 3 * height * width, 8)
        self.seen, self.hidden = torch.randn(shape, generator=generator) / 1e3

    def forward(self, batch):
        pixels = batch["images"].flatten(1)
        return (pixels @ self.hidden).detach() + 0.1 * pixels @ self.seen


@pytest.mark.parametrize(("height", "width"), [(32, 16), (256, 128)])
def test_a_gradient_of_a_part_is_found_out_at_any_size(height, width, tmp_path):
    runner = runner_of(Detached(height, width), tmp_path, "INPUT.SIZE_TEST", f"[{height},{width}]")
    assert harness.right_gradient(runner).state == FAIL


@pytest.mark.slow
def test_an_attack_beyond_its_budget_is_found_out_whichever_it_is(tmp_path, monkeypatch):
    def twice(attack, *arguments):
        threat = replace(attack.threat, eps=2 * attack.threat.eps)
        return Attack.run(SMA(threat, attack.recipe), *arguments)

    monkeypatch.setattr(SMA, "run", twice)
    verdict = harness.within_budget(runner_of(Undefended(), tmp_path))
    assert verdict.state == FAIL and verdict.value == pytest.approx(8, abs=0.1)
    assert "gray levels (SMA)." in verdict.explanation


@pytest.mark.parametrize(
    "threat",
    [ThreatModel(frames="sparse"), ThreatModel(frames="shared"), ThreatModel(infrared="tied")],
)
def test_noise_that_leaves_frames_or_channels_is_outside(threat):
    batch = clips()
    noise = PerturbationSet(ThreatModel(), batch).random_point(0, 0)
    inside = (
        RandomPerturbation(threat, samples=3)
        .run(features_of, batch, guides_of(batch))
        .batch["images"]
    )
    runner = SimpleNamespace(threat=threat)
    assert harness.outside(runner, batch, noise) > 1
    assert harness.outside(runner, batch, inside) < 1e-3
    assert not torch.equal(inside, batch["images"])


@pytest.mark.parametrize("model", [Quantized, Undefended])
def test_noise_alone_is_no_attack(model, tmp_path):
    # These steps are so small that the objective rises by one rounding.
    steps = () if model is Quantized else ("ATTACK.STEP_SIZE", "1e-6")
    runner = runner_of(model(), tmp_path, *steps)
    assert harness.budget_used(runner).state == harness.objective_rises(runner).state == FAIL


def test_a_model_that_draws_is_scored_by_other_draws_than_the_attacker_saw(tmp_path):
    drawn = []

    class Noting(Randomized):
        def prepare(self, images):
            drawn.append(float(torch.rand(())))
            return super().prepare(images)

    runner = runner_of(Noting(), tmp_path)
    drawn.clear()
    runner.run("FNA", runner.make_attack("FNA"))
    assert len(drawn) > 10 and len(set(drawn)) == len(drawn)


def test_a_universal_delta_repeats_leaves_random_states_and_is_billed(tmp_path):
    runs = []
    for name in "ab":
        torch.manual_seed(0)  # of the clean features
        runner = runner_of(
            Randomized(), tmp_path / name, "ATTACK.STEPS", "4", "ATTACK.RESTARTS", "3"
        )
        before = torch.get_rng_state()
        runs.append(runner.run("UAP", runner.make_attack("UAP")))
        assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(runs[0].features, runs[1].features)
    rows = len(runner.subset)
    assert (runs[0].forwards, runs[0].backwards) == ((4 + 2) * rows, 4 * rows)


def test_other_rules_are_another_search(tmp_path):
    runner = runner_of(Undefended(), tmp_path)
    other = EvaluatedDirection(runner.direction.evaluator, "Q2G")
    assert other.fingerprint == runner.direction.fingerprint
    for change in ({"junk": "none"}, {"gallery_rows": runner.task.gallery_rows[1:]}):
        other = EvaluatedDirection(runner.direction.evaluator, "Q2G")
        other.__dict__["task"] = replace(runner.task, **change)
        assert other.fingerprint != runner.direction.fingerprint


def test_what_an_attack_read_from_its_config_holds_in_a_report(tmp_path):
    runner = runner_of(Undefended(), tmp_path, "DEFENSE.GOAT.POSITIVES", "1")
    attack = runner.make_attack("GOAT", eps=2.0, steps=3)
    assert (attack.positives, attack.threat.eps, attack.recipe.steps) == (1, 2.0, 3)
    one = runner.run_on_subset("GOAT")
    again = runner_of(Undefended(), tmp_path, "DEFENSE.GOAT.POSITIVES", "4")
    four = again.run_on_subset("GOAT")
    assert not torch.equal(one.features, four.features), "the record of other guides was read"


def test_attacks_of_the_config_join_the_worst_case(tmp_path, monkeypatch):
    names = ["FNA", REFERENCE_ATTACK, "UAP", "FNA-strong"]
    assert level_with("quick", ["FNA", REFERENCE_ATTACK]) == LEVELS["quick"]
    more = level_with("quick", names)
    assert more.attacks == (*LEVELS["quick"].attacks, "UAP", "FNA-strong")
    level = replace(TINY, attacks=(*TINY.attacks, "UAP"))
    runner = runner_of(Undefended(), tmp_path, level=level)
    stats = runner.run_level()
    assert list(stats) == [*level.attacks, REFERENCE_ATTACK]
    worst = runner.worst_scores()
    for each in stats.values():
        assert (worst.ap <= each.ap).all()
    assert harness.within_budget(runner).state == harness.reach(runner).state == PASS
    monkeypatch.setattr(ATTACK.get("UAP"), "both_sides", True)
    both = runner_of(Undefended(), tmp_path / "both", level=level).run_on_all("UAP")
    assert both.backwards > stats["UAP"].backwards, "it learned from one side alone"


@pytest.mark.slow
def test_a_few_queries_are_not_compared(tmp_path):
    runner = runner_of(Quantized(), tmp_path, "ATTACK.QUERIES", "7")
    verdicts = {check.id: verdict for check, verdict in run_checks(runner)}
    for name in ("single_step", "more_restarts", "stronger_than_noise", "chance_at_large_budget"):
        assert verdicts[name].state == SKIPPED and "got 7" in verdicts[name].explanation
    assert verdicts["zero_gradients"].state == FAIL


@pytest.mark.parametrize(("asked", "made"), [("3", 10), ("12", 12)])
def test_steps_and_restarts_of_the_config_make_the_measure_no_weaker(asked, made, tmp_path):
    runner = runner_of(Undefended(), tmp_path, "ATTACK.STEPS", asked, "ATTACK.RESTARTS", "2")
    recipe = runner.make_attack(REFERENCE_ATTACK).recipe
    assert (recipe.steps, recipe.restarts) == (made, 2)
    assert "from 2 to 4 lowers" in strength.more_restarts(runner).explanation
    assert f"Doubling the steps to {2 * made} lowers" in strength.more_steps(runner).explanation


@pytest.mark.slow
def test_what_a_twin_gave_is_not_made_again(tmp_path):
    undefended = evaluated(tiny_cfg(tmp_path), Undefended())
    first = runner_of(Undefended(), tmp_path, undefended=undefended).transferred()
    again = runner_of(Undefended(), tmp_path, undefended=undefended).transferred()
    assert [one.seconds for one in first] == [one.seconds for one in again]


class RightHanded(Undefended):
    """Sees the left half of an image only, so that mirror images are other images to it."""

    def prepare(self, images):
        return images * (torch.arange(images.shape[-1]) < images.shape[-1] // 2)


@pytest.mark.slow
def test_mirror_images_are_another_search_and_attacked_anew(tmp_path):
    runner = runner_of(RightHanded(), tmp_path, "ATTACK.EPS", "1.0")
    own, before = runner.run_on_subset(REFERENCE_ATTACK), len(runner.all_stats())
    verdict = generality.mirrored_images(runner)
    again = runner_of(RightHanded(), tmp_path, "ATTACK.EPS", "1.0", "TEST.FLIP.ENABLED", "True")
    assert len(runner.all_stats()) == before + 1
    assert (
        f": {rank_1(again.run_on_subset(REFERENCE_ATTACK)):.1f} % with mirrored images"
        in verdict.explanation
    )
    back = generality.mirrored_images(again).explanation
    assert f"{rank_1(own):.1f} % without mirrored images" in back


@pytest.mark.slow
def test_another_norm_has_a_ball_of_the_same_volume_both_ways(tmp_path):
    runner = runner_of(Undefended(), tmp_path)
    assert "within l2 eps 152.2" in generality.other_norm(runner).explanation
    eps = str(equal_volume_radius(8.0, 3 * 32 * 16))
    back = runner_of(Undefended(), tmp_path, "ATTACK.NORM", "l2", "ATTACK.EPS", eps)
    assert "within linf eps 8, " in generality.other_norm(back).explanation


def test_re_ranking_is_skipped_or_scored(tmp_path):
    assert (
        "TEST.RERANK.ENABLED True"
        in generality.reranking(runner_of(Undefended(), tmp_path)).explanation
    )
    runner = runner_of(
        Undefended(), tmp_path, "TEST.RERANK.ENABLED", "True", "TEST.RERANK.LAMBDA", "1.0"
    )
    # Lambda 1 is the plain distance.
    clean = rank_1(runner.clean_scores)
    verdict = generality.reranking(runner)
    assert verdict.value == 0 and f"re-ranked (clean {clean:.1f} %)" in verdict.explanation


@pytest.mark.slow
def test_other_trainings_are_asked_for_and_then_compared(tmp_path):
    runner = runner_of(Undefended(), tmp_path)
    verdict = generality.training_seeds(runner)
    assert verdict.state == SKIPPED and "--other-seeds" in verdict.explanation
    own, *others = (
        EvaluatedDirection(evaluated(tiny_cfg(tmp_path), model), "Q2G")
        for model in (Undefended(), Undefended(), Quantized())
    )
    runner = AttackRunner(own, TINY, tmp_path / "records", other_seeds=others)
    verdict = generality.training_seeds(runner)
    assert verdict.state == WARN and verdict.value > 10, "one of the three masks its gradient"
    assert "between 3 training seeds: 0.0, 0.0, " in verdict.explanation


def test_people_of_the_training_set_are_searched(tmp_path):
    runner = runner_of(Undefended(), tmp_path)
    seen = runner.direction.training_people()
    train = {item[0] for item in seen.evaluator.items}
    assert train and all("bounding_box_train" in path for path in train)
    assert "for people seen in training" in generality.training_people(runner).explanation


@pytest.mark.parametrize(
    "check",
    [
        strength.single_step,
        strength.more_steps,
        strength.more_restarts,
        strength.other_seeds,
        strength.step_sizes,
        strength.stronger_than_fna,
        strength.single_attack,
        masking.chance_at_large_budget,
        masking.falls_with_eps,
        generality.mirrored_images,
        generality.gallery_size,
        generality.training_people,
        generality.other_norm,
        generality.patch,
        generality.illumination,
    ],
)
def test_a_check_without_clean_accuracy_is_skipped_with_its_reason(tmp_path, monkeypatch, check):
    runner = runner_of(Undefended(), tmp_path)
    monkeypatch.setattr(clean, "rank_1", lambda scores: 0.0)
    verdict = check(runner)
    assert verdict.state == SKIPPED and verdict.explanation.startswith("Clean Rank-1 is 0 %")
    assert verdict.explanation.endswith(", so an attack has nothing to lower.")


@pytest.mark.parametrize(("eps", "factor", "state"), [("8.0", 1.05, PASS), ("0.01", 20.0, WARN)])
def test_illumination_is_compared_with_the_attack_that_may_be_worse(
    tmp_path, monkeypatch, eps, factor, state
):
    monkeypatch.setattr(probes, "MAX_FACTOR", factor)
    runner = runner_of(Undefended(), tmp_path, "ATTACK.EPS", eps)
    verdict = generality.illumination(runner)
    alone, attacked = (
        float(number) for number in re.findall(r"([\d.]+) % (?:in|under)", verdict.explanation)
    )
    assert verdict.state == state and verdict.value == max(attacked - alone, 0)
    assert (alone > attacked) == (state == PASS)
    assert "in the worst of the measured illumination and 10 others" in verdict.explanation


def test_attacked_images_are_not_saved_into_the_data_set(tmp_path, colorful):
    inside = next(colorful.iterdir()) / "attacked"
    cfg = tiny_cfg(tmp_path, "TEST.ATTACKS", "['FNA']", "ATTACK.SAVE_IMAGES", str(inside))
    with pytest.raises(InputError, match=r"SAVE_IMAGES .*: in .*the folder of the data set"):
        evaluated(cfg, Undefended())
    assert not inside.exists()


def test_checks_that_need_more_queries_are_told_before_any_attack(tmp_path, caplog):
    few = runner_of(Undefended(), tmp_path, "ATTACK.QUERIES", "4")
    warn_of_skipped(few)
    (record,) = [r for r in caplog.records if r.levelname == "WARNING"]
    short = sum(check.queries > 4 for check in CHECKS)
    assert record.getMessage().startswith(f"{short} of {len(CHECKS)} checks need up to ")
    assert not (tmp_path / "records").exists()


@pytest.mark.slow
def test_few_people_make_a_wide_interval(tmp_path):
    runner = runner_of(Undefended(), tmp_path, "ATTACK.EPS", "0.5")
    assert retrieval.enough_people(runner).state == WARN


@pytest.mark.parametrize("queries", ["1", "4"])
def test_a_few_people_who_are_all_alike_are_not_enough(tmp_path, queries):
    runner = runner_of(Undefended(), tmp_path, "ATTACK.EPS", "32.0", "ATTACK.QUERIES", queries)
    assert not runner.worst_scores().hit.any()
    found = retrieval.enough_people(runner)
    assert found.state == WARN and found.value > 40


@pytest.mark.slow
def test_the_same_attack_is_made_once_and_after_a_stop_not_again(tmp_path):
    first = runner_of(Undefended(), tmp_path)
    done = first.run_on_all(REFERENCE_ATTACK)
    assert first.run_on_all(REFERENCE_ATTACK) is done and len(first.all_stats()) == 1
    part = first.run_on_subset(REFERENCE_ATTACK)
    assert len(first.all_stats()) == 1
    assert torch.equal(part.margin, done.margin[torch.isin(done.rows, first.subset)])
    again = runner_of(Undefended(), tmp_path).run_on_all(REFERENCE_ATTACK)
    assert again.seconds == done.seconds and torch.equal(again.features, done.features)
    other = runner_of(Quantized(), tmp_path).run_on_all(REFERENCE_ATTACK)
    assert not torch.equal(other.features, done.features)


@pytest.mark.parametrize(
    ("figure", "low", "high"),
    [(0.5, PASS, FAIL), (1.0, PASS, FAIL), (2.0, WARN, WARN), (5.0, WARN, PASS), (6.0, FAIL, PASS)],
)
def test_thresholds_are_part_of_the_better_side(figure, low, high):
    assert at_most(figure, 1, 5, "", "").state == low
    assert at_least(figure, 5, 2, "", "").state == high


def test_a_verdict_that_is_not_skipped_has_a_value():
    with pytest.raises(AssertionError):
        Verdict(PASS, "A value is missing.")
