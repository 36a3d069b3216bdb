"""Settings that decide the numbers of an evaluation; they stand beside the numbers.

An evaluation with other settings does not replace an older one in the same folder without a word.
"""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fastreid.config import CfgNode

from plugins.config import SPECS, flatten
from plugins.config.tree import ADDED_BY, plain
from plugins.engine.output_folder import EVALUATION, evaluation_files
from plugins.errors import InputError
from plugins.utils.io import file_digest, read_json

logger = logging.getLogger(__name__)

SECTIONS = ("INPUT.SIZE_TEST", "INPUT.CLIP.", "TEST.")
# Recorded where they are not the defaults: most runs need none of them.
PREPROCESSING = ("MODEL.PIXEL_MEAN", "MODEL.PIXEL_STD", "INPUT.CROP.ENABLED", "INPUT.CROP.SIZE")
OPTIONAL_SECTIONS = ("DATASETS.", "ATTACK.", "DEFENSE.GOAT.", *PREPROCESSING)
# What only training reads, or what changes no number.
OTHERS = (
    *("TEST.EVAL_PERIOD", "TEST.EXPECTED_RESULTS", "TEST.IMS_PER_BATCH", "TEST.PRECISE_BN."),
    *("TEST.RANK_PICTURE", "TEST.SELECT", "DATASETS.NAMES", "DATASETS.COMBINEALL"),
    "ATTACK.SAVE_IMAGES",
)
# What decides a feature of given weights, beside what decides an evaluation.
NETWORK_SECTIONS = ("MODEL.", *PREPROCESSING)
# Of these sections, what only training reads or what only ranks features.
OTHERS_OF_NETWORK = (
    *("MODEL.WEIGHTS", "MODEL.DEVICE", "MODEL.BACKBONE.PRETRAIN", "MODEL.FREEZE_LAYERS"),
    *("MODEL.LOSSES.", "MODEL.QUEUE_SIZE", "MODEL.SELF_ATTACK.", "MODEL.HEADS.NUM_CLASSES"),
    *("MODEL.HEADS.CLS_LAYER", "MODEL.HEADS.MARGIN", "MODEL.HEADS.SCALE"),
    *("TEST.AQE.", "TEST.ATTACKS", "TEST.EVALUATOR", "TEST.RERANK.", "TEST.ROC."),
)
SETTINGS, WEIGHTS, DIGEST = "settings", "weights", "weights_digest"


def evaluation_settings(cfg: CfgNode) -> dict[str, Any]:
    """List the settings that decide the numbers of an evaluation, as JSON holds them."""
    values = dict(flatten(plain(cfg)))
    defaults = {key: SPECS[key].default for key in values if key in SPECS}
    return {
        key: value
        for key, value in sorted(values.items())
        if not key.startswith(OTHERS)
        if key.startswith(SECTIONS)
        or (
            (key.startswith(OPTIONAL_SECTIONS) or key in ADDED_BY)
            and value != plain(defaults.get(key))
        )
    }


def feature_settings(cfg: CfgNode) -> dict[str, Any]:
    """List the settings that decide a feature of given weights, as JSON holds them."""
    return {
        key: value
        for key, value in sorted(flatten(plain(cfg)))
        if key.startswith((*SECTIONS, *NETWORK_SECTIONS))
        if not key.startswith((*OTHERS, *OTHERS_OF_NETWORK))
    }


def about_weights(path: str) -> dict[str, str]:
    """Name weights by their path and by twelve digits of their contents."""
    return {WEIGHTS: path, DIGEST: file_digest(path)}


def keep_other_evaluation(folder: Path, about: Mapping[str, Any]) -> None:
    """Rename the files of an older evaluation with other settings or weights, and say so.

    Args:
        folder: OUTPUT_DIR.
        about: weights and settings of the new evaluation, as its file will hold them.
    """
    if not (folder / EVALUATION).is_file():
        return
    try:
        older = read_json(folder / EVALUATION)
    except InputError:  # damaged: its settings are not known
        older = {}
    older = older if isinstance(older, dict) else {}
    if not (changed := differences(older, about)):
        return
    number = 1
    while any(new.exists() for _, new in evaluation_files(folder, number)):
        number += 1
    kept = [(old, new) for old, new in evaluation_files(folder, number) if old.exists()]
    for old, new in kept:
        old.rename(new)
    logger.warning(
        "OUTPUT_DIR %s: the evaluation there is another one (%s); it is kept as %s",
        folder,
        "; ".join(changed[:3]) + ("; ..." if changed[3:] else ""),
        ", ".join(new.name for _, new in kept),
    )


def differences(older: Mapping[str, Any], newer: Mapping[str, Any]) -> list[str]:
    """Say which settings, and whether the weights, of two evaluations differ.

    Args:
        older: contents of ``evaluation.json``.
        newer: what the new file will hold.
    """
    if not isinstance(older.get(SETTINGS), dict):
        return ["its settings are not recorded"]
    told = [
        f"{key} was {before}, is {now}"
        for key, (before, now) in changed_settings(older[SETTINGS], newer[SETTINGS]).items()
    ]
    if older.get(DIGEST) != newer[DIGEST]:
        told.append(
            f"MODEL.WEIGHTS was {older.get(WEIGHTS)} ({older.get(DIGEST)}), is {newer[WEIGHTS]} "
            f"({newer[DIGEST]})"
        )
    return told


def changed_settings(older: Mapping[str, Any], newer: Mapping[str, Any]) -> dict[str, tuple]:
    """Return (older, newer) value by key, of two records, where they differ."""
    pairs = {key: (setting(older, key), setting(newer, key)) for key in sorted({*older, *newer})}
    return {key: (before, now) for key, (before, now) in pairs.items() if before != now}


def setting(settings: Mapping[str, Any], key: str) -> Any:
    """Return a setting of a record, where it is not there the default of its key."""
    return settings.get(key, plain(SPECS[key].default) if key in SPECS else None)
