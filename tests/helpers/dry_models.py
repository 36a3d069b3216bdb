"""Models on the meta device that tests share, where the trial of a model is not what they test."""

from collections.abc import Mapping

import pytest
from fastreid.config import CfgNode
from torch import nn

from plugins.config import flatten
from plugins.engine import checks
from plugins.modeling.dry_build import PARTS, check_model
from plugins.registry import LOSS

# What names a run, and no part of its model.
NAMES = ("OUTPUT_DIR", "SEED")
_tried: dict[tuple, nn.Module | None] = {}


def try_each_model_once(patch: pytest.MonkeyPatch) -> None:
    """Let the check of a run try a model once in a process; a model that is refused, each time.

    Equal settings that name the same parts have the same model.
    """

    def check_once(
        cfg: CfgNode, sizes: Mapping[str, tuple[int, int]], batch: int
    ) -> nn.Module | None:
        settings = repr([pair for pair in flatten(cfg) if pair[0] not in NAMES])
        parts = [tuple(registry._obj_map.items()) for registry in (*PARTS.values(), LOSS)]
        key = (settings, *sizes.items(), batch, *parts)
        if key not in _tried:
            _tried[key] = check_model(cfg, sizes, batch)
        return _tried[key]

    patch.setattr(checks, "check_model", check_once)
