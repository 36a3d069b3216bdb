"""A model as an attack sees it: a batch in, the ranked features out, and no trace left behind.

Legend: B clips in the batch, R rows (items of query + gallery) they belong to, D feature length.
"""

import contextlib
import logging
import random
from collections.abc import Callable, Iterator

import numpy as np
import torch
import torch.nn.functional as F
from fastreid.config import CfgNode
from fastreid.utils.logger import log_first_n
from torch import Tensor, nn

from plugins.errors import InputError
from plugins.evaluation.views import average_clips, viewed
from plugins.modeling.freeze import evaluation_mode, frozen_parameters

# A batch to the features (R, D) of its rows, in ascending order of the rows.
FeaturesOf = Callable[[dict], Tensor]


class Adapter:
    """Gives the features (R, D) of a batch as ``VVIEvaluator`` ranks them, with a gradient.

    Images are in [0, 255], for any meta-architecture, including fastreid's own. Features are
    averaged over mirror images (TEST.FLIP) and over the clips of a row (TEST.CLIPS), as the
    evaluator does. The caller takes the cosine, because stock models do not normalize features.

    Attributes:
        model: the attacked network, in any mode.
        metric: "cosine" or "euclidean", TEST.METRIC.
    """

    def __init__(self, model: nn.Module, cfg: CfgNode) -> None:
        """Wrap ``model``; read TEST.METRIC, TEST.FLIP and TEST.CLIPS."""
        self.model = model
        self.metric = cfg.TEST.METRIC
        self._view = viewed(model, cfg)
        self._unit = cfg.TEST.CLIPS != 1 and self.metric == "cosine"
        self._evaluated = False

    def __call__(self, batch: dict) -> Tensor:
        """Return ``features``."""
        return self.features(batch)

    def features(self, batch: dict) -> Tensor:
        """Compute the features of the rows of a batch, differentiable in its images.

        Args:
            batch: ``images`` (B, T, 3, H, W) or (B, 3, H, W) in [0, 255], on any device; the
                entries that the model reads; ``rows`` (B,) the item of each clip, by default each
                clip is its own item.

        Returns:
            (R, D) float32, in ascending order of the rows.
        """
        device = next(self.model.parameters()).device
        # A copy, because fastreid/modeling/meta_arch/baseline.py:125 normalizes images in place.
        images = batch["images"].to(device, copy=True)
        with contextlib.nullcontext() if self._evaluated else evaluated(self.model):
            features = self._view({**batch, "images": images}).float()
        features = average_rows(features, batch)
        return F.normalize(features, dim=1) if self._unit else features

    @contextlib.contextmanager
    def attacking(self) -> Iterator[None]:
        """Attack the model inside, see ``attacking``; its mode is set once for all passes."""
        with attacking(self.model):
            before, self._evaluated = self._evaluated, True
            try:
                yield
            finally:
                self._evaluated = before


class ImageFeatures:
    """Gives the features of a batch by a callable that takes nothing but images.

    Attributes:
        model: images (B, T, 3, H, W) or (B, 3, H, W) in [0, 255], shaped as the batch has them, to
            features (B, D), differentiable.
    """

    def __init__(self, model: Callable[[Tensor], Tensor]) -> None:
        """Wrap ``model``, which may be a ``torch.nn.Module`` or a function."""
        self.model = model

    def __call__(self, batch: dict) -> Tensor:
        """Compute the features (R, D) of the rows of a batch.

        Raises:
            InputError: the model does not return one feature vector, of real numbers, for each
                clip.
        """
        # A copy, so that a model may normalize its input in place.
        images = batch["images"].clone()
        features = self.model(images)
        if not torch.is_tensor(features) or features.dim() != 2 or len(features) != len(images):
            seen = tuple(features.shape) if torch.is_tensor(features) else type(features).__name__
            raise InputError(
                f"attack: the model returned {seen} for {len(images)} images; expected a tensor "
                "(B, D) of features, one row for each image or clip"
            )
        if features.is_complex() or features.dtype == torch.bool:
            raise InputError(
                f"attack: the model returned features of {features.dtype}; expected real numbers"
            )
        return average_rows(features, batch)

    def attacking(self) -> contextlib.AbstractContextManager[None]:
        """Attack the model inside, see ``attacking``; of a function only random states are kept."""
        if isinstance(self.model, nn.Module):
            return attacking(self.model)
        return preserved_random_state()


def average_rows(features: Tensor, batch: dict) -> Tensor:
    """Average the features (B, D) of the clips of each row: (R, D), ascending by row."""
    groups, rows = row_groups(batch)
    if torch.equal(groups, torch.arange(len(features))):
        # One clip for each row, in order; adding 0 turns -0.0 into 0.0, as the average does.
        return features + 0.0
    groups = groups.to(features.device)
    return average_clips(features, groups, groups.bincount(minlength=len(rows)))


def float_images(batch: dict) -> dict:
    """Convert the images of a batch to float32; float32 and float64 stay as they are.

    Other types have no room for a perturbation: an unsigned byte below 0 wraps to 255, and between
    128 and 255 float16 resolves eighths of a gray level, bfloat16 whole levels.

    Args:
        batch: ``images`` of real numbers; the batch is not changed.

    Raises:
        InputError: the images are complex or bool.
    """
    dtype = batch["images"].dtype
    if batch["images"].is_inference():  # no gradient would reach them
        batch = {**batch, "images": batch["images"].clone()}
    if dtype in (torch.float32, torch.float64):
        return batch
    if dtype.is_complex or dtype == torch.bool:
        raise InputError(f"attack: images are of {dtype}; expected numbers in [0, 255]")
    return {**batch, "images": batch["images"].float()}


def check_range(images: Tensor, name: str) -> None:
    """Check that images are in gray levels; warn, once, of images that look like shares of 255.

    Args:
        images: of one batch, real numbers.
        name: of the images, for the message.

    Raises:
        InputError: an image is not in [0, 255], for example because it is normalized.
    """
    lowest, highest = torch.stack(images.aminmax()).tolist()
    if not 0 <= lowest <= highest <= 255:
        raise InputError(
            f"attack: {name} lie in [{lowest:g}, {highest:g}]; expected [0, 255], "
            "as they are before normalization"
        )
    if 0 < highest <= 1:
        message = (
            f"attack: {name} lie in [{lowest:.3g}, {highest:.3g}], at most one gray level; images "
            "and budgets are in gray levels, 0 to 255: for a model that takes [0, 1], multiply "
            "the images by 255 and let the model divide them"
        )
        log_first_n(logging.WARNING, message, name=__name__, key="message")


def row_groups(batch: dict) -> tuple[Tensor, Tensor]:
    """Return the index (B,) of each clip's row among the distinct rows (R,), and these, ascending.

    Both are on the CPU.
    """
    if "rows" not in batch:
        rows = torch.arange(len(batch["images"]))
        return rows, rows
    rows, groups = batch["rows"].cpu().unique(return_inverse=True)
    return groups, rows


def select_clips(batch: dict, clips: Tensor) -> dict:
    """Return the clips of a batch where ``clips`` (B,) is True, of every entry of the batch."""
    kept = clips.nonzero().flatten()
    return {
        key: values[kept.to(values.device)]
        if torch.is_tensor(values)
        else [values[clip] for clip in kept.tolist()]
        for key, values in batch.items()
    }


def undisturbed(features_of: FeaturesOf) -> contextlib.AbstractContextManager[None]:
    """Return the context in which ``features_of`` is attacked and nothing global changes.

    It is the callable's own ``attacking`` if it has one, else it preserves the random states.
    """
    if isinstance(features_of, (Adapter, ImageFeatures)):
        return features_of.attacking()
    return preserved_random_state()


@contextlib.contextmanager
def attacking(model: nn.Module) -> Iterator[None]:
    """Set evaluation mode without parameter gradients; restore everything afterwards.

    Also after an exception, this restores each module's mode, each parameter's ``requires_grad``,
    the buffers, and the random states of Python, numpy and torch. No ``.grad`` changes. The modes
    and random states are global, so only one thread may attack at a time.
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
    """Set evaluation mode, and build graphs that lead to the input but not to the parameters."""
    with evaluation_mode(model), frozen_parameters(model.parameters()):
        yield


@contextlib.contextmanager
def preserved_random_state() -> Iterator[None]:
    """Restore the global random generators afterwards, whatever is drawn inside."""
    python, numpy = random.getstate(), np.random.get_state()
    # Only the GPU in use; by default all GPUs are forked, in each of several processes.
    devices = [torch.cuda.current_device()] if torch.cuda.is_initialized() else []
    try:
        with torch.random.fork_rng(devices):
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)
