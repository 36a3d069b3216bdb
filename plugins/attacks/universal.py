"""Universal perturbations: one delta that is added to every image, whoever it shows.

Legend: T frames of a clip, H x W size of the input. Pixels, budgets and steps are in
gray levels, 0 to 255.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import chain

import torch
from torch import Tensor

from plugins.attacks.features import FeaturesOf, float_images
from plugins.attacks.gray import gray_some
from plugins.attacks.guides import Guides
from plugins.attacks.tracker import gradient_of

GuidedBatch = tuple[dict, Guides]


@dataclass(frozen=True)
class UniversalRecipe:
    """How the delta is learned.

    Attributes:
        eps: largest |delta| of a pixel, gray levels.
        step_size: length of one step, which is one batch; gray levels.
        momentum: share of the old direction that is kept; 0 is UAP.
        gray: probability that a row is shown in gray while the delta is learned.
        per_frame: a delta for each frame, for clips of one length; else one for all frames.
    """

    eps: float
    step_size: float
    momentum: float = 0.0
    gray: float = 0.0
    per_frame: bool = False


def uap(eps: float) -> UniversalRecipe:
    """Return the recipe of UAP for retrieval: plain signed steps. Li et al., ICCV 2019."""
    return UniversalRecipe(eps=eps, step_size=eps / 10)


def muap(eps: float) -> UniversalRecipe:
    """Return the recipe of MUAP: UAP with momentum. Ding et al., IEEE TIFS 2021."""
    return UniversalRecipe(eps=eps, step_size=eps / 10, momentum=1.0)


def cmps(eps: float) -> UniversalRecipe:
    """Return the recipe of CMPS, across modalities. Gong et al., NeurIPS 2024.

    It expects batches that ``alternate``, guided by ``centroids`` of the other modality.
    """
    return UniversalRecipe(eps=eps, step_size=eps / 12, momentum=1.0, gray=0.2)


def alternate(
    visible: Iterable[GuidedBatch], infrared: Iterable[GuidedBatch]
) -> Iterator[GuidedBatch]:
    """Yield a visible batch, an infrared batch, and so on until one side ends."""
    return chain.from_iterable(zip(visible, infrared, strict=False))


def add_delta(batch: dict, delta: Tensor) -> dict:
    """Return the batch with a delta (3, H, W) or (T, 3, H, W) on its images, within [0, 255]."""
    return {**batch, "images": (batch["images"] + delta).clamp(0, 255)}


def universal_delta(
    features_of: FeaturesOf,
    batches: Iterable[GuidedBatch],
    objective: Callable[[Tensor, Guides], Tensor],
    recipe: UniversalRecipe,
    seed: int,
) -> Tensor:
    """Maximize the sum of the objective over the rows, one signed step for each batch.

    The start is drawn within the budget, because some objectives have no gradient at clean images.

    Args:
        features_of: batch to (R, D) features, differentiable in its images; the model is in
            evaluation mode throughout.
        batches: (batch, guides of its rows), all passes over the data one after the other.
        objective: (features, guides) to (R,), to maximize.
        recipe: budget and steps.
        seed: seed of the start and of the choice of gray rows.

    Returns:
        (3, H, W), or (T, 3, H, W) with ``per_frame``; no absolute value above eps.
    """
    generator = torch.Generator().manual_seed(seed)
    delta: Tensor | None = None
    direction: Tensor | float = 0.0
    for batch, guides in batches:
        images = float_images(batch)["images"]
        if delta is None:
            shape = images.shape[1:] if recipe.per_frame else images.shape[-3:]
            delta = recipe.eps * (2 * torch.rand(shape, generator=generator) - 1).to(images)
        shown = {**batch, "images": gray_some(images, recipe.gray, generator)}
        delta.requires_grad_()
        total = objective(features_of(add_delta(shown, delta)), guides).sum()
        gradient = gradient_of(total, delta)
        size = gradient.abs().mean().clamp_min(torch.finfo(gradient.dtype).tiny)
        direction = recipe.momentum * direction + gradient / size
        delta = delta.detach() + recipe.step_size * direction.sign()
        delta = delta.clamp(-recipe.eps, recipe.eps)
    assert delta is not None, "no batch to learn a universal delta from"
    return delta
