"""A report: evaluate, attack, check, write the card and its page."""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import torch
from fastreid.config import CfgNode
from torch import nn

from plugins.attacks import build_attack
from plugins.engine.checkpoint import OPTIONAL_KEYS
from plugins.engine.trainer import load_model
from plugins.errors import InputError
from plugins.robustness.checks import warn_of_skipped
from plugins.robustness.directions import EvaluatedDirection
from plugins.robustness.evaluator import evaluate_clean
from plugins.robustness.levels import LEVELS, REFERENCE_ATTACK, level_with
from plugins.robustness.report.card import make_card, write_card
from plugins.robustness.report.html import page
from plugins.robustness.report.pictures import (
    find_examples,
    people_caption,
    plot_attacks,
    plot_curve,
    plot_example,
    plot_people,
)
from plugins.robustness.runner import AttackRunner
from plugins.utils.io import write_text
from plugins.utils.locks import hold
from plugins.utils.names import closest_names


def write_reports(
    cfg: CfgNode,
    level: str,
    folder: Path,
    undefended: str = "",
    other_seeds: Sequence[str] = (),
) -> Iterator[tuple[Path, dict]]:
    """Report on MODEL.WEIGHTS in every direction of every data set of DATASETS.TESTS.

    The results of the attacks are kept in ``folder``/records, so that an interrupted report
    resumes.

    Args:
        cfg: config of the run; ATTACK is the threat model, and attacks of TEST.ATTACKS that the
            level lacks join it.
        level: name in ``LEVELS``.
        folder: folder of the report, which is made; a card, its Markdown and its page are called
            DATASET_DIRECTION.
        undefended: weights of the same model without its defense; empty for none.
        other_seeds: weights of the same config trained with other seeds.

    Yields:
        Path of the page, and the card.

    Raises:
        InputError: there is no such level, the weights do not fit, or reports do not support the
            threat model.
    """
    check_arguments(cfg, level)
    model = load_model(cfg, cfg.MODEL.WEIGHTS)
    undefended_model = load_model(cfg, undefended) if undefended else None
    other_models = [load_model(cfg, weights) for weights in other_seeds]
    options = [f"MODEL.WEIGHTS {cfg.MODEL.WEIGHTS}"]
    options += [f"--other-seeds {path}" for path in other_seeds]
    named = dict(zip(options, [model, *other_models], strict=True))
    if undefended_model:
        named[f"--undefended {undefended}"] = undefended_model
    refuse_same_weights(named)
    with hold(folder, "--out", "report"):
        for name in cfg.DATASETS.TESTS:
            for runner in make_runners(
                cfg, level, folder, name, model, undefended_model, other_models
            ):
                yield write_report(runner, level, name, folder)


def check_arguments(cfg: CfgNode, level: str) -> None:
    """Check all that can be known without model and data.

    Raises:
        InputError: see ``write_reports``.
    """
    check_level(level)
    if cfg.ATTACK.SIDE != "query":
        raise InputError(f"ATTACK.SIDE: '{cfg.ATTACK.SIDE}'; a report attacks the query")
    if not cfg.ATTACK.EPS > 0:
        raise InputError(f"ATTACK.EPS: {cfg.ATTACK.EPS}; a report expects a budget above 0")
    if cfg.ATTACK.SAVE_IMAGES:
        raise InputError(
            f"ATTACK.SAVE_IMAGES: '{cfg.ATTACK.SAVE_IMAGES}'; a report saves none, expected ''"
        )
    for name in (*level_with(level, cfg.TEST.ATTACKS).attacks, REFERENCE_ATTACK):
        build_attack(name, cfg, "TEST.ATTACKS")


def check_level(level: str) -> None:
    """Raise InputError for a name that is not in ``LEVELS``."""
    if level not in LEVELS:
        choices = ", ".join(closest_names(level, list(LEVELS)))
        raise InputError(f"--level: '{level}'; expected {choices}")


def refuse_same_weights(models: Mapping[str, nn.Module]) -> None:
    """Raise InputError if two models have equal weights.

    Args:
        models: option with the path of the weights -> model.
    """
    for (earlier, other), (option, model) in itertools.combinations(models.items(), 2):
        if same_weights(model, other):
            raise InputError(
                f"{option}: the same weights as {earlier}; expected those of another training"
            )


def same_weights(model: nn.Module, other: nn.Module) -> bool:
    """Tell whether two models of one config have equal weights on the path to their features."""
    first, second = (
        {k: v for k, v in each.state_dict().items() if not k.startswith(OPTIONAL_KEYS)}
        for each in (model, other)
    )
    return all(torch.equal(tensor, second[name]) for name, tensor in first.items())


def make_runners(
    cfg: CfgNode,
    level: str,
    folder: Path,
    dataset: str,
    model: nn.Module,
    undefended: nn.Module | None,
    other_seeds: Sequence[nn.Module],
) -> Iterator[AttackRunner]:
    """Evaluate all models on a data set; yield a runner for each direction."""
    evaluator = evaluate_clean(cfg, model, dataset)
    twin = evaluate_clean(cfg, undefended, dataset) if undefended else None
    others = [evaluate_clean(cfg, other, dataset) for other in other_seeds]
    for name in evaluator.directions:
        yield AttackRunner(
            EvaluatedDirection(evaluator, name),
            level_with(level, cfg.TEST.ATTACKS),
            folder / "records",
            EvaluatedDirection(twin, name) if twin else None,
            [EvaluatedDirection(other, name) for other in others],
        )


def write_report(runner: AttackRunner, level: str, dataset: str, folder: Path) -> tuple[Path, dict]:
    """Write the report of one direction; return the path of its page, and its card."""
    warn_of_skipped(runner)
    card = make_card(runner, level, dataset)
    pictures = {
        "Rank-1 and mAP by attack, with 95 % intervals over people": plot_attacks(card),
        "Rank-1 by budget": plot_curve(card),
        people_caption(card): plot_people(card),
    }
    items = runner.direction.items()
    for number, example in enumerate(find_examples(runner, items) if items else (), start=1):
        pictures[f"Example {number}: {example.caption}"] = plot_example(example)
    stem = folder / f"{dataset}_{runner.task.name}".replace(" ", "_")
    folder.mkdir(parents=True, exist_ok=True)
    write_card(card, stem)
    path = stem.with_name(f"{stem.name}.html")
    write_text(path, page(card, pictures))
    return path, card
