"""Group B: is the attack as strong as it can be made, or would a stronger one break more?"""

from plugins.attacks.attack import SEEDS
from plugins.robustness.checks.check import FEW, check
from plugins.robustness.checks.clean import needs_clean
from plugins.robustness.checks.verdict import PASS, WARN, Verdict, at_most
from plugins.robustness.levels import REFERENCE_ATTACK
from plugins.robustness.results import AttackStats, rank_1, worst_case
from plugins.robustness.runner import AttackRunner

# Points of Rank-1 that a sound attack may still gain: those of Carlini et al., "On Evaluating
# Adversarial Robustness", arXiv 1902.06705; and the gain at which Rank-1 is simply wrong.
GAIN, TOO_MUCH = 1.0, 5.0
# Step sizes of plain gradient ascent, in eps.
STEP_SIZES = (0.1, 0.25, 0.5)


@check("single_step", "B", "Are many steps at least as strong as one step?", queries=FEW)
@needs_clean("subset")
def single_step(runner: AttackRunner) -> Verdict:
    """Compare one step of eps with many steps, both along the sign of the gradient."""
    eps = runner.threat.eps
    single = runner.break_subset(
        REFERENCE_ATTACK, optimizer="sign", steps=1, step_size=eps, restarts=1
    )
    return gain(
        single, plain_ascent(runner, 0.25), "One step lowers Rank-1 by {} points more than many"
    )


@check("more_steps", "B", "Has the attack converged (twice the steps)?", queries=FEW)
@needs_clean("subset")
def more_steps(runner: AttackRunner) -> Verdict:
    """Double the steps."""
    steps = 2 * runner.make_attack(REFERENCE_ATTACK).recipe.steps
    longer = runner.break_subset(REFERENCE_ATTACK, steps=steps)
    words = f"Doubling the steps to {steps} lowers Rank-1 by {{}} points"
    return gain(longer, runner.run_on_subset(REFERENCE_ATTACK), words)


@check("more_restarts", "B", "Has the attack converged (more random starts)?", queries=FEW)
@needs_clean("subset")
def more_restarts(runner: AttackRunner) -> Verdict:
    """Start from more random points."""
    restarts = runner.make_attack(REFERENCE_ATTACK).recipe.restarts
    number = max(runner.level.more_restarts, 2 * restarts)
    more = runner.break_subset(REFERENCE_ATTACK, restarts=number)
    words = f"Raising the random starts from {restarts} to {number} lowers Rank-1 by {{}} points"
    return gain(more, runner.run_on_subset(REFERENCE_ATTACK), words)


@check("other_seeds", "B", "Do other attack seeds agree?", queries=FEW)
@needs_clean("subset")
def other_seeds(runner: AttackRunner) -> Verdict:
    """Repeat the reference attack with random starts of other seeds."""
    attack, reference = runner.breaking(REFERENCE_ATTACK), runner.run_on_subset(REFERENCE_ATTACK)
    values = [rank_1(reference)]
    for offset in range(1, runner.level.seeds + 1):
        other = type(attack)(attack.threat, attack.recipe, (attack.seed + offset) % SEEDS)
        values.append(rank_1(runner.run(REFERENCE_ATTACK, other)))
    passes, gap = tolerance(reference), max(values) - min(values)
    explanation = (
        f"Rank-1 differs by {gap:.1f} points between {len(values)} seeds of the attack: "
        f"{', '.join(f'{value:.1f}' for value in values)} %."
    )
    return at_most(gap, passes, max(TOO_MUCH, 2 * passes), "points", explanation)


@check("step_sizes", "B", "Is APGD at least as strong as any step size?", queries=FEW)
@needs_clean("subset")
def step_sizes(runner: AttackRunner) -> Verdict:
    """Compare the best of several step sizes of plain gradient ascent with APGD."""
    ascents = {size: plain_ascent(runner, size) for size in STEP_SIZES}
    best = min(ascents, key=lambda size: rank_1(ascents[size]))
    words = f"Plain steps of {best:g} eps lower Rank-1 by {{}} points more than APGD"
    return gain(ascents[best], runner.run_on_subset(REFERENCE_ATTACK), words)


@check("stronger_than_fna", "B", "Is the rank margin at least as strong as FNA?", queries=FEW)
@needs_clean("rows")
def stronger_than_fna(runner: AttackRunner) -> Verdict:
    """Compare FNA, which papers report, with the reference attack."""
    words = f"FNA lowers Rank-1 by {{}} points more than {REFERENCE_ATTACK}"
    return gain(runner.run_on_all("FNA"), runner.run_on_all(REFERENCE_ATTACK), words)


@check("single_attack", "B", "Is one attack as strong as the worst case of all?")
@needs_clean("rows")
def single_attack(runner: AttackRunner) -> Verdict:
    """Compare the per-query worst case with the strongest single attack."""
    stats = runner.run_level()
    worst, wins = worst_case({"clean": runner.clean_scores, **stats})
    strongest = min(stats, key=lambda name: rank_1(stats[name]))
    gap = rank_1(stats[strongest]) - worst["Rank-1"]
    alone = ", ".join(f"{name} {number}" for name, number in wins.items() if name in stats)
    explanation = (
        f"The worst case is {gap:.1f} points of Rank-1 below {strongest} alone; queries that only "
        f"one attack breaks: {alone}."
    )
    state = PASS if gap <= tolerance(stats[strongest]) else WARN
    return Verdict(state, explanation, gap, "points")


def plain_ascent(runner: AttackRunner, step_size: float) -> AttackStats:
    """Run the reference attack on the subset with steps of one length, in eps."""
    length = step_size * runner.threat.eps
    return runner.break_subset(REFERENCE_ATTACK, optimizer="sign", step_size=length, restarts=1)


def gain(stronger: AttackStats, reference: AttackStats, words: str) -> Verdict:
    """Judge by how many points an attack that should not be stronger lowers Rank-1 further.

    Args:
        stronger: the attack that should not be stronger.
        reference: the attack it is compared with.
        words: the explanation, with {} for the number of points.
    """
    passes = tolerance(reference)
    points = max(rank_1(reference) - rank_1(stronger), 0.0)
    explanation = f"{words.format(f'{points:.3g}')} ({int(reference.valid.sum())} queries)."
    return at_most(points, passes, max(TOO_MUCH, 2 * passes), "points", explanation)


def tolerance(stats: AttackStats) -> float:
    """Return the points of Rank-1 that are no difference: ``GAIN``, or one of few queries."""
    # The share of one query, with the rounding of floating point.
    return max(GAIN, 100 / max(int(stats.valid.sum()), 1) + 1e-9)
