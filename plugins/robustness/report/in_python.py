"""A report from Python: any callable that gives features, tensors in memory, no config."""

import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from plugins.config import check_value, setup_cfg
from plugins.errors import InputError, require_output
from plugins.robustness.checks import warn_of_skipped
from plugins.robustness.in_memory import ImageModel, TensorDirection, join_sides
from plugins.robustness.levels import LEVELS
from plugins.robustness.report.card import make_card
from plugins.robustness.report.write import check_arguments, write_report
from plugins.robustness.runner import AttackRunner
from plugins.utils.names import closest_names

DATASET = "memory"  # the name of what no data set holds


def robustness_report(
    model: Callable[[Tensor], Tensor],
    queries: Mapping[str, Any],
    gallery: Mapping[str, Any],
    *,
    eps: float = 8.0,
    level: str = "quick",
    metric: str = "cosine",
    seed: int = 0,
    attacked: int = 0,
    name: str = "",
    out: str | Path | None = None,
    **attack: Any,
) -> dict:
    """Attack a model in many ways, and check whether its robust accuracy can be trusted.

    This is ``tools/robust_report.py`` for a model that is no fastreid model. Checks that need a
    data set, such as other training people, are skipped.

    Args:
        model: images (B, 3, H, W) or (B, T, 3, H, W) in [0, 255], shaped as those given here, to
            features (B, D), differentiable; a ``torch.nn.Module`` or a function. It must treat each
            image by itself.
        queries: ``images`` (Q, 3, H, W) or (Q, T, 3, H, W); ``targets`` (Q,) whole numbers, the
            persons; optionally ``camids`` (Q,), with which items of the same person and camera are
            junk, and ``modalities`` (Q,), 1 for infrared.
        gallery: likewise, of G items.
        eps: radius of the L-inf ball, in gray levels.
        level: "quick", "standard" or "full".
        metric: "cosine" or "euclidean".
        seed: seed of all random draws.
        attacked: number of queries to attack, drawn by ``seed``; 0 for that of the level.
        name: name of the model in the report; by default that of its class or function.
        out: folder for card, Markdown and page, where an interrupted report resumes; None writes
            nothing that stays.
        attack: further keys of the section ATTACK in lower case, such as ``norm="l2"``,
            ``batch=32`` or ``infrared="tied"``.

    Returns:
        The card, see ``plugins.robustness.report.card``; "headline" says what it is worth.

    Raises:
        InputError: an argument has no such value, images are not in [0, 255], the model does not
            give one feature vector for each item, or no query has its person in the gallery.
    """
    own = {"EPS": eps, "SEED": seed, "QUERIES": attacked}
    keys = {**own, **{key.upper(): value for key, value in attack.items()}}
    items = join_sides(queries, gallery)
    images = items["images"]
    cfg = setup_cfg()
    cfg.defrost()
    for key, value in keys.items():
        if key not in cfg.ATTACK:
            others = [each for each in cfg.ATTACK if each not in own]
            choices = ", ".join(closest_names(key, others)).lower()
            raise InputError(f"robustness_report: no option '{key.lower()}'; known: {choices}")
        check_value(f"ATTACK.{key}", value)
        cfg.ATTACK[key] = value
    check_value("TEST.METRIC", metric)
    cfg.TEST.METRIC = metric
    cfg.INPUT.SIZE_TEST = list(images.shape[-2:])
    cfg.INPUT.CLIP.LENGTH = images.shape[1] if images.dim() == 5 else 1
    cfg.MODEL.META_ARCHITECTURE = name or getattr(model, "__name__", type(model).__name__)
    check_arguments(cfg, level)
    if not callable(model):
        raise InputError(
            f"robustness_report: the model is {type(model).__name__}; expected a callable"
        )
    cfg.freeze()
    if out is not None:
        require_output("out", Path(out))
    direction = TensorDirection(
        cfg, ImageModel(model, torch.device("cpu")), items, len(queries["targets"])
    )
    if out is not None:
        runner = AttackRunner(direction, LEVELS[level], Path(out, "records"))
        return write_report(runner, level, DATASET, Path(out))[1]
    with tempfile.TemporaryDirectory() as records:
        runner = AttackRunner(direction, LEVELS[level], Path(records))
        warn_of_skipped(runner)
        return make_card(runner, level, DATASET)
