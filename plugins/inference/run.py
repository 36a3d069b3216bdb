"""Open the folder of a run: its config and its weights, and what they say of the input."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fastreid.config import CfgNode
from torch import nn

from plugins.config import setup_cfg
from plugins.engine.checkpoint import Checkpointer
from plugins.engine.defaults import take_available_device
from plugins.engine.evaluation_settings import SETTINGS, feature_settings
from plugins.errors import InputError
from plugins.evaluation.views import options_suffix
from plugins.utils.io import file_digest, require_file

CONFIG = "config.yaml"
# The settings of an evaluation; a frame cache may be gone, and gives the same pixels to the bit.
EVALUATED = (
    *("MODEL.BACKBONE.PRETRAIN", False, "MODEL.SELF_ATTACK.CAM_WEIGHT", 0.0),
    *("DATALOADER.FRAME_CACHE", ""),
)


def open_run(
    run: str | os.PathLike,
    config: str | os.PathLike = "",
    weights: str | os.PathLike = "",
    opts: Sequence = (),
    plugins: Sequence[str] = (),
) -> CfgNode:
    """Read the config of a run, of this package or of fastreid alone, with MODEL.WEIGHTS set.

    Args:
        run: the run's folder, or a file of weights: a checkpoint or a plain state dict.
        config: config to use; empty for ``config.yaml`` in the folder, or beside the file.
        weights: file of weights; empty for the newest checkpoint of the folder that is not
            ``model_best.pth``, and that one where there is no other.
        opts: overrides of the config.
        plugins: modules and files of the user's own; those that the folder names are not imported
            unless they are here.

    Raises:
        InputError: there is no such folder, config or checkpoint, or the config is not right.
    """
    run = Path(run)
    if run.is_file() and weights:
        raise InputError(f"{run}: a file; expected the folder of a run beside weights {weights}")
    if not run.exists():
        raise InputError(f"{run}: no such folder or file; expected the folder of a run")
    folder = run.parent if run.is_file() else run
    if not config:
        config = folder / CONFIG
        if not config.is_file():
            raise InputError(f"{config}: no such file; expected the config of the run {run}")
    chosen = str(weights) or (str(run) if run.is_file() else newest(folder))
    require_file(chosen, "weights")
    cfg = setup_cfg(str(config), [*EVALUATED, *opts, "MODEL.WEIGHTS", chosen], plugins)
    take_available_device(cfg)
    cfg.freeze()
    return cfg


def newest(folder: Path) -> str:
    """Return the newest checkpoint of a run's folder.

    Raises:
        InputError: there is none.
    """
    best = folder / "model_best.pth"
    found = Checkpointer(nn.Identity(), str(folder)).get_checkpoint_file()
    if not found and not best.is_file():
        raise InputError(f"{folder}: holds no checkpoint; expected one, such as model_final.pth")
    return found or str(best)


def describe_network(cfg: CfgNode) -> dict[str, Any]:
    """Describe what decides a feature: the weights, the input and the options of the test.

    Features of two networks do not compare, nor do those of one network tested in two ways.
    "settings" holds each key of the config that decides a feature of these weights.
    """
    return {
        "architecture": cfg.MODEL.META_ARCHITECTURE,
        "weights": file_digest(cfg.MODEL.WEIGHTS),
        "size": list(input_size(cfg)),
        "color": "RGB",
        "frames": cfg.INPUT.CLIP.LENGTH,
        "sampling": cfg.INPUT.CLIP.SAMPLING,
        "stride": cfg.INPUT.CLIP.STRIDE,
        "order": cfg.INPUT.CLIP.ORDER,
        "options": options_suffix(cfg),
        "metric": cfg.TEST.METRIC,
        SETTINGS: feature_settings(cfg),
    }


def input_size(cfg: CfgNode) -> tuple[int, int]:
    """Return height and width of the frames that the network gets in a test."""
    height, width = cfg.INPUT.CROP.SIZE if cfg.INPUT.CROP.ENABLED else cfg.INPUT.SIZE_TEST
    return int(height), int(width)
