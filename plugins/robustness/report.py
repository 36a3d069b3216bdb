"""A report: evaluate, attack, check, write the card and its page."""

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from fastreid.config import CfgNode
from torch import nn

from plugins.attacks import build_attack
from plugins.data.datasets.tracklet import as_tracklet
from plugins.engine.checkpoint import OPTIONAL_KEYS
from plugins.engine.trainer import load_model
from plugins.errors import InputError
from plugins.robustness.card import make_card, write_card
from plugins.robustness.checks.catalogue import tell_skipped
from plugins.robustness.html import page
from plugins.robustness.lab import LEVELS, MEASURE, Lab
from plugins.robustness.pictures import (
    draw_attacks,
    draw_curve,
    draw_example,
    draw_people,
    find_examples,
)
from plugins.robustness.scenes import evaluate_clean
from plugins.utils.io import write_text
from plugins.utils.locks import hold
from plugins.utils.names import closest_names

logger = logging.getLogger(__name__)


def report(
    cfg: CfgNode, level: str, folder: Path, twin: str = "", trainings: Sequence[str] = ()
) -> Iterator[tuple[Path, dict]]:
    """Report on MODEL.WEIGHTS in every direction of every data set of DATASETS.TESTS.

    What attacks found is kept in ``folder``/records, so that a report that was stopped goes on.

    Args:
        cfg: of the run; ATTACK is the threat model.
        level: name in ``LEVELS``.
        folder: is made; a card, its Markdown and its page are called DATASET_DIRECTION.
        twin: weights of the same model without its defence; empty for none.
        trainings: weights of the same config trained with other seeds.

    Yields:
        Path of the page, and the card.

    Raises:
        InputError: there is no such level, the weights do not fit, or the threat is one that
            reports do not know.
    """
    if level not in LEVELS:
        choices = ", ".join(closest_names(level, list(LEVELS)))
        raise InputError(f"--level: '{level}'; expected {choices}")
    if cfg.ATTACK.SIDE != "query":
        raise InputError(f"ATTACK.SIDE: '{cfg.ATTACK.SIDE}'; a report attacks the query")
    if not cfg.ATTACK.EPS > 0:
        raise InputError(f"ATTACK.EPS: {cfg.ATTACK.EPS}; a report expects a budget above 0")
    if cfg.ATTACK.SAVE_IMAGES:
        raise InputError(
            f"ATTACK.SAVE_IMAGES: '{cfg.ATTACK.SAVE_IMAGES}'; a report saves none, expected ''"
        )
    for name in (*LEVELS[level].attacks, MEASURE):
        build_attack(name, cfg, "TEST.ATTACKS")
    model = load_model(cfg, cfg.MODEL.WEIGHTS)
    other = load_model(cfg, twin) if twin else None
    others = [load_model(cfg, weights) for weights in trainings]
    given = [(f"MODEL.WEIGHTS {cfg.MODEL.WEIGHTS}", model)]
    given += [(f"--trainings {path}", one) for path, one in zip(trainings, others, strict=True)]
    refuse_same_weights([*given, *([(f"--twin {twin}", other)] if other else [])])
    with hold(folder, "--out", "report"):
        yield from cards(cfg, level, folder, model, other, others)


def refuse_same_weights(models: Sequence[tuple[str, nn.Module]]) -> None:
    """Raise InputError if two models, given with the option that names them, have equal weights."""
    for index, (option, model) in enumerate(models):
        for earlier, other in models[:index]:
            if same_weights(model, other):
                raise InputError(
                    f"{option}: the very weights of {earlier}; expected those of another training"
                )


def same_weights(model: nn.Module, other: nn.Module) -> bool:
    """Tell whether two models of one config have equal weights on the path to their features."""
    states = [
        {k: v for k, v in one.state_dict().items() if not k.startswith(OPTIONAL_KEYS)}
        for one in (model, other)
    ]
    return all(torch.equal(tensor, states[1][name]) for name, tensor in states[0].items())


def cards(
    cfg: CfgNode,
    level: str,
    folder: Path,
    model: nn.Module,
    other: nn.Module | None,
    others: Sequence[nn.Module],
) -> Iterator[tuple[Path, dict]]:
    """What :func:`report` yields, once all that can be wrong with its arguments is checked."""
    for name in cfg.DATASETS.TESTS:
        evaluator = evaluate_clean(cfg, model, name)
        undefended = evaluate_clean(cfg, other, name) if other else None
        repeated = [evaluate_clean(cfg, one, name) for one in others]
        items = [as_tracklet(item) for item in evaluator.items]
        for direction in evaluator.directions:
            records = folder / "records"
            lab = Lab(evaluator, direction, LEVELS[level], records, undefended, repeated)
            tell_skipped(lab)
            card = make_card(lab, level, name)
            pictures = {
                "Rank-1 and mAP by attack, with 95 % intervals over people": draw_attacks(card),
                "Rank-1 by budget": draw_curve(card),
                "Rank-1 by person": draw_people(card),
            }
            for number, example in enumerate(find_examples(lab, items), start=1):
                caption = f"Example {number}: what the query finds before and after the attack"
                pictures[caption] = draw_example(example)
            stem = folder / f"{name}_{lab.search.name}".replace(" ", "_")
            write_card(card, stem)
            path = stem.with_name(f"{stem.name}.html")
            write_text(path, page(card, pictures))
            yield path, card
