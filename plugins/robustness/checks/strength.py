"""Group B: is the attack as strong as it can be made, or would more of it break more?"""

from plugins.attacks.attack import SEEDS
from plugins.robustness.checks.verdict import PASS, WARN, Verdict, at_most
from plugins.robustness.lab import MEASURE, Lab, rank_1
from plugins.robustness.outcomes import Outcomes, worst_case

# Points of Rank-1 that a sound attack may still gain: those of Carlini et al., "On Evaluating
# Adversarial Robustness", arXiv 1902.06705, and what says that the figure is simply wrong.
GAIN, TOO_MUCH = 1.0, 5.0
# Step sizes of the plain climb, in eps.
STEP_SIZES = (0.1, 0.25, 0.5)


def single_step(lab: Lab) -> Verdict:
    """One step of eps against many, both along the sign of the gradient."""
    one = lab.probe(MEASURE, optimizer="sign", steps=1, step_size=lab.threat.eps, restarts=1)
    many = plain_climb(lab, 0.25)
    return gain(one, many, "Rank-1 after one step lower than after many")


def more_steps(lab: Lab) -> Verdict:
    """Twice the steps."""
    steps = lab.attack(MEASURE).recipe.steps
    longer = lab.probe(MEASURE, steps=2 * steps)
    return gain(longer, lab.probe(MEASURE), f"Rank-1 lower after {2 * steps} steps than {steps}")


def more_restarts(lab: Lab) -> Verdict:
    """More random starts."""
    restarts = lab.attack(MEASURE).recipe.restarts
    number = max(lab.level.more_restarts, 2 * restarts)
    more = lab.probe(MEASURE, restarts=number)
    words = f"Rank-1 lower with {number} starts than with {restarts}"
    return gain(more, lab.probe(MEASURE), words)


def other_seeds(lab: Lab) -> Verdict:
    """The range of the measure's Rank-1 over random starts of other seeds."""
    attack, own = lab.attack(MEASURE), lab.probe(MEASURE)
    found = [rank_1(own)]
    for offset in range(1, lab.level.seeds + 1):
        other = type(attack)(attack.threat, attack.recipe, (attack.seed + offset) % SEEDS)
        found.append(rank_1(lab.run(MEASURE, other)))
    passes, seen = tolerance(own), ", ".join(f"{value:.1f}" for value in found)
    sentence = f"between the Rank-1 of {len(found)} seeds of the attack: {seen} %"
    figure = max(found) - min(found)
    return at_most(figure, passes, max(TOO_MUCH, 2 * passes), "points", sentence)


def step_sizes(lab: Lab) -> Verdict:
    """The best of several step sizes of the plain climb against APGD's own."""
    climbs = {size: plain_climb(lab, size) for size in STEP_SIZES}
    best = min(climbs, key=lambda size: rank_1(climbs[size]))
    words = f"Rank-1 lower by plain steps of {best:g} eps than by APGD"
    return gain(climbs[best], lab.probe(MEASURE), words)


def order(lab: Lab) -> Verdict:
    """The field's attack, which aims at the furthest identity, against the measure."""
    return gain(
        lab.outcomes("FNA"), lab.outcomes(MEASURE), f"Rank-1 lower by FNA than by {MEASURE}"
    )


def one_attack_is_enough(lab: Lab) -> Verdict:
    """The per-query worst case against the strongest single attack."""
    outcomes = lab.attacks()
    worst, wins = worst_case({"clean": lab.clean, **outcomes})
    strongest = min(outcomes, key=lambda name: rank_1(outcomes[name]))
    gap = rank_1(outcomes[strongest]) - worst["Rank-1"]
    alone = ", ".join(f"{name} {number}" for name, number in wins.items() if name in outcomes)
    state = PASS if gap <= tolerance(outcomes[strongest]) else WARN
    sentence = f"worst case below {strongest} alone; queries that one attack alone breaks: {alone}"
    return Verdict(state, sentence, gap, "points")


def plain_climb(lab: Lab, step_size: float) -> Outcomes:
    """The measure on the probes by steps of one length, in eps."""
    return lab.probe(MEASURE, optimizer="sign", step_size=step_size * lab.threat.eps, restarts=1)


def gain(stronger: Outcomes, than: Outcomes, words: str) -> Verdict:
    """By how many points of Rank-1 what should not be stronger is."""
    passes = tolerance(than)
    figure = max(rank_1(than) - rank_1(stronger), 0.0)
    sentence = f"{words}; {int(than.valid.sum())} queries"
    return at_most(figure, passes, max(TOO_MUCH, 2 * passes), "points", sentence)


def tolerance(outcomes: Outcomes) -> float:
    """Points of Rank-1 that are no difference: ``GAIN``, or one query where they are few."""
    # The one query is what its share comes to in floating point.
    return max(GAIN, 100 / max(int(outcomes.valid.sum()), 1) + 1e-9)
