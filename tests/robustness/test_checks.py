"""The checks judge models of which everybody knows how robust they are, and harnesses that err."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from plugins.attacks import Attack, PerturbationSet, ThreatModel
from plugins.attacks.per_query import SMA
from plugins.errors import InputError
from plugins.robustness.checks import (
    FAIL,
    PASS,
    SKIPPED,
    WARN,
    generality,
    harness,
    masking,
    retrieval,
    run_checks,
    stamp,
    strength,
)
from plugins.robustness.checks.catalogue import CHECKS, tell_skipped
from plugins.robustness.checks.verdict import (
    ESTABLISHED,
    NOT_ESTABLISHED,
    Verdict,
    at_least,
    at_most,
)
from plugins.robustness.lab import MEASURE, Lab, rank_1
from plugins.robustness.scenes import Scene
from plugins.robustness.threats import Noise, equal_volume_radius
from tests.helpers.attack_toys import clips, features_of, guides_of
from tests.robustness.small import render_market
from tests.robustness.subjects import (
    TINY,
    Constant,
    Quantised,
    Randomised,
    Undefended,
    evaluated,
    lab_of,
    tiny_cfg,
)

torch.set_num_threads(1)


@pytest.fixture(scope="module")
def colourful(tmp_path_factory):
    """A FASTREID_DATASETS folder with people in clothes that tell them apart."""
    root = tmp_path_factory.mktemp("colourful")
    return render_market(root, test_ids=6, difficulty=0.0, nuisance=0.0)


@pytest.fixture(autouse=True)
def datasets_root(colourful, monkeypatch):
    monkeypatch.setenv("FASTREID_DATASETS", str(colourful))


def judge(model, folder, *opts):
    verdicts = {check.name: verdict for check, verdict in run_checks(lab_of(model, folder, *opts))}
    return verdicts, stamp(verdict.state for verdict in verdicts.values())


def failed(verdicts):
    return {name for name, verdict in verdicts.items() if verdict.state == FAIL}


def test_an_undefended_model_falls_and_its_figures_stand(tmp_path):
    lab = lab_of(Undefended(), tmp_path)
    verdicts = {check.name: verdict for check, verdict in run_checks(lab)}
    assert rank_1(lab.clean) > 50
    assert rank_1(lab.worst()) < 5
    assert failed(verdicts) == set()
    harness_checks = [verdict.state for name, verdict in verdicts.items() if name in HARNESS]
    assert harness_checks == [PASS] * len(HARNESS)


HARNESS = {
    "zero budget", "budget", "same forward", "untouched", "gradient", "moved", "long enough",
    "rises",
}  # fmt: skip


def test_a_quantised_input_is_called_masked(tmp_path):
    verdicts, said = judge(Quantised(), tmp_path)
    masked = {"gradient", "zero gradients", "better than noise", "better than squares"}
    assert masked | {"falls to chance"} <= failed(verdicts)
    assert "BPDA" in verdicts["gradient"].sentence
    assert said == NOT_ESTABLISHED


def test_of_a_randomised_model_expectation_over_transformation_is_asked(tmp_path):
    verdicts, said = judge(Randomised(), tmp_path)
    assert failed(verdicts) == {"deterministic"} and said == NOT_ESTABLISHED
    assert "ATTACK.EOT 10" in verdicts["deterministic"].sentence
    assert verdicts["same forward"].state == verdicts["gradient"].state == SKIPPED
    asked = lab_of(Randomised(), tmp_path / "asked", "ATTACK.EOT", "10")
    assert masking.deterministic(asked).state == WARN


def test_a_constant_embedding_is_rejected_and_its_ties_are_misses(tmp_path):
    verdicts, said = judge(Constant(), tmp_path)
    assert {"collapse", "ties", "useful", "zero gradients", "gradient"} <= failed(verdicts)
    assert verdicts["useful"].figure < 0 and said == NOT_ESTABLISHED


def test_a_twin_without_the_defence_gives_it_away(tmp_path):
    twin = evaluated(tiny_cfg(tmp_path), Undefended())
    masked = lab_of(Quantised(), tmp_path / "masked", twin=twin)
    assert masking.better_than_transfer(masked).state == FAIL
    # On the twin itself the images are its own.
    itself = lab_of(Undefended(), tmp_path / "itself", twin=twin)
    assert masking.better_than_transfer(itself).state == PASS
    robust = evaluated(tiny_cfg(tmp_path), Quantised())
    wrong = lab_of(Undefended(), tmp_path / "wrong", twin=robust)
    assert "no undefended one" in masking.better_than_transfer(wrong).sentence


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


class Straight(Quantised):
    """Rounds, and lies about its gradient."""

    def prepare(self, images):
        return images.flip(-1) + (super().prepare(images) - images.flip(-1)).detach()


@pytest.mark.parametrize(
    ("model", "check"),
    [
        (Meddler, harness.untouched),
        (Crowd, harness.same_forward),
        (Straight, harness.gradient),
    ],
)
def test_harnesses_that_err_fail(model, check, tmp_path):
    assert check(lab_of(model(), tmp_path)).state == FAIL
    assert check(lab_of(Undefended(), tmp_path / "right")).state == PASS


def test_an_attack_cut_short_is_found_out(tmp_path):
    weak = lab_of(Undefended(), tmp_path / "weak", "ATTACK.STEPS", "1", "ATTACK.STEP_SIZE", "0.1")
    assert harness.long_enough(weak).state == WARN
    assert harness.moved(weak).state == FAIL


def test_the_figure_of_seeds_is_their_range(tmp_path):
    lucky = lab_of(Undefended(), tmp_path, "ATTACK.EPS", "0.5", level=replace(TINY, seeds=8))
    verdict = strength.other_seeds(lucky)
    figures = [float(word) for word in verdict.sentence.split(": ")[1].rstrip(" %").split(", ")]
    assert len(figures) == 9 and figures[0] == round(rank_1(lucky.probe(MEASURE)), 1)
    assert verdict.figure == pytest.approx(max(figures) - min(figures))


def test_hop_skip_jump_is_tried_on_the_probes(tmp_path):
    pytest.importorskip("foolbox")
    some = replace(TINY, hops=2)
    verdict = masking.better_than_hops(lab_of(Undefended(), tmp_path, level=some))
    assert verdict.state == PASS and "of 2 queries" in verdict.sentence
    masked = masking.better_than_hops(lab_of(Quantised(), tmp_path / "masked", level=some))
    assert masked.state == FAIL
    several = lab_of(Undefended(), tmp_path, "TEST.CLIPS", "2", level=some)
    assert "TEST.CLIPS 1" in masking.better_than_hops(several).sentence
    quick = masking.better_than_hops(lab_of(Undefended(), tmp_path))
    assert quick.state == SKIPPED and "--level full" in quick.sentence


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
    lab = lab_of(Detached(height, width), tmp_path, "INPUT.SIZE_TEST", f"[{height},{width}]")
    assert harness.gradient(lab).state == FAIL


def test_an_attack_beyond_its_budget_is_found_out_whichever_it_is(tmp_path, monkeypatch):
    def twice(attack, *arguments):
        threat = replace(attack.threat, eps=2 * attack.threat.eps)
        return Attack.run(SMA(threat, attack.recipe), *arguments)

    monkeypatch.setattr(SMA, "run", twice)
    verdict = harness.budget(lab_of(Undefended(), tmp_path))
    assert verdict.state == FAIL and verdict.figure == pytest.approx(8, abs=0.1)
    assert "perturbation of SMA" in verdict.sentence


@pytest.mark.parametrize(
    "threat",
    [ThreatModel(frames="sparse"), ThreatModel(frames="shared"), ThreatModel(infrared="tied")],
)
def test_noise_that_leaves_frames_or_channels_is_outside(threat):
    batch = clips()
    noise = PerturbationSet(ThreatModel(), batch).random_point(0, 0)
    inside = Noise(threat, draws=3).run(features_of, batch, guides_of(batch)).batch["images"]
    lab = SimpleNamespace(threat=threat)
    assert harness.outside(lab, batch, noise) > 1
    assert harness.outside(lab, batch, inside) < 1e-3
    assert not torch.equal(inside, batch["images"])


@pytest.mark.parametrize("model", [Quantised, Undefended])
def test_noise_alone_is_no_attack(model, tmp_path):
    steps = () if model is Quantised else ("ATTACK.STEP_SIZE", "1e-6")
    lab = lab_of(model(), tmp_path, *steps)
    assert harness.moved(lab).state == harness.rises(lab).state == FAIL


def test_a_model_that_draws_is_scored_by_other_draws_than_the_attacker_saw(tmp_path):
    drawn = []

    class Noting(Randomised):
        def prepare(self, images):
            drawn.append(float(torch.rand(())))
            return super().prepare(images)

    lab = lab_of(Noting(), tmp_path)
    drawn.clear()
    lab.run("FNA", lab.attack("FNA"))
    assert len(drawn) > 10 and len(set(drawn)) == len(drawn)


def test_a_universal_delta_repeats_leaves_random_states_and_is_billed(tmp_path):
    runs = []
    for name in "ab":
        torch.manual_seed(0)  # of the clean features
        lab = lab_of(Randomised(), tmp_path / name, "ATTACK.STEPS", "4", "ATTACK.RESTARTS", "3")
        before = torch.get_rng_state()
        runs.append(lab.run("UAP", lab.attack("UAP")))
        assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(runs[0].features, runs[1].features)
    rows = len(lab.probes)
    assert (runs[0].forwards, runs[0].backwards) == ((4 + 2) * rows, 4 * rows)


def test_other_rules_are_another_search(tmp_path):
    lab = lab_of(Undefended(), tmp_path)
    other = Scene(lab.scene.evaluator, "Q2G")
    assert other.fingerprint == lab.scene.fingerprint
    for change in ({"junk": "none"}, {"gallery_rows": lab.search.gallery_rows[1:]}):
        other = Scene(lab.scene.evaluator, "Q2G")
        other.__dict__["search"] = replace(lab.search, **change)
        assert other.fingerprint != lab.scene.fingerprint


def test_a_few_queries_are_not_compared(tmp_path):
    lab = lab_of(Quantised(), tmp_path, "ATTACK.QUERIES", "7")
    verdicts = {check.name: verdict for check, verdict in run_checks(lab)}
    for name in ("single step", "more restarts", "better than noise", "falls to chance"):
        assert verdicts[name].state == SKIPPED and "7 queries" in verdicts[name].sentence
    assert verdicts["zero gradients"].state == FAIL


@pytest.mark.parametrize(("asked", "made"), [("3", 10), ("12", 12)])
def test_steps_and_restarts_of_the_config_make_the_measure_no_weaker(asked, made, tmp_path):
    lab = lab_of(Undefended(), tmp_path, "ATTACK.STEPS", asked, "ATTACK.RESTARTS", "2")
    recipe = lab.attack(MEASURE).recipe
    assert (recipe.steps, recipe.restarts) == (made, 2)
    assert "with 4 starts than with 2" in strength.more_restarts(lab).sentence
    assert f"after {2 * made} steps than {made}" in strength.more_steps(lab).sentence


def test_what_a_twin_gave_is_not_made_again(tmp_path):
    twin = evaluated(tiny_cfg(tmp_path), Undefended())
    first = lab_of(Undefended(), tmp_path, twin=twin).transferred()
    again = lab_of(Undefended(), tmp_path, twin=twin).transferred()
    assert [one.seconds for one in first] == [one.seconds for one in again]


class RightHanded(Undefended):
    """Sees the left half of an image only, so that mirror images are other images to it."""

    def prepare(self, images):
        return images * (torch.arange(images.shape[-1]) < images.shape[-1] // 2)


def test_mirror_images_are_another_search_and_attacked_anew(tmp_path):
    lab = lab_of(RightHanded(), tmp_path, "ATTACK.EPS", "1.0")
    own, before = lab.probe(MEASURE), len(lab.all_outcomes())
    verdict = generality.mirrors(lab)
    again = lab_of(RightHanded(), tmp_path, "ATTACK.EPS", "1.0", "TEST.FLIP.ENABLED", "True")
    assert len(lab.all_outcomes()) == before + 1
    assert f"Rank-1 {rank_1(again.probe(MEASURE)):.1f} % with mirror images" in verdict.sentence
    back = generality.mirrors(again).sentence
    assert f"{rank_1(own):.1f} % without mirror images" in back


def test_another_norm_has_a_ball_of_the_same_volume_both_ways(tmp_path):
    lab = lab_of(Undefended(), tmp_path)
    assert "within l2 eps 152.2" in generality.other_norm(lab).sentence
    eps = str(equal_volume_radius(8.0, 3 * 32 * 16))
    back = lab_of(Undefended(), tmp_path, "ATTACK.NORM", "l2", "ATTACK.EPS", eps)
    assert "within linf eps 8, " in generality.other_norm(back).sentence


def test_re_ranking_is_skipped_or_scored(tmp_path):
    assert (
        "TEST.RERANK.ENABLED True" in generality.reranking(lab_of(Undefended(), tmp_path)).sentence
    )
    lab = lab_of(Undefended(), tmp_path, "TEST.RERANK.ENABLED", "True", "TEST.RERANK.LAMBDA", "1.0")
    # Lambda 1 is the plain distance.
    clean = rank_1(lab.clean)
    verdict = generality.reranking(lab)
    assert verdict.figure == 0 and f"re-ranked, clean {clean:.1f} %" in verdict.sentence


def test_other_trainings_are_asked_for_and_then_compared(tmp_path):
    lab = lab_of(Undefended(), tmp_path)
    verdict = generality.trainings(lab)
    assert verdict.state == SKIPPED and "--trainings WEIGHTS" in verdict.sentence
    others = [evaluated(tiny_cfg(tmp_path), model) for model in (Undefended(), Quantised())]
    own = evaluated(tiny_cfg(tmp_path), Undefended())
    lab = Lab(own, "Q2G", TINY, tmp_path / "records", trainings=others)
    verdict = generality.trainings(lab)
    assert verdict.state == WARN and verdict.figure > 10, "one of the three masks its gradient"
    assert "of 3 trainings: 0.0, 0.0, " in verdict.sentence


def test_people_of_the_training_set_are_searched(tmp_path):
    lab = lab_of(Undefended(), tmp_path)
    seen = lab.scene.seen()
    train = {item[0] for item in seen.evaluator.items}
    assert train and all("bounding_box_train" in path for path in train)
    assert "of people seen in training" in generality.seen_people(lab).sentence


@pytest.mark.parametrize(
    "check",
    [
        generality.mirrors,
        generality.gallery_size,
        generality.seen_people,
        generality.other_norm,
        generality.patch,
        generality.light,
    ],
)
def test_a_check_without_clean_accuracy_is_skipped_with_its_reason(tmp_path, monkeypatch, check):
    lab = lab_of(Undefended(), tmp_path)
    monkeypatch.setattr(generality, "rank_1", lambda scores: 0.0)
    verdict = check(lab)
    assert verdict.state == SKIPPED and verdict.sentence.startswith("clean Rank-1 is 0 %")


def test_attacked_images_are_not_saved_into_the_data_set(tmp_path, colourful):
    inside = next(colourful.iterdir()) / "attacked"
    cfg = tiny_cfg(tmp_path, "TEST.ATTACKS", "['FNA']", "ATTACK.SAVE_IMAGES", str(inside))
    with pytest.raises(InputError, match=r"SAVE_IMAGES .*: in .*the folder of the data set"):
        evaluated(cfg, Undefended())
    assert not inside.exists()


def test_checks_that_need_more_queries_are_told_before_any_attack(tmp_path, caplog):
    few = lab_of(Undefended(), tmp_path, "ATTACK.QUERIES", "4")
    tell_skipped(few)
    (record,) = [r for r in caplog.records if r.levelname == "WARNING"]
    short = sum(check.queries > 4 for check in CHECKS)
    assert record.getMessage().startswith(f"{short} of {len(CHECKS)} checks need up to ")
    assert not (tmp_path / "records").exists()


def test_few_people_make_a_wide_interval(tmp_path):
    lab = lab_of(Undefended(), tmp_path, "ATTACK.EPS", "0.5")
    assert retrieval.people(lab).state == WARN


@pytest.mark.parametrize("queries", ["1", "4"])
def test_a_few_people_who_are_all_alike_are_not_enough(tmp_path, queries):
    lab = lab_of(Undefended(), tmp_path, "ATTACK.EPS", "32.0", "ATTACK.QUERIES", queries)
    assert not lab.worst().hit.any()
    found = retrieval.people(lab)
    assert found.state == WARN and found.figure > 40


def test_the_same_attack_is_made_once_and_after_a_stop_not_again(tmp_path):
    first = lab_of(Undefended(), tmp_path)
    done = first.outcomes(MEASURE)
    assert first.outcomes(MEASURE) is done and len(first.all_outcomes()) == 1
    part = first.probe(MEASURE)
    assert len(first.all_outcomes()) == 1
    assert torch.equal(part.margin, done.margin[torch.isin(done.rows, first.probes)])
    again = lab_of(Undefended(), tmp_path).outcomes(MEASURE)
    assert again.seconds == done.seconds and torch.equal(again.features, done.features)
    other = lab_of(Quantised(), tmp_path).outcomes(MEASURE)
    assert not torch.equal(other.features, done.features)


@pytest.mark.parametrize(
    ("figure", "low", "high"),
    [(0.5, PASS, FAIL), (1.0, PASS, FAIL), (2.0, WARN, WARN), (5.0, WARN, PASS), (6.0, FAIL, PASS)],
)
def test_thresholds_are_part_of_the_better_side(figure, low, high):
    assert at_most(figure, 1, 5, "", "").state == low
    assert at_least(figure, 5, 2, "", "").state == high


def test_one_failure_is_enough_for_the_stamp():
    assert stamp([PASS, WARN, SKIPPED]) == ESTABLISHED
    assert stamp([PASS, FAIL]) == NOT_ESTABLISHED
    with pytest.raises(AssertionError):
        Verdict(PASS, "without a figure")
