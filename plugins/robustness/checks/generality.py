"""Group D: does the robust accuracy generalize to circumstances in which it was not measured?

A number that does not generalize is still correct, so these checks warn but never fail.
"""

from torch import Tensor

from plugins.attacks.objectives import rank_margin
from plugins.robustness.checks.check import check
from plugins.robustness.checks.clean import clean_rank_1, needs_clean, nothing_to_lower
from plugins.robustness.checks.harness import changed_share
from plugins.robustness.checks.retrieval import UNEVEN, WIDE
from plugins.robustness.checks.verdict import PASS, WARN, Verdict, skipped
from plugins.robustness.levels import REFERENCE_ATTACK
from plugins.robustness.probes import (
    MAX_FACTOR,
    PATCH_SHARE,
    IlluminationShift,
    Patch,
    SmallGallery,
    equal_volume_radius,
)
from plugins.robustness.results import rank_1
from plugins.robustness.runner import AttackRunner

# Shares of the gallery's other people.
SHARES = (1 / 2, 1 / 4)
# Least number of training seeds that say something about a method.
TRAININGS = 3


@check("mirrored_images", "D", "Does Rank-1 hold with and without mirrored images?")
def mirrored_images(runner: AttackRunner) -> Verdict:
    """Invert TEST.FLIP, and attack that anew."""
    other = runner.direction.mirrored()
    clean = clean_rank_1(other, runner.subset)
    if clean == clean_rank_1(runner.direction, runner.subset) == 0:
        return nothing_to_lower("with and without mirrored images")
    attacked = runner.run(REFERENCE_ATTACK, runner.breaking(REFERENCE_ATTACK), direction=other)
    words = "without" if runner.cfg.TEST.FLIP.ENABLED else "with"
    return compare(runner, rank_1(attacked), f"{words} mirrored images (clean {clean:.1f} %)")


@check("reranking", "D", "Does Rank-1 hold for re-ranked lists?")
def reranking(runner: AttackRunner) -> Verdict:
    """Re-rank the lists of the attacked queries; the attack itself knows the plain lists only."""
    options = runner.cfg.TEST.RERANK
    if not options.ENABLED:
        return skipped("Lists are not re-ranked: set TEST.RERANK.ENABLED True.")
    stats = runner.run_on_all(REFERENCE_ATTACK)
    clean, attacked = (
        100
        * float(
            runner.task.reranked(
                runner.rows, features, k1=options.K1, k2=options.K2, lambda_value=options.LAMBDA
            ).cmc[0]
        )
        for features in (runner.guides.clean, stats.features)
    )
    if clean == 0:
        return nothing_to_lower("in re-ranked lists")
    return compare(runner, attacked, f"re-ranked (clean {clean:.1f} %)", rank_1(stats))


@check("gallery_size", "D", "Does Rank-1 hold for smaller galleries?")
@needs_clean("subset")
def gallery_size(runner: AttackRunner) -> Verdict:
    """Leave out gallery items of other people, and attack anew."""
    guides, values, words = runner.task.guides(runner.subset), [], []
    for share in SHARES:
        attack = SmallGallery(runner.breaking(REFERENCE_ATTACK), share)
        margins = runner.run(f"{REFERENCE_ATTACK} in {share:g} of the gallery", attack).margin
        clean = rank_margin(guides.clean, attack.set_target(guides, runner.subset))
        values.append(rank_1_of_margins(margins))
        words.append(
            f"{values[-1]:.1f} % with {share:g} of it (clean {rank_1_of_margins(clean):.1f} %)"
        )
    whole = rank_1(runner.run_on_subset(REFERENCE_ATTACK))
    gap = abs(values[-1] - whole)
    explanation = (
        f"Rank-1 under attack differs by {gap:.1f} points between the whole gallery and "
        f"{SHARES[-1]:g} of it: {whole:.1f} % in the whole gallery "
        f"(clean {clean_rank_1(runner.direction, runner.subset):.1f} %), {', '.join(words)}."
    )
    return Verdict(PASS if gap <= UNEVEN else WARN, explanation, gap, "points")


@check("training_people", "D", "Does Rank-1 hold for people of the training set?")
def training_people(runner: AttackRunner) -> Verdict:
    """Evaluate and attack people of the training set."""
    direction = runner.direction.training_people()
    if direction is None:
        return skipped("No training person can be searched for by the same rules.")
    rows = direction.task.draw(len(runner.subset), runner.cfg.ATTACK.SEED)
    clean = clean_rank_1(direction, rows)
    if clean == 0:
        return nothing_to_lower(f"for the {len(rows)} queries of people seen in training")
    attack = runner.breaking(REFERENCE_ATTACK)
    attacked = runner.run(REFERENCE_ATTACK, attack, rows, direction)
    return compare(runner, rank_1(attacked), f"for people seen in training (clean {clean:.1f} %)")


@check("other_norm", "D", "Does Rank-1 hold in another norm?")
@needs_clean("subset")
def other_norm(runner: AttackRunner) -> Verdict:
    """Attack within the ball of the other norm that has the same volume."""
    batch, guides = runner.sample
    pixels = round(batch["images"].numel() / len(guides.pids) * changed_share(runner))
    radius = equal_volume_radius(1.0, pixels)
    norm, eps = "l2", runner.threat.eps * radius
    if runner.threat.norm == "l2":
        norm, eps = "linf", runner.threat.eps / radius
    attacked = runner.break_subset(REFERENCE_ATTACK, norm=norm, eps=eps)
    return compare(runner, rank_1(attacked), f"within {norm} eps {eps:.4g}, a ball of equal volume")


@check("patch", "D", "Does Rank-1 hold against a printed patch?")
@needs_clean("subset")
def patch(runner: AttackRunner) -> Verdict:
    """Attack with any pixels inside a square."""
    recipe = runner.breaking(REFERENCE_ATTACK).recipe
    attack = Patch(recipe, runner.cfg.ATTACK.SEED, runner.threat.infrared)
    attacked = runner.run("Patch", attack)
    return compare(
        runner, rank_1(attacked), f"with a patch on {100 * PATCH_SHARE:g} % of the image"
    )


@check("illumination", "D", "Does Rank-1 hold in other illumination?")
@needs_clean("subset")
def illumination(runner: AttackRunner) -> Verdict:
    """Change the illumination, without an attack."""
    eot, samples = runner.make_attack(REFERENCE_ATTACK).recipe.eot, runner.level.noise_samples
    probe = IlluminationShift(samples, runner.cfg.ATTACK.SEED, eot)
    shifted = rank_1(runner.run("IlluminationShift", probe))
    attacked = rank_1(runner.run_on_subset(REFERENCE_ATTACK))
    lower = max(attacked - shifted, 0.0)
    explanation = (
        f"Illumination lowers Rank-1 by {lower:.1f} points more than the attack: {shifted:.1f} % "
        f"in the worst of the measured illumination and {samples} others, channel factors up to "
        f"{MAX_FACTOR:.2f}; {attacked:.1f} % under the attack."
    )
    return Verdict(PASS if lower <= UNEVEN else WARN, explanation, lower, "points")


@check("training_seeds", "D", "Does Rank-1 hold for other training seeds?")
def training_seeds(runner: AttackRunner) -> Verdict:
    """Attack the same network trained with other seeds."""
    number = 1 + len(runner.other_seeds)
    if number < TRAININGS:
        return skipped(
            f"Needs at least {TRAININGS} training seeds, got {number}; pass the other checkpoints "
            "with --other-seeds."
        )
    directions = (runner.direction, *runner.other_seeds)
    if not any(clean_rank_1(direction, runner.subset) for direction in directions):
        return nothing_to_lower("for all training seeds")
    attack = runner.breaking(REFERENCE_ATTACK)
    values = [
        rank_1(runner.run(REFERENCE_ATTACK, attack, direction=direction))
        for direction in directions
    ]
    gap = max(values) - min(values)
    explanation = (
        f"Rank-1 under attack differs by {gap:.1f} points between {number} training seeds: "
        f"{', '.join(f'{value:.1f}' for value in values)} %."
    )
    return Verdict(PASS if gap <= WIDE else WARN, explanation, gap, "points")


def compare(
    runner: AttackRunner, value: float, words: str, reference: float | None = None
) -> Verdict:
    """Judge by how many points Rank-1 differs from that of the reference attack.

    Args:
        runner: the attacks of the report.
        value: Rank-1 under attack in other circumstances, percent.
        words: those circumstances.
        reference: Rank-1 to compare with; by default that of the reference attack on the subset.
    """
    if reference is None:
        reference = rank_1(runner.run_on_subset(REFERENCE_ATTACK))
    gap = abs(value - reference)
    explanation = (
        f"Rank-1 under attack differs by {gap:.1f} points: {value:.1f} % {words}; "
        f"{reference:.1f} % as measured."
    )
    return Verdict(PASS if gap <= UNEVEN else WARN, explanation, gap, "points")


def rank_1_of_margins(margins: Tensor) -> float:
    """Compute Rank-1 in percent of rank margins (R,)."""
    return 100 * float((margins <= 0).double().mean())
