"""Compare the features of an exported file with those of the model that it was made of.

Legend: B items of a batch, T frames of a clip, H x W the model's size, D feature length.
"""

from collections.abc import Callable, Iterable

import numpy as np
import torch
from torch import Tensor

from plugins.errors import InputError, one_line
from plugins.inference.embedder import Embedder, unit

# Of an entry of a feature of length 1; rounding of float32 moves those of a ResNet-50 by 1e-7.
TOLERANCE = 1e-4
ITEMS, FRAMES = (1, 3), (1, 2, 6, 10)
# Patches of pictures that are drawn, in height and width.
PATCHES = (8, 4)


def draw_inputs(
    embedder: Embedder, items: int, frames: int, dtype: torch.dtype = torch.uint8, seed: int = 0
) -> list[Tensor]:
    """Draw what an exported model takes.

    The images are patches of color with some noise: a network sees more in them than in noise.

    Args:
        embedder: has the model.
        items: B.
        frames: T; read only if the model takes clips.
        dtype: type of the pixels.
        seed: of the draws.

    Returns:
        Images (B, T, 3, H, W), or (B, 3, H, W) alone of a model that takes images; else also
        modalities (B,), both kinds from two items on.
    """
    generator = torch.Generator().manual_seed(seed)
    frames = frames if embedder.takes_clips else 1
    patches = torch.rand(items * frames, 3, *PATCHES, generator=generator) * 240
    images = torch.nn.functional.interpolate(patches, size=embedder.size)
    images = images + 15 * torch.rand(images.shape, generator=generator)
    images = images.to(torch.uint8).to(dtype).unflatten(0, (items, frames))
    if not embedder.takes_clips:
        return [images[:, 0]]
    return [images, (torch.arange(items) + 1) % 2]  # an item alone is infrared


@torch.no_grad()
def expected_features(embedder: Embedder, inputs: list[Tensor]) -> Tensor:
    """Compute features (B, D) as an evaluation does; the inputs are those of ``draw_inputs``."""
    batch = dict(zip(("images", "modalities"), inputs, strict=False))
    features: Tensor = embedder.model(batch | {"images": batch["images"].float()})
    return unit(features) if embedder.cfg.TEST.METRIC == "cosine" else features


def largest_difference(
    embedder: Embedder,
    runners: Iterable[Callable[..., np.ndarray | Tensor]],
    frames: Iterable[int],
    *,
    bgr: bool,
    dtype: torch.dtype,
) -> float:
    """Measure the largest |difference| of an entry of a feature; NaN if one is none.

    Args:
        embedder: has the model.
        runners: functions of tensors or arrays, the files' models.
        frames: values of T.
        bgr: whether the files take blue, green, red.
        dtype: type of the pixels.

    Raises:
        InputError: a file does not run on one of the inputs.
    """
    runners = list(runners)
    worst = [0.0]
    for number, (count, items) in enumerate((f, i) for f in frames for i in ITEMS):
        inputs = draw_inputs(embedder, items, count, dtype, seed=number)
        expected = expected_features(embedder, inputs)
        given = [inputs[0].flip(-3) if bgr else inputs[0], *inputs[1:]]
        for run in runners:
            try:
                found = torch.as_tensor(run(*given))
            except Exception as error:  # onnxruntime's, and those of a program's own checks
                raise InputError(
                    f"the exported model does not run on {items} items of {count} frames: "
                    f"{one_line(error)[:300]}"
                ) from error
            worst.append((found - expected).abs().max().item())
    return float(np.max(worst))  # keeps a NaN
