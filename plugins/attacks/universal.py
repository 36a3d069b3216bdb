"""One perturbation for all: a delta that is added to every image, whoever is on it.

Legend: T frames of a clip, H x W size of the input. Pixels, budgets and steps are in [0, 255].
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import chain

import torch
from torch import Tensor

from plugins.attacks.features import float_images
from plugins.attacks.gray import gray_some
from plugins.attacks.guides import Guides

GuidedBatch = tuple[dict, Guides]


@dataclass(frozen=True)
class UniversalRecipe:
    """How the delta is found.

    Attributes:
        eps: largest |delta| of a pixel, 0-255 units.
        step_size: of one step, which is one batch; 0-255 units.
        momentum: share of the old direction that is kept; 0 is UAP.
        gray: probability that a row is grey while the delta is sought.
        per_frame: a delta for each frame, so that clips must be of one length; else one for all.
    """

    eps: float
    step_size: float
    momentum: float = 0.0
    gray: float = 0.0
    per_frame: bool = False


def uap(eps: float) -> UniversalRecipe:
    """UAP of retrieval: Li et al., ICCV 2019; plain signed steps."""
    return UniversalRecipe(eps=eps, step_size=eps / 10)


def muap(eps: float) -> UniversalRecipe:
    """MUAP: with momentum; Ding et al., IEEE TIFS 2021."""
    return UniversalRecipe(eps=eps, step_size=eps / 10, momentum=1.0)


def cmps(eps: float) -> UniversalRecipe:
    """CMPS, across modalities: Gong et al., NeurIPS 2024.

    Give it ``by_turns`` batches whose guides are ``centroids`` of the other modality.
    """
    return UniversalRecipe(eps=eps, step_size=eps / 12, momentum=1.0, gray=0.2)


def by_turns(
    visible: Iterable[GuidedBatch], infrared: Iterable[GuidedBatch]
) -> Iterator[GuidedBatch]:
    """A visible batch, an infrared one, and so on until one of them ends."""
    return chain.from_iterable(zip(visible, infrared, strict=False))


def add_delta(batch: dict, delta: Tensor) -> dict:
    """A new batch whose images carry the delta, (3, H, W) or (T, 3, H, W), within [0, 255]."""
    return {**batch, "images": (batch["images"] + delta).clamp(0, 255)}


def universal_delta(
    features_of: Callable[[dict], Tensor],
    batches: Iterable[GuidedBatch],
    objective: Callable[[Tensor, Guides], Tensor],
    recipe: UniversalRecipe,
    seed: int,
) -> Tensor:
    """Climb the objective's sum over the rows of each batch, one signed step a batch.

    The start is drawn within the budget, as some objectives have no gradient at a clean image.

    Args:
        features_of: batch to (R, D) features, differentiable in its images; for all epochs in the
            mode in which the model is evaluated.
        batches: (batch, guides of its rows), all passes over the data one after the other.
        objective: (features, guides) to (R,), to maximise.
        recipe: budget and steps.
        seed: of the start and of which rows are grey.

    Returns:
        (3, H, W), or (T, 3, H, W) with ``per_frame``; nowhere above eps.
    """
    generator = torch.Generator().manual_seed(seed)
    delta = direction = None
    for batch, guides in batches:
        images = float_images(batch)["images"]
        if delta is None:
            shape = images.shape[1:] if recipe.per_frame else images.shape[-3:]
            delta = recipe.eps * (2 * torch.rand(shape, generator=generator) - 1).to(images)
            direction = torch.zeros_like(delta)
        seen = {**batch, "images": gray_some(images, recipe.gray, generator)}
        delta.requires_grad_()
        total = objective(features_of(add_delta(seen, delta)), guides).sum()
        (gradient,) = torch.autograd.grad(total, delta)
        size = gradient.abs().mean().clamp_min(torch.finfo(gradient.dtype).tiny)
        direction = recipe.momentum * direction + gradient / size
        delta = delta.detach() + recipe.step_size * direction.sign()
        delta = delta.clamp(-recipe.eps, recipe.eps)
    assert delta is not None, "no batch to learn a universal delta from"
    return delta
