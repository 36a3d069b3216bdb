"""A model as an attack sees it: a batch in, the ranked features out, and nothing left behind.

Legend: B clips in the batch, R rows (items of query + gallery) they belong to, D feature length.
"""

import contextlib
import random
from collections.abc import Iterator

import numpy as np
import torch
import torch.nn.functional as F
from fastreid.config import CfgNode
from torch import Tensor, nn

from plugins.errors import InputError
from plugins.evaluation.views import average_clips, viewed
from plugins.modeling.freeze import evaluation_mode, frozen_parameters


class Adapter:
    """Features (R, D) of a batch as ``VVIEvaluator`` ranks them, with a gradient to the images.

    Takes images in [0, 255] of any meta-architecture, also fastreid's own; averages over mirror
    images (TEST.FLIP) and over the clips of a row (TEST.CLIPS) as the evaluator does. A cosine is
    taken of these features, not by them: stock models do not give features of length 1.

    Attributes:
        model: the attacked network, in any mode.
        metric: "cosine" or "euclidean", TEST.METRIC.
    """

    def __init__(self, model: nn.Module, cfg: CfgNode) -> None:
        """Wrap ``model``; TEST.METRIC, TEST.FLIP and TEST.CLIPS are read."""
        self.model = model
        self.metric = cfg.TEST.METRIC
        self._view = viewed(model, cfg)
        self._unit = cfg.TEST.CLIPS != 1 and self.metric == "cosine"

    def __call__(self, batch: dict) -> Tensor:
        """The same as ``features``."""
        return self.features(batch)

    def features(self, batch: dict) -> Tensor:
        """Features of the rows of a batch, differentiable in its images.

        Args:
            batch: ``images`` (B, T, 3, H, W) or (B, 3, H, W) in [0, 255], on any device; what else
                the model reads; ``rows`` (B,) the item of each clip, without it each its own.

        Returns:
            (R, D) float32, in ascending order of the rows.
        """
        groups, rows = row_groups(batch)
        device = next(self.model.parameters()).device
        # A copy: fastreid/modeling/meta_arch/baseline.py:125 normalises what it is given in place.
        images = batch["images"].to(device, copy=True)
        with evaluated(self.model):
            features = self._view({**batch, "images": images}).float()
        groups = groups.to(features.device)
        features = average_clips(features, groups, groups.bincount(minlength=len(rows)))
        return F.normalize(features, dim=1) if self._unit else features


def float_images(batch: dict) -> dict:
    """Give the batch images in which a perturbation has room: float32, or float64 as they are.

    An unsigned byte below 0 is 255, and between 128 and 255 half precision knows eighths of a gray
    level, bfloat16 whole ones.

    Args:
        batch: ``images`` of real numbers; it is not changed.

    Raises:
        InputError: images of another type.
    """
    dtype = batch["images"].dtype
    if dtype in (torch.float32, torch.float64):
        return batch
    if dtype.is_complex or dtype == torch.bool:
        raise InputError(f"attack: images are of {dtype}; expected numbers in [0, 255]")
    return {**batch, "images": batch["images"].float()}


def row_groups(batch: dict) -> tuple[Tensor, Tensor]:
    """The place (B,) of each clip's row among the distinct rows, and these (R,), ascending."""
    if "rows" not in batch:
        rows = torch.arange(len(batch["images"]))
        return rows, rows
    rows, groups = batch["rows"].cpu().unique(return_inverse=True)
    return groups, rows


@contextlib.contextmanager
def attacking(model: nn.Module) -> Iterator[None]:
    """Evaluation mode without parameter gradients; then everything is as it was.

    Put back, also after an exception: each module's mode, each parameter's ``requires_grad``, the
    buffers, and the random states of Python, numpy and torch. No ``.grad`` is touched.
    """
    buffers = [(buffer, buffer.clone()) for buffer in model.buffers()]
    try:
        with evaluated(model), preserved_random_state():
            yield
    finally:
        with torch.no_grad():
            for buffer, before in buffers:
                buffer.copy_(before)


@contextlib.contextmanager
def evaluated(model: nn.Module) -> Iterator[None]:
    """Evaluation mode, and graphs that lead to the input but not to the parameters."""
    with evaluation_mode(model), frozen_parameters(model.parameters()):
        yield


@contextlib.contextmanager
def preserved_random_state() -> Iterator[None]:
    """Whatever is drawn inside, the global generators go on from where they were."""
    python, numpy = random.getstate(), np.random.get_state()
    # Of the GPU in use alone; by default all are forked, in each of several processes.
    devices = [torch.cuda.current_device()] if torch.cuda.is_initialized() else []
    try:
        with torch.random.fork_rng(devices):
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)
