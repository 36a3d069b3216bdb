"""A contact sheet for people: each row one person, visible light left, infrared right."""

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from plugins.synthetic.frame import render_walk
from plugins.synthetic.plan import INFRARED, VISIBLE, Walk, plan_split
from plugins.synthetic.settings import SHORTEST_TRACKLET, SyntheticSettings

_PEOPLE = 8
_WALKS = 2  # per modality
_FRAMES = 4  # per walk
_FRAME_HEIGHT = 144  # at least, pixels
_GAP, _MARGIN, _HEADER = 6, 76, 64
_PAPER, _INK, _FAINT = (250, 249, 246), (40, 40, 40), (140, 138, 132)


def save_sheet(file: Path, settings: SyntheticSettings) -> None:
    """Render the first test people and save them as one PNG file.

    Args:
        file: to write.
        settings: of the data set; its frames are scaled up by a whole number.
    """
    people: dict[int, list[Walk]] = {}
    for walk in plan_split(settings, "test"):
        if walk.frames >= SHORTEST_TRACKLET:
            people.setdefault(walk.pid, []).append(walk)
    factor = -(-_FRAME_HEIGHT // settings.height)
    high, wide = factor * settings.height, factor * settings.width
    block = _FRAMES * wide + _GAP
    rows = list(people.items())[:_PEOPLE]
    width = _MARGIN + 2 * _WALKS * block + 3 * _GAP
    sheet = Image.new("RGB", (width, _HEADER + len(rows) * (high + _GAP) + _GAP), _PAPER)
    draw = ImageDraw.Draw(sheet)
    small, large = ImageFont.load_default(14), ImageFont.load_default(20)

    for half, title in ((0, "visible light"), (1, "infrared")):
        left = _MARGIN + half * (_WALKS * block + 2 * _GAP)
        draw.text((left, 14), title, _INK, large)
    for row, (pid, walks) in enumerate(rows):
        top = _HEADER + row * (high + _GAP)
        draw.text((14, top + high // 2 - 10), f"{pid:04d}", _INK, large)
        for half, modality in enumerate((VISIBLE, INFRARED)):
            chosen = [walk for walk in walks if walk.modality == modality][:_WALKS]
            for place, walk in enumerate(chosen):
                left = _MARGIN + half * (_WALKS * block + 2 * _GAP) + place * block
                strip = Image.fromarray(_strip(settings, walk))
                sheet.paste(
                    strip.resize((_FRAMES * wide, high), Image.Resampling.NEAREST), (left, top)
                )
                tag = f"D{walk.camid}"
                draw.text((left + 3, top + 1), tag, _PAPER, small, stroke_width=2, stroke_fill=_INK)
    file.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(file)


def _strip(settings: SyntheticSettings, walk: Walk) -> np.ndarray:
    """Some frames of a walk, evenly spread, side by side."""
    frames = render_walk(settings, walk)
    return np.concatenate(frames[np.linspace(0, 11, _FRAMES).astype(int)], axis=1)
