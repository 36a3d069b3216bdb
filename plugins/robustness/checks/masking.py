"""Group C: do attacks fail because the model is robust, or because its gradient is masked?

Athalye, Carlini and Wagner, "Obfuscated Gradients Give a False Sense of Security", ICML 2018.
"""

import importlib.util
import itertools

from torch import Tensor

from plugins.robustness.checks.check import FEW, check
from plugins.robustness.checks.clean import needs_clean
from plugins.robustness.checks.strength import TOO_MUCH, gain, tolerance
from plugins.robustness.checks.verdict import FAIL, PASS, WARN, Verdict, at_least, at_most, skipped
from plugins.robustness.levels import REFERENCE_ATTACK
from plugins.robustness.probes import HopSkipJump, RandomPerturbation
from plugins.robustness.results import rank_1
from plugins.robustness.runner import AttackRunner
from plugins.robustness.statistics import chance_of_rank_1

# A budget within which no person could recognize anybody, so that every attack must succeed: in
# gray levels; for L2, whose budget grows with the image, in eps.
FAR_LINF, FAR_L2 = 64.0, 8.0
# Share of queries without a gradient.
NO_GRADIENT, MUCH_NO_GRADIENT = 0.01, 0.05
# Share of queries on which the attack is at least as strong as one without gradients.
LEADS, HARDLY_LEADS = 0.95, 0.75
# Least number of passes that average the gradient of a random model: Athalye et al., section 5.
EOT = 10
# Steps of HopSkipJump, some 2500 passes of a query.
HOPS = 10
# Rank-1 in percent that an undefended model may keep.
BROKEN = 5.0


@check("zero_gradients", "C", "Does every query have a gradient?")
def zero_gradients(runner: AttackRunner) -> Verdict:
    """Judge the share of queries whose gradient is 0 at the start."""
    share = float(runner.run_on_all(REFERENCE_ATTACK).zero_gradient.double().mean())
    explanation = f"Queries with a zero gradient at the start: {100 * share:.1f} %."
    return at_most(share, NO_GRADIENT, MUCH_NO_GRADIENT, "share", explanation)


@check("stronger_than_noise", "C", "Is the attack stronger than random noise?", queries=FEW)
def stronger_than_noise(runner: AttackRunner) -> Verdict:
    """Compare the attack with random noise."""
    attack, samples = runner.make_attack(REFERENCE_ATTACK), runner.level.noise_samples
    probe = RandomPerturbation(runner.threat, samples, attack.seed, attack.recipe.eot)
    noise = runner.run("RandomPerturbation", probe)
    return leads(runner, noise.margin, f"the worst of {samples} noise samples")


@check(
    "stronger_than_square", "C", "Is the attack stronger than random search (Square)?", queries=FEW
)
def stronger_than_square(runner: AttackRunner) -> Verdict:
    """Compare the attack with a random search that sees distances only."""
    if runner.threat.norm != "linf":
        return skipped("The Square attack supports L-inf budgets only.")
    queries = runner.level.square_queries
    square = runner.run_on_subset("Square", steps=queries)
    return leads(runner, square.margin, f"the Square attack ({queries} passes)")


@check(
    "stronger_than_hop_skip_jump",
    "C",
    "Is the attack stronger than a decision-based attack (HopSkipJump)?",
)
def stronger_than_hop_skip_jump(runner: AttackRunner) -> Verdict:
    """Compare the attack with HopSkipJump, which sees only the first item of each list."""
    number = runner.level.hsj_queries
    if not number:
        return skipped("HopSkipJump takes some thousand passes of a query: use --level full.")
    if runner.cfg.TEST.CLIPS != 1:
        return skipped("HopSkipJump supports one clip of an item: set TEST.CLIPS 1.")
    if importlib.util.find_spec("foolbox") is None:
        return skipped("HopSkipJump needs foolbox: pip install foolbox==3.3.4.")
    rows = runner.subset[:: max(len(runner.subset) // number, 1)][:number]
    probe = HopSkipJump(runner.threat, HOPS, runner.cfg.ATTACK.SEED)
    stats = runner.run("HopSkipJump", probe, rows)
    return leads(runner, stats.margin, "HopSkipJump", rows)


@check(
    "stronger_than_transfer",
    "C",
    "Is the attack stronger than transfer from an undefended model?",
    queries=FEW,
)
def stronger_than_transfer(runner: AttackRunner) -> Verdict:
    """Compare the attack with images crafted on an undefended model, on which it must succeed."""
    transfer = runner.transferred()
    if transfer is None:
        return skipped("No undefended model was given: add --undefended WEIGHTS.")
    on_surrogate, carried = transfer
    kept = rank_1(on_surrogate)
    if kept > max(BROKEN, 2 * tolerance(on_surrogate)):
        explanation = (
            f"The undefended model keeps a Rank-1 of {kept:.1f} % under attack: it is not "
            "undefended, or the attack fails."
        )
        return Verdict(FAIL, explanation, kept, "%")
    return leads(runner, carried.margin, "images crafted on the undefended model")


def leads(runner: AttackRunner, margins: Tensor, words: str, rows: Tensor | None = None) -> Verdict:
    """Judge the share of queries on which the attack is at least as strong as another one.

    Args:
        runner: the attacks of the report.
        margins: (R,) rank margins of an attack without the model's gradient.
        words: name of that attack.
        rows: (R,) its rows; None for the whole subset.
    """
    stats = runner.run_on_subset(REFERENCE_ATTACK)
    if rows is not None:
        stats = stats.select(rows)
    ahead = stats.margin >= margins.to(stats.margin)
    share = float(ahead.double().mean())
    kept = 100 - 100 * float((margins > 0).double().mean())
    explanation = (
        f"The attack reaches at least the rank margin of {words} on {100 * share:.1f} % of "
        f"{len(ahead)} queries; Rank-1 is {rank_1(stats):.1f} % under the attack, {kept:.1f} % "
        "under the other."
    )
    return at_least(share, LEADS, HARDLY_LEADS, "share", explanation)


@check(
    "chance_at_large_budget",
    "C",
    "Does Rank-1 drop to chance when the budget is very large?",
    queries=FEW,
)
@needs_clean("subset")
def chance_at_large_budget(runner: AttackRunner) -> Verdict:
    """Compare Rank-1 within a very large budget with that of a random list."""
    eps = large_budget(runner)
    stats = runner.break_subset(REFERENCE_ATTACK, eps=eps)
    chance = 100 * chance_of_rank_1(runner.guides.positives, runner.guides.valid)
    points = max(rank_1(stats) - chance, 0.0)
    passes = tolerance(stats)
    explanation = f"Rank-1 exceeds chance ({chance:.1f} %) by {points:.3g} points at eps {eps:g}."
    return at_most(points, passes, max(TOO_MUCH, 2 * passes), "points", explanation)


@check("falls_with_eps", "C", "Does Rank-1 fall as the budget grows?", queries=FEW)
@needs_clean("subset")
def falls_with_eps(runner: AttackRunner) -> Verdict:
    """Judge the largest rise of Rank-1 from a budget of the curve to the next larger one."""
    stats = [runner.break_subset(REFERENCE_ATTACK, eps=eps) for eps in curve_budgets(runner)]
    smaller, larger = max(
        itertools.pairwise(stats), key=lambda pair: max(rank_1(pair[1]) - rank_1(pair[0]), 0.0)
    )
    return gain(smaller, larger, "Largest rise of Rank-1 between consecutive budgets: {} points")


@check("deterministic", "C", "Is the forward pass deterministic?")
def deterministic(runner: AttackRunner) -> Verdict:
    """Compare two forward passes of one batch."""
    change, eot = runner.forward_change, runner.make_attack(REFERENCE_ATTACK).recipe.eot
    explanation = f"Relative difference of two forward passes: {change:.2g}."
    if runner.deterministic:
        return Verdict(PASS, explanation, change, "relative")
    if eot >= EOT:
        explanation += f" The pass is random; gradients are averaged over {eot} passes."
        return Verdict(WARN, explanation, change, "relative")
    explanation += f" The pass is random: attack its expectation, ATTACK.EOT {EOT} or more."
    return Verdict(FAIL, explanation, change, "relative")


def large_budget(runner: AttackRunner) -> float:
    """Return a budget far beyond that of the threat model."""
    beyond = FAR_LINF if runner.threat.norm == "linf" else FAR_L2 * runner.threat.eps
    return max(beyond, 2 * runner.threat.eps)


def curve_budgets(runner: AttackRunner) -> list[float]:
    """List the budgets of the curve, ascending: the level's, eps and one far beyond."""
    eps = runner.threat.eps
    multiples = (multiplier * eps for multiplier in runner.level.eps_multipliers)
    return sorted({*multiples, eps, large_budget(runner)})
