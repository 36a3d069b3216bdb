"""All checks in the order of the report."""

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from plugins.errors import InputError
from plugins.robustness.checks import generality, harness, masking, retrieval, strength
from plugins.robustness.checks.verdict import Verdict, skipped
from plugins.robustness.runner import AttackRunner

logger = logging.getLogger(__name__)

# With fewer queries one query weighs too much for a check to fail.
FEW = 8
GROUPS = {"A": "Harness", "B": "Strength", "C": "No gradient masking", "D": "Retrieval"}


@dataclass(frozen=True)
class Check:
    """A question about a report, and the function that answers it.

    Attributes:
        id: stable identifier in cards, such as "zero_budget".
        group: key of ``GROUPS``.
        question: one sentence; "yes" is good.
        answer: function from the attacks of a report to a verdict.
        queries: fewest queries of the subset that can answer it.
    """

    id: str
    group: str
    question: str
    answer: Callable[[AttackRunner], Verdict]
    queries: int = 1


CHECKS = (
    Check("zero_budget", "A", "Does an attack with eps 0 change nothing?", harness.zero_budget),
    Check(
        "within_budget",
        "A",
        "Are attacked images within the budget, also as PNG files?",
        harness.within_budget,
    ),
    Check("same_features", "A", "Is the attacked model the evaluated one?", harness.same_features),
    Check(
        "no_side_effects",
        "A",
        "Does an attack leave model and batch unchanged?",
        harness.no_side_effects,
    ),
    Check(
        "right_gradient", "A", "Does the gradient match finite differences?", harness.right_gradient
    ),
    Check("budget_used", "A", "Did every attack use its budget?", harness.budget_used),
    Check("reach", "A", "Can every attack reach the edge of its budget?", harness.reach),
    Check(
        "objective_rises", "A", "Does every attack raise its objective?", harness.objective_rises
    ),
    Check(
        "single_step",
        "B",
        "Are many steps at least as strong as one step?",
        strength.single_step,
        FEW,
    ),
    Check(
        "more_steps", "B", "Has the attack converged (twice the steps)?", strength.more_steps, FEW
    ),
    Check(
        "more_restarts",
        "B",
        "Has the attack converged (more random starts)?",
        strength.more_restarts,
        FEW,
    ),
    Check("other_seeds", "B", "Do other attack seeds agree?", strength.other_seeds, FEW),
    Check(
        "step_sizes", "B", "Is APGD at least as strong as any step size?", strength.step_sizes, FEW
    ),
    Check(
        "stronger_than_fna",
        "B",
        "Is the rank margin at least as strong as FNA?",
        strength.stronger_than_fna,
        FEW,
    ),
    Check(
        "single_attack",
        "B",
        "Is one attack as strong as the worst case of all?",
        strength.single_attack,
    ),
    Check("zero_gradients", "C", "Does every query have a gradient?", masking.zero_gradients),
    Check(
        "stronger_than_noise",
        "C",
        "Is the attack stronger than random noise?",
        masking.stronger_than_noise,
        FEW,
    ),
    Check(
        "stronger_than_square",
        "C",
        "Is the attack stronger than random search (Square)?",
        masking.stronger_than_square,
        FEW,
    ),
    Check(
        "stronger_than_hop_skip_jump",
        "C",
        "Is the attack stronger than a decision-based attack (HopSkipJump)?",
        masking.stronger_than_hop_skip_jump,
    ),
    Check(
        "stronger_than_transfer",
        "C",
        "Is the attack stronger than transfer from an undefended model?",
        masking.stronger_than_transfer,
        FEW,
    ),
    Check(
        "chance_at_large_budget",
        "C",
        "Does Rank-1 drop to chance when the budget is very large?",
        masking.chance_at_large_budget,
        FEW,
    ),
    Check(
        "falls_with_eps",
        "C",
        "Does Rank-1 fall as the budget grows?",
        masking.falls_with_eps,
        FEW,
    ),
    Check("deterministic", "C", "Is the forward pass deterministic?", masking.deterministic),
    Check(
        "feature_collapse",
        "D",
        "Do features differ in many directions?",
        retrieval.feature_collapse,
    ),
    Check("ties", "D", "Are right answers right without ties?", retrieval.ties),
    Check("clean_accuracy", "D", "Is there clean accuracy to defend?", retrieval.clean_accuracy),
    Check("enough_people", "D", "Are there enough people?", retrieval.enough_people),
    Check("cameras", "D", "Are the cameras about equally robust?", retrieval.cameras),
    Check(
        "mirrored_images",
        "D",
        "Does Rank-1 hold with and without mirrored images?",
        generality.mirrored_images,
    ),
    Check("reranking", "D", "Does Rank-1 hold for re-ranked lists?", generality.reranking),
    Check("gallery_size", "D", "Does Rank-1 hold for smaller galleries?", generality.gallery_size),
    Check(
        "training_people",
        "D",
        "Does Rank-1 hold for people of the training set?",
        generality.training_people,
    ),
    Check("other_norm", "D", "Does Rank-1 hold in another norm?", generality.other_norm),
    Check("patch", "D", "Does Rank-1 hold against a printed patch?", generality.patch),
    Check("illumination", "D", "Does Rank-1 hold in other illumination?", generality.illumination),
    Check(
        "training_seeds",
        "D",
        "Does Rank-1 hold for other training seeds?",
        generality.training_seeds,
    ),
)


ADDED: list[Check] = []


def add_check(check: Check) -> None:
    """Add a check to every report, behind those of this package.

    Raises:
        InputError: there is no such group, or another check has the id.
    """
    if check.group not in GROUPS:
        raise InputError(f"check {check.id}: no group '{check.group}'; known: {', '.join(GROUPS)}")
    if check.id in [each.id for each in all_checks()]:
        raise InputError(f"check {check.id}: there is one of this id; expected another id")
    ADDED.append(check)


def all_checks() -> list[Check]:
    """List the checks of this package, then the added ones."""
    return [*CHECKS, *ADDED]


def warn_of_skipped(runner: AttackRunner) -> None:
    """Warn, before any attack, how many checks need more queries than are attacked."""
    number = len(runner.subset)
    skipped_checks = [check for check in all_checks() if number < check.queries]
    if skipped_checks:
        logger.warning(
            "%d of %d checks need up to %d queries and will be skipped: %d are attacked; "
            "ATTACK.QUERIES, the data set and --level limit them",
            len(skipped_checks),
            len(all_checks()),
            max(check.queries for check in skipped_checks),
            number,
        )


def run_checks(runner: AttackRunner) -> Iterator[tuple[Check, Verdict]]:
    """Answer all checks and log each as it ends."""
    checks = all_checks()
    for number, check in enumerate(checks, start=1):
        if len(runner.subset) < check.queries:
            verdict = skipped(f"Needs at least {check.queries} queries, got {len(runner.subset)}.")
        else:
            verdict = check.answer(runner)
        logger.info(
            "%2d/%d %s %-7s %s: %s",
            number,
            len(checks),
            check.group,
            verdict.state,
            check.id,
            verdict.explanation,
        )
        yield check, verdict
