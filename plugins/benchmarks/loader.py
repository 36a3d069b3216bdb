"""Reading clips: this package's loader beside Pillow and torchvision, frame by frame."""

import contextlib
import io
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms import functional

from plugins.benchmarks.comparison import Comparison, Work
from plugins.benchmarks.settings import Settings
from plugins.config import default_cfg
from plugins.data.build import build_test_clips
from plugins.data.datasets import VISIBLE, Tracklet
from plugins.data.frame_cache.packing import pack_frames
from plugins.data.frame_cache.store import FrameCache

SIZE = (288, 144)  # pixels
LENGTH = 6  # frames of a clip
LEVELS = 2.0  # largest mean difference of two decoders


def loader(settings: Settings) -> list[Comparison]:
    """List the comparisons of the loader, in processor time."""
    clips = 2 if settings.tiny else 20 if settings.quick else 100
    return [
        Comparison(
            f"loader, {clips * LENGTH} {kind} frames of {SIZE[0]}x{SIZE[1]}",
            partial(loader_work, clips, cached=kind == "cached"),
            target=target,
            note="Pillow and torchvision per frame, to float32; ours are uint8",
            rounds=settings.rounds + 1,
            clock="cpu",
            frames=clips * LENGTH,
        )
        for kind, target in (("JPEG", 2.5), ("cached", 8.0))
    ]


def loader_work(number: int, seed: int = 0, cached: bool = False) -> Work:
    """Prepare to read clips of drawn pictures; ``cached`` packs them into a frame cache first."""
    folder = tempfile.TemporaryDirectory()
    items = drawn_clips(Path(folder.name, "frames"), number, seed)
    cfg = default_cfg()
    cfg.INPUT.SIZE_TEST, cfg.INPUT.CLIP.LENGTH = list(SIZE), LENGTH
    read = packed(items, folder.name) if cached else None
    dataset = build_test_clips(cfg, items, [], {}, read)

    def ours() -> Tensor:
        return torch.stack([dataset[index]["images"] for index in range(len(dataset))])

    def theirs() -> Tensor:
        assert folder.name  # the folder lives as long as the work
        return torch.stack([read_clip(item.img_paths) for item in items])

    return Work(ours, theirs, check_pixels)


def packed(items: list[Tracklet], folder: str) -> Callable[[str], Tensor]:
    """Pack all frames, as ``cache_data`` does; return what reads one of them."""
    cache = Path(folder, "cache")
    with contextlib.redirect_stderr(io.StringIO()):  # a second progress bar
        pack_frames(
            str(cache), SIZE, [file for item in items for file in item.img_paths], folder, 0
        )
    return FrameCache(str(cache), SIZE, folder).read


def read_clip(files: tuple[str, ...] | list[str], size: Sequence[int] = SIZE) -> Tensor:
    """Read frames as float32 (T, 3, H, W) in [0, 255], one after another."""
    frames = []
    for file in files:
        with Image.open(file) as picture:
            frame = functional.resize(picture.convert("RGB"), list(size))
        frames.append(functional.pil_to_tensor(frame).float())
    return torch.stack(frames)


def check_pixels(ours: Tensor, theirs: Tensor) -> None:
    """Compare pixels; two decoders of JPEG may differ by a gray level or two."""
    assert ours.shape == theirs.shape, f"{tuple(ours.shape)} and {tuple(theirs.shape)}"
    mean = float((ours.float() - theirs).abs().mean())
    assert mean < LEVELS, f"pixels differ by {mean:.1f} gray levels on average"


def drawn_clips(folder: Path, number: int, seed: int) -> list[Tracklet]:
    """Write clips of smooth drawn pictures as JPEG files, a folder each."""
    random = np.random.default_rng(seed)
    items = []
    for clip in range(number):
        small = random.integers(0, 256, (18, 9, 3), dtype=np.uint8)
        files = []
        (folder / f"{clip:04d}").mkdir(parents=True)
        for frame in range(LENGTH):
            picture = Image.fromarray(np.roll(small, frame, axis=1))
            file = folder / f"{clip:04d}" / f"{frame}.jpg"
            picture.resize(SIZE[::-1], Image.Resampling.BICUBIC).save(file, quality=90)
            files.append(str(file))
        items.append(Tracklet(tuple(files), clip, 1, VISIBLE))
    return items
