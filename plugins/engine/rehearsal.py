"""Try a user's evaluator before the first epoch, so that a fault of it costs no training."""

import logging
import math
import numbers
from collections.abc import Iterator
from typing import Any

import torch
from fastreid.config import CfgNode
from fastreid.utils import comm
from torch import Tensor, nn

from plugins.data.loaders import DeviceLoader
from plugins.errors import InputError
from plugins.registry import check_call
from plugins.utils.own_code import is_users
from plugins.utils.values import shortened

logger = logging.getLogger(__name__)

# Methods that a run calls, with the names of their arguments.
METHODS = {"reset": (), "process": ("inputs", "outputs"), "evaluate": (), "row_names": ()}


def rehearse(evaluator: Any, cfg: CfgNode, loader: DeviceLoader, model: nn.Module) -> None:
    """Let a user's evaluator score random features of all items; no image is read.

    All processes call it, as they call the evaluator later.

    Args:
        evaluator: as a run builds it, to be thrown away afterwards.
        cfg: config of the run.
        loader: loader of the test clips of this process.
        model: network to evaluate; one blank clip tells the length of its features.

    Raises:
        InputError: a method is missing or takes other arguments, or what it returns is no result.
    """
    if not is_users(type(evaluator)):
        return
    name = cfg.TEST.EVALUATOR
    for method, arguments in METHODS.items():
        if not callable(getattr(evaluator, method, None)):
            raise InputError(
                f"TEST.EVALUATOR: {name} has no {method}; expected a subclass of "
                "plugins.evaluation.VVIEvaluator, or its methods"
            )
        check_call(getattr(evaluator, method), f"{name}.{method}", "TEST.EVALUATOR", arguments)
    logger.info("Trying TEST.EVALUATOR %s on random features", name)
    generator = torch.Generator().manual_seed(comm.get_rank())
    length = 0
    evaluator.reset()
    for batch in blank_batches(cfg, loader):
        length = length or feature_length(model, batch["images"][:1])
        shape = len(batch["rows"]), length
        evaluator.process(batch, torch.randn(shape, generator=generator))
    results = evaluator.evaluate()
    if comm.is_main_process():
        check_results(name, {} if results is None else results)


@torch.no_grad()
def feature_length(model: nn.Module, images: Tensor) -> int:
    """Return the length of the feature that a model gives for one clip; its mode is put back."""
    device = next(model.parameters()).device
    batch = {"images": images.to(device), "modalities": torch.zeros(1, dtype=torch.long)}
    training = model.training
    try:
        return model.eval()(batch).shape[1]
    finally:
        model.train(training)


def blank_batches(cfg: CfgNode, loader: DeviceLoader) -> Iterator[dict]:
    """Yield the test batches of this process with blank images, which take no memory."""
    clips = loader.dataset
    frames = () if clips.holds_images else (cfg.INPUT.CLIP.LENGTH,)
    for indices in loader.batch_sampler:
        rows = [clips.clip_rows[index] for index in indices]
        items = [clips.items[row] for row in rows]
        files = [clips.clip_files(index) for index in indices]
        yield {
            "images": torch.zeros(1).expand(len(rows), *frames, 3, *cfg.INPUT.SIZE_TEST),
            "targets": torch.tensor([item.pid for item in items]),
            "camids": torch.tensor([item.camid for item in items]),
            "modalities": torch.tensor([item.modality for item in items]),
            "is_pseudo": torch.tensor([item.is_pseudo for item in items]),
            "rows": torch.tensor(rows),
            "img_paths": [paths[0] if clips.holds_images else paths for paths in files],
        }


def check_results(name: str, results: dict) -> None:
    """Raise InputError unless an evaluator returned rows of finite numbers.

    Args:
        name: of the evaluator, for the message.
        results: what it returned; fastreid puts an empty mapping in the place of None.
    """
    expected = "expected {row: {metric: percent}} and the mean as 'metric'"
    if not isinstance(results, dict) or not results:
        raise InputError(f"TEST.EVALUATOR {name}: it returned no results; {expected}")
    for row, block in results.items():
        values = block if isinstance(block, dict) else {"": block}
        for metric, value in values.items():
            if not (isinstance(value, numbers.Real) and math.isfinite(value)):
                raise InputError(
                    f"TEST.EVALUATOR {name}: {row} {metric}".rstrip()
                    + f": {shortened(value)}; expected a finite number"
                )
