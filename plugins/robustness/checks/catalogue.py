"""All checks in the order of the report."""

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from plugins.errors import InputError
from plugins.robustness.checks import generality, harness, masking, retrieval, strength
from plugins.robustness.checks.verdict import Verdict, skipped
from plugins.robustness.lab import Lab

logger = logging.getLogger(__name__)

# With fewer, one query is so much of Rank-1 that nothing could fail.
FEW = 8
GROUPS = {"A": "Harness", "B": "Strength", "C": "No gradient masking", "D": "Retrieval"}


@dataclass(frozen=True)
class Check:
    """A question and what answers it.

    Attributes:
        group: key of ``GROUPS``.
        question: one sentence; "yes" is good.
        answer: lab to verdict; its name is the check's.
        queries: fewest probes that can answer it.
    """

    group: str
    question: str
    answer: Callable[[Lab], Verdict]
    queries: int = 1

    @property
    def name(self) -> str:
        """Name of the function, as words."""
        return self.answer.__name__.replace("_", " ")


CHECKS = (
    Check("A", "Does an attack with eps 0 change nothing?", harness.zero_budget),
    Check("A", "Are attacked images within the budget, also as PNG files?", harness.budget),
    Check("A", "Is the attacked model the ranked one?", harness.same_forward),
    Check("A", "Does an attack leave model and batch as they were?", harness.untouched),
    Check("A", "Is the gradient that of the function?", harness.gradient),
    Check("A", "Did every attack use its budget?", harness.moved),
    Check("A", "Can every attack reach the edge of its budget?", harness.long_enough),
    Check("A", "Does every objective rise?", harness.rises),
    Check("B", "Are many steps at least as strong as one?", strength.single_step, FEW),
    Check("B", "Do more steps change nothing?", strength.more_steps, FEW),
    Check("B", "Do more restarts change nothing?", strength.more_restarts, FEW),
    Check("B", "Do other seeds change nothing?", strength.other_seeds, FEW),
    Check("B", "Is APGD at least as strong as any step size?", strength.step_sizes, FEW),
    Check("B", "Is the rank margin at least as strong as FNA?", strength.order, FEW),
    Check("B", "Does one attack speak for all?", strength.one_attack_is_enough),
    Check("C", "Does every query have a gradient?", masking.zero_gradients),
    Check("C", "Is the attack stronger than noise?", masking.better_than_noise, FEW),
    Check("C", "Is the attack stronger than blind search?", masking.better_than_squares, FEW),
    Check("C", "Is the attack stronger than a search of the border?", masking.better_than_hops),
    Check("C", "Is the attack stronger than transfer?", masking.better_than_transfer, FEW),
    Check("C", "Does Rank-1 fall to chance beyond all budgets?", masking.falls_to_chance, FEW),
    Check("C", "Does Rank-1 fall as the budget grows?", masking.falls_with_eps, FEW),
    Check("C", "Is the forward pass deterministic?", masking.deterministic),
    Check("D", "Do features differ in many directions?", retrieval.collapse),
    Check("D", "Are right answers right without ties?", retrieval.ties),
    Check("D", "Is there clean accuracy to defend?", retrieval.useful),
    Check("D", "Are there enough people for the figure?", retrieval.people),
    Check("D", "Are the cameras alike?", retrieval.cameras),
    Check("D", "Does it hold with and without mirror images?", generality.mirrors),
    Check("D", "Does it hold for re-ranked lists?", generality.reranking),
    Check("D", "Does it hold for other sizes of the gallery?", generality.gallery_size),
    Check("D", "Does it hold for people seen in training as for others?", generality.seen_people),
    Check("D", "Does it hold against another norm?", generality.other_norm),
    Check("D", "Does it hold against a printed patch?", generality.patch),
    Check("D", "Does it hold in another light?", generality.light),
    Check("D", "Does it hold for other seeds of the training?", generality.trainings),
)


_ADDED: list[Check] = []


def add_check(check: Check) -> None:
    """Add a check to every report, behind those of this package.

    Raises:
        InputError: there is no such group, or another check has the name.
    """
    if check.group not in GROUPS:
        raise InputError(
            f"check {check.name}: no group '{check.group}'; known: {', '.join(GROUPS)}"
        )
    if check.name in [each.name for each in all_checks()]:
        raise InputError(f"check {check.name}: there is one of this name; expected another name")
    _ADDED.append(check)


def all_checks() -> list[Check]:
    """List the checks of this package, then the added ones."""
    return [*CHECKS, *_ADDED]


def tell_skipped(lab: Lab) -> None:
    """Warn, before any attack, how many checks the attacked queries are too few for."""
    number = len(lab.probes)
    short = [check for check in all_checks() if number < check.queries]
    if short:
        most = max(check.queries for check in short)
        logger.warning(
            "%d of %d checks need up to %d queries and will be skipped: %d are attacked; "
            "ATTACK.QUERIES, the data set and --level limit them",
            len(short),
            len(all_checks()),
            most,
            number,
        )


def run_checks(lab: Lab) -> Iterator[tuple[Check, Verdict]]:
    """Answer all checks and log each as it ends."""
    checks = all_checks()
    for number, check in enumerate(checks, start=1):
        if len(lab.probes) < check.queries:
            verdict = skipped(f"{len(lab.probes)} queries are too few; expected {check.queries}")
        else:
            verdict = check.answer(lab)
        figure = "" if verdict.figure is None else f"{verdict.figure:.4g} {verdict.unit} "
        logger.info(
            "%2d/%d %s %-7s %s: %s%s",
            number,
            len(checks),
            check.group,
            verdict.state,
            check.name,
            figure,
            verdict.sentence,
        )
        yield check, verdict
