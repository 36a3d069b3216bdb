"""Draw a picture of a data set: some tracklets of each split and modality."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from plugins.data.clips import test_segments
from plugins.data.datasets.tracklet import MODALITIES, Tracklet
from plugins.data.frames import read_frame
from plugins.errors import InputError
from plugins.utils.io import write_atomically

_SAMPLES = 6  # tracklets of a row
_FRAMES = 3  # of a tracklet
_WIDTH, _HEIGHT = 48, 96  # of a frame, pixels
_GAP, _CAPTION, _TITLE = 10, 18, 24
_LETTERS = 24  # of a file's name that fit below
_PAPER, _INK, _MISSING = (250, 249, 246), (40, 40, 40), (214, 210, 200)


def save_sample_sheet(
    file: Path,
    splits: dict[str, list[Tracklet]],
    read: Callable[[str], Tensor] = read_frame,
) -> None:
    """Draw, for each split and modality that occurs, tracklets at equal distances in its list.

    Args:
        file: PNG to write; its folder is made.
        splits: name -> tracklets; the caption of an image is its folder and name. A frame that
            cannot be read stays gray.
        read: image file -> (3, h, w) uint8.
    """
    rows = []
    for split, items in splits.items():
        for modality, name in enumerate(MODALITIES):
            chosen = [item for item in items if item.modality == modality]
            if chosen:
                samples = np.linspace(0, len(chosen) - 1, min(_SAMPLES, len(chosen))).astype(int)
                rows.append((f"{split}, {name}", [chosen[index] for index in samples]))
    step = _TITLE + _HEIGHT + _CAPTION + _GAP
    size = (_GAP + _SAMPLES * (_FRAMES * _WIDTH + _GAP), _GAP + len(rows) * step)
    sheet = Image.new("RGB", size, _PAPER)
    draw = ImageDraw.Draw(sheet)
    small, large = ImageFont.load_default(11), ImageFont.load_default(15)
    for row, (title, items) in enumerate(rows):
        top = _GAP + row * step
        draw.text((_GAP, top), title, _INK, large)
        for column, item in enumerate(items):
            left = _GAP + column * (_FRAMES * _WIDTH + _GAP)
            length = len(item.img_paths)
            frames = test_segments(length, _FRAMES) if length > 1 else [0]
            for index, frame in enumerate(frames):
                corner = (left + index * _WIDTH, top + _TITLE)
                sheet.paste(_thumbnail(item.img_paths[frame], read), corner)
            if length > 1:
                caption = f"{item.pid}, camera {item.camid}, {length} frames"
            else:
                caption = "/".join(Path(item.img_paths[0]).parts[-2:])[-_LETTERS:]
            draw.text((left, top + _TITLE + _HEIGHT + 2), caption, _INK, small)
    file.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(file, lambda out: sheet.save(out, format="PNG"))


def _thumbnail(path: str, read: Callable[[str], Tensor]) -> Image.Image:
    try:
        pixels = read(path).permute(1, 2, 0).numpy()
    except InputError:
        return Image.new("RGB", (_WIDTH, _HEIGHT), _MISSING)
    return Image.fromarray(pixels).resize((_WIDTH, _HEIGHT), Image.Resampling.BILINEAR)
