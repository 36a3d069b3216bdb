"""From decoded frames to the input of a model: one draw of the augmentation for a whole clip.

Legend: T frames of a clip, h x w size of a frame on disk, H x W size of the input.
"""

import contextlib
from collections.abc import Callable, Iterator

import torch
from fastreid.config import CfgNode
from torch import Tensor, nn
from torchvision.transforms import InterpolationMode, v2

from plugins.data.frames import resize_frame
from plugins.errors import InputError

UNSUPPORTED = ("AUTOAUG", "AUGMIX", "AFFINE", "RPT")


def build_clip_transforms(cfg: CfgNode, is_train: bool) -> Callable[[list[Tensor]], Tensor]:
    """The transform that INPUT describes, with fastreid's keys, order and bicubic resize.

    Args:
        cfg: the config; keys of fastreid's INPUT section.
        is_train: with the random parts, or without.

    Returns:
        A callable: list of T frames (3, h, w) uint8, of any sizes -> (T, 3, H, W) float32 in
        [0, 255]. Random parts draw once per call, from torch's global generator.

    Raises:
        InputError: a size is not two positive numbers, INPUT asks for a part that does not exist
            for clips, or a part has a value that torchvision refuses.
    """
    key = "SIZE_TRAIN" if is_train else "SIZE_TEST"
    size = _two_sizes(cfg.INPUT[key], f"INPUT.{key}")
    parts = [] if is_train else _center_crop(cfg)
    if is_train:
        for name in UNSUPPORTED:
            if cfg.INPUT[name].ENABLED:
                raise InputError(
                    f"INPUT.{name}.ENABLED: not available for clips; "
                    "set it to False (there are CROP, PADDING, FLIP, CHANNEL_MIX, CJ and REA)"
                )
        parts = _random_parts(cfg, size)
    parts += [v2.ToDtype(torch.float32), *(_erasing(cfg) if is_train else [])]
    return ClipTransform(size, v2.Compose(parts))


class ClipTransform:
    """Resizes each frame, then treats the clip as one; a class, so that workers can be sent it."""

    def __init__(self, size: list[int], rest: Callable[[Tensor], Tensor]) -> None:
        """Resize to H, W, then apply ``rest`` to (T, 3, H, W) uint8."""
        self.size, self.rest = size, rest

    def __call__(self, frames: list[Tensor]) -> Tensor:
        """See :func:`build_clip_transforms`."""
        # One by one: frames of a tracklet may differ in size.
        return self.rest(torch.stack([resize_frame(frame, self.size) for frame in frames]))


class ChannelMix(nn.Module):
    """Grey frames: all three channels become one random mean of red, green and blue."""

    def forward(self, frames: Tensor) -> Tensor:
        """(T, 3, H, W) uint8 to the same; equal channels stay as they are."""
        weights = torch.rand(3, 1, 1)
        mixed = (frames * (weights / weights.sum())).sum(dim=1, keepdim=True)
        return mixed.round().to(torch.uint8).expand_as(frames)


def _random_parts(cfg: CfgNode, size: list[int]) -> list[Callable]:
    crop, padding, flip, jitter = cfg.INPUT.CROP, cfg.INPUT.PADDING, cfg.INPUT.FLIP, cfg.INPUT.CJ
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
    return [v2.CenterCrop(_two_sizes(cfg.INPUT.CROP.SIZE, "INPUT.CROP.SIZE"))]


def _erasing(cfg: CfgNode) -> list[Callable]:
    if not cfg.INPUT.REA.ENABLED:
        return []
    value = list(cfg.INPUT.REA.VALUE)
    if len(value) not in (1, 3):
        raise InputError(f"INPUT.REA.VALUE: {value}; expected one grey level, or red, green, blue")
    with _named("INPUT.REA"):
        return [v2.RandomErasing(cfg.INPUT.REA.PROB, value=value)]


@contextlib.contextmanager
def _named(key: str) -> Iterator[None]:
    """What torchvision refuses is an InputError that names the part of the config."""
    try:
        yield
    except (TypeError, ValueError) as error:
        raise InputError(f"{key}: {error}") from error


def _two_sizes(size: list[int], key: str) -> list[int]:
    if len(size) != 2 or min(size) < 1:
        raise InputError(f"{key}: {list(size)}; expected [height, width] in pixels")
    return list(size)
