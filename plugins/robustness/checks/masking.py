"""Group C: do attacks fail because the model is robust, or because its gradient is masked?

Athalye, Carlini and Wagner, "Obfuscated Gradients Give a False Sense of Security", ICML 2018.
"""

import importlib.util
import itertools

from torch import Tensor

from plugins.robustness.checks.harness import DETERMINISTIC
from plugins.robustness.checks.strength import TOO_MUCH, gain, tolerance
from plugins.robustness.checks.verdict import FAIL, PASS, WARN, Verdict, at_least, at_most, skipped
from plugins.robustness.lab import MEASURE, Lab, rank_1, select_rows
from plugins.robustness.statistics import chance_of_rank_1
from plugins.robustness.threats import HopSkipJump, Noise

# Where no person could tell who it is: an attack that still fails is no attack. In 0-255 units; for
# L2, whose budget grows with the image, in eps.
FAR_LINF, FAR_L2 = 64.0, 8.0
# Share of queries without a gradient.
NO_GRADIENT, MUCH_NO_GRADIENT = 0.01, 0.05
# Share of queries on which the gradient leads further than blind search.
LEADS, HARDLY_LEADS = 0.95, 0.75
# Passes over which the gradient of a random model is averaged at least: Athalye et al., section 5.
EOT = 10
# Steps of HopSkipJump, some 2500 passes of a query.
HOPS = 10
# Rank-1 in percent that an undefended model may keep.
BROKEN = 5.0


def zero_gradients(lab: Lab) -> Verdict:
    """The share of queries whose gradient is 0 at the start."""
    outcomes = lab.outcomes(MEASURE)
    share = float(outcomes.stuck.double().mean())
    sentence = "of the queries have no gradient at the start"
    return at_most(share, NO_GRADIENT, MUCH_NO_GRADIENT, "share", sentence)


def better_than_noise(lab: Lab) -> Verdict:
    """The attack against as many draws of noise as the level says."""
    attack, draws = lab.attack(MEASURE), lab.level.draws
    noise = lab.run("Noise", Noise(lab.threat, draws, attack.seed, attack.recipe.eot))
    return leads(lab, noise.margin, f"the best of {draws} draws of noise")


def better_than_squares(lab: Lab) -> Verdict:
    """The attack against a random search that sees distances only."""
    if lab.threat.norm != "linf":
        return skipped("the Square attack knows L-inf budgets only")
    squares = lab.probe("Square", steps=lab.level.searches)
    return leads(lab, squares.margin, f"{lab.level.searches} passes of the Square attack")


def better_than_hops(lab: Lab) -> Verdict:
    """The attack against HopSkipJump, which sees only who is found first."""
    number = lab.level.hops
    if not number:
        return skipped("HopSkipJump takes some thousand passes of a query: --level full")
    if lab.cfg.TEST.CLIPS != 1:
        return skipped("HopSkipJump knows one clip of an item: TEST.CLIPS 1")
    if importlib.util.find_spec("foolbox") is None:
        return skipped("HopSkipJump needs foolbox: pip install foolbox==3.3.4")
    rows = lab.probes[:: max(len(lab.probes) // number, 1)][:number]
    found = lab.run("HopSkipJump", HopSkipJump(lab.threat, HOPS, lab.cfg.ATTACK.SEED), rows)
    return leads(lab, found.margin, "HopSkipJump", rows)


def better_than_transfer(lab: Lab) -> Verdict:
    """The attack against images made on an undefended twin, on which it must succeed."""
    made = lab.transferred()
    if made is None:
        return skipped("no undefended twin was given: --twin WEIGHTS")
    alone, carried = made
    if rank_1(alone) > max(BROKEN, 2 * tolerance(alone)):
        sentence = "Rank-1 of the twin under attack: it is no undefended one, or the attack fails"
        return Verdict(FAIL, sentence, rank_1(alone), "%")
    return leads(lab, carried.margin, "images made on the twin")


def leads(lab: Lab, blind: Tensor, words: str, rows: Tensor | None = None) -> Verdict:
    """The share of probes on which the measure's margin is no smaller than that of blind search.

    Args:
        lab: the lab.
        blind: (R,) margins of blind search.
        words: what it was.
        rows: (R,) of these probes; None for all.
    """
    outcomes = lab.probe(MEASURE)
    if rows is not None:
        outcomes = select_rows(outcomes, rows)
    ahead = outcomes.margin >= blind.to(outcomes.margin)
    broken = 100 * float((blind > 0).double().mean())
    sentence = (
        f"of {len(ahead)} queries are moved at least as far as by {words}, "
        f"which leaves Rank-1 at {100 - broken:.1f} %, the attack at {rank_1(outcomes):.1f} %"
    )
    return at_least(float(ahead.double().mean()), LEADS, HARDLY_LEADS, "share", sentence)


def falls_to_chance(lab: Lab) -> Verdict:
    """Rank-1 with a budget beyond all sense, above that of a random list."""
    eps = far(lab)
    outcomes = lab.probe(MEASURE, eps=eps)
    chance = 100 * chance_of_rank_1(lab.guides.positives, lab.guides.valid)
    figure = max(rank_1(outcomes) - chance, 0.0)
    sentence = f"Rank-1 above chance ({chance:.1f} %) at eps {eps:g}"
    passes = tolerance(outcomes)
    return at_most(figure, passes, max(TOO_MUCH, 2 * passes), "points", sentence)


def falls_with_eps(lab: Lab) -> Verdict:
    """The largest rise of Rank-1 from a budget of the curve to the next larger one."""
    outcomes = [lab.probe(MEASURE, eps=eps) for eps in curve_budgets(lab)]
    verdicts = [
        gain(smaller, larger, "Rank-1 rises from one budget of the curve to a larger one")
        for smaller, larger in itertools.pairwise(outcomes)
    ]
    return max(verdicts, key=lambda verdict: verdict.figure)


def deterministic(lab: Lab) -> Verdict:
    """Two forward passes of one batch."""
    change, eot = lab.forward_change(), lab.attack(MEASURE).recipe.eot
    if change <= DETERMINISTIC:
        return Verdict(PASS, "two forward passes give the same features", change, "relative")
    if eot >= EOT:
        sentence = f"the forward pass is random; gradients are averaged over {eot} passes"
        return Verdict(WARN, sentence, change, "relative")
    sentence = f"the forward pass is random: attack its expectation, ATTACK.EOT {EOT} or more"
    return Verdict(FAIL, sentence, change, "relative")


def far(lab: Lab) -> float:
    """A budget beyond all sense."""
    beyond = FAR_LINF if lab.threat.norm == "linf" else FAR_L2 * lab.threat.eps
    return max(beyond, 2 * lab.threat.eps)


def curve_budgets(lab: Lab) -> list[float]:
    """Budgets of the curve, ascending: the level's, eps and one far beyond."""
    eps = lab.threat.eps
    return sorted({*(share * eps for share in lab.level.curve), eps, far(lab)})
