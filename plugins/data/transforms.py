"""Turn decoded frames into the input of a model: one draw of the augmentation for a whole clip.

All that keeps whole gray levels happens here, on uint8. Erasing follows when the clip is float32
(``plugins.data.erasing``); style variation, which leaves [0, 255], is the model's
(``plugins.modeling.style_variation``).

Legend: T frames of a clip, h x w size of a frame on disk, H x W size of the input.
"""

import contextlib
from collections.abc import Callable, Iterator, Sequence

import torch
from fastreid.config import CfgNode
from torch import Tensor, nn
from torchvision.transforms import InterpolationMode

from plugins.config import check_value
from plugins.data.datasets.tracklet import INFRARED, MODALITIES, VISIBLE
from plugins.data.erasing import BoxErasing
from plugins.data.frames import resize_frame
from plugins.errors import InputError

UNSUPPORTED = ("AUTOAUG", "AUGMIX", "AFFINE", "RPT")


def build_clip_transforms(cfg: CfgNode, is_train: bool) -> "ClipTransform":
    """Build the transform that INPUT describes, with fastreid's keys, order and bicubic resize.

    Args:
        cfg: the config; the keys are those of fastreid's INPUT section.
        is_train: whether to include the random parts.

    Returns:
        A callable: list of T frames (3, h, w) uint8, of any sizes, and their modality -> (T, 3, H,
        W) uint8. Random parts draw once per call, from torch's global generator.

    Raises:
        InputError: a size is not two positive numbers, INPUT asks for a part that does not exist
            for clips, or a part has a value that torchvision refuses.
    """
    key = "SIZE_TRAIN" if is_train else "SIZE_TEST"
    size = _two_sizes(cfg.INPUT[key], f"INPUT.{key}")
    if not is_train:
        return ClipTransform(size, [_center_crop(cfg)] * len(MODALITIES))
    for name in UNSUPPORTED:
        if cfg.INPUT[name].ENABLED:
            raise InputError(
                f"INPUT.{name}.ENABLED: not available for clips; set it to False (there are CROP, "
                "PADDING, FLIP, CHANNEL_SWAP, CHANNEL_MIX, CJ, REA and STYLE_VARIATION)"
            )
    build_erasing(cfg)  # checks its values
    geometry = _geometry(cfg, size)
    pipelines = [geometry + _colors(cfg, modality) for modality in range(len(MODALITIES))]
    return ClipTransform(size, pipelines)


def build_erasing(cfg: CfgNode) -> BoxErasing | None:
    """Build the erasing that INPUT.REA asks for; None for none.

    Raises:
        InputError: INPUT.REA has a value that it cannot have.
    """
    if not cfg.INPUT.REA.ENABLED:
        return None
    value = list(cfg.INPUT.REA.VALUE)
    check_value("INPUT.REA.VALUE", value)
    # The mean: a colored box would be something that no infrared camera records.
    values = {VISIBLE: value, INFRARED: [sum(value) / len(value)]}
    with _named("INPUT.REA"):
        return BoxErasing(
            cfg.INPUT.REA.PROB, [values[modality] for modality in range(len(MODALITIES))]
        )


class ClipTransform:
    """Resizes each frame, then treats the clip as one; it can be pickled."""

    def __init__(
        self, size: list[int], pipelines: Sequence[Sequence[Callable[[Tensor], Tensor]]]
    ) -> None:
        """Resize to H, W, then apply the modality's entry of ``pipelines`` to (T, 3, H, W) uint8.

        Args:
            size: H, W.
            pipelines: parts for visible clips and parts for infrared clips.
        """
        self.size, self.pipelines = size, pipelines

    def __call__(self, frames: list[Tensor], modality: int = VISIBLE) -> Tensor:
        """See :func:`build_clip_transforms`."""
        # One by one: frames of a tracklet may differ in size.
        clip = torch.stack([resize_frame(frame, self.size) for frame in frames])
        for part in self.pipelines[modality]:
            clip = part(clip)
        return clip


class ChannelMix(nn.Module):
    """Makes frames gray: all three channels become one random mean of red, green and blue."""

    def forward(self, frames: Tensor) -> Tensor:
        """Turn (T, 3, H, W) uint8 into the same shape and type; equal channels stay as they are."""
        weights = torch.rand(3, 1, 1)
        mixed = (frames * (weights / weights.sum())).sum(dim=1, keepdim=True)
        return mixed.round().to(torch.uint8).expand_as(frames)


def _geometry(cfg: CfgNode, size: list[int]) -> list[Callable]:
    # Not above: it imports torch._dynamo, 1.2 s.
    from torchvision.transforms import v2

    crop, padding, flip = cfg.INPUT.CROP, cfg.INPUT.PADDING, cfg.INPUT.FLIP
    parts: list[Callable] = []
    if crop.ENABLED:
        crop_size = _two_sizes(crop.SIZE, "INPUT.CROP.SIZE")
        with _named("INPUT.CROP"):
            parts.append(
                v2.RandomResizedCrop(
                    crop_size,
                    scale=crop.SCALE,
                    ratio=crop.RATIO,
                    interpolation=InterpolationMode.BICUBIC,
                )
            )
    if padding.ENABLED:
        with _named("INPUT.PADDING"):
            parts.append(v2.RandomCrop(size, padding=padding.SIZE, padding_mode=padding.MODE))
    if flip.ENABLED:
        with _named("INPUT.FLIP"):
            parts.append(v2.RandomHorizontalFlip(flip.PROB))
    return parts


def _colors(cfg: CfgNode, modality: int) -> list[Callable]:
    # Not above: it imports torch._dynamo, 1.2 s.
    from torchvision.transforms import v2

    swap, jitter = cfg.INPUT.CHANNEL_SWAP, cfg.INPUT.CJ
    parts: list[Callable] = []
    if swap.ENABLED:
        with _named("INPUT.CHANNEL_SWAP"):
            part = v2.RandomApply([v2.RandomChannelPermutation()], swap.PROB)
        # An infrared camera has one channel: what its file has of color is noise of the coding.
        parts += [part] if modality == VISIBLE else []
    if cfg.INPUT.CHANNEL_MIX.ENABLED:
        with _named("INPUT.CHANNEL_MIX"):
            parts.append(v2.RandomApply([ChannelMix()], cfg.INPUT.CHANNEL_MIX.PROB))
    if jitter.ENABLED:
        strengths = (jitter.BRIGHTNESS, jitter.CONTRAST, jitter.SATURATION, jitter.HUE)
        with _named("INPUT.CJ"):
            parts.append(v2.RandomApply([v2.ColorJitter(*strengths)], jitter.PROB))
    return parts


def _center_crop(cfg: CfgNode) -> list[Callable]:
    if not cfg.INPUT.CROP.ENABLED:
        return []
    # Not above: it imports torch._dynamo, 1.2 s.
    from torchvision.transforms import v2

    return [v2.CenterCrop(_two_sizes(cfg.INPUT.CROP.SIZE, "INPUT.CROP.SIZE"))]


@contextlib.contextmanager
def _named(key: str) -> Iterator[None]:
    """Turn what torchvision refuses into an InputError that names the part of the config."""
    try:
        yield
    except (TypeError, ValueError) as error:
        raise InputError(f"{key}: {error}") from error


def _two_sizes(size: list[int], key: str) -> list[int]:
    check_value(key, size)
    return list(size)
