"""Draw contact sheets with one person in each row, at one site or at several side by side."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from plugins.synthetic.frame import render_walk
from plugins.synthetic.plan import INFRARED, VISIBLE, Walk, plan_split
from plugins.synthetic.settings import SHORTEST_TRACKLET, SyntheticSettings
from plugins.utils.io import write_atomically

_PEOPLE = 8
_WALKS = 2  # per modality
_FRAMES = 4  # per walk
_FRAME_HEIGHT = 144  # at least, pixels
_GAP, _MARGIN, _HEADER, _TITLE = 6, 76, 64, 40
_PAPER, _INK, _FAINT = (250, 249, 246), (40, 40, 40), (140, 138, 132)
_TITLES = {VISIBLE: "visible light", INFRARED: "infrared"}


def save_sheet(file: Path, *sets: SyntheticSettings) -> None:
    """Render the first test people and save them as one PNG file.

    Args:
        file: to write.
        sets: settings of one data set, or of several that differ in nothing but the site: then each
            person is shown at one site beside the next. Frames are scaled up by a whole number.
    """
    factor = -(-_FRAME_HEIGHT // sets[0].height)
    high, wide = factor * sets[0].height, factor * sets[0].width
    block = _FRAMES * wide + _GAP
    column = _WALKS * block + 2 * _GAP  # one modality at one site
    site = 2 * column + 2 * _GAP
    rows = [_walks_by_person(settings) for settings in sets]
    people = list(rows[0])[:_PEOPLE]
    top = _HEADER + (_TITLE if len(sets) > 1 else 0)
    size = (_MARGIN + len(sets) * site - 3 * _GAP, top + len(people) * (high + _GAP) + _GAP)
    sheet = Image.new("RGB", size, _PAPER)
    draw = ImageDraw.Draw(sheet)
    small, large = ImageFont.load_default(14), ImageFont.load_default(20)

    for row, pid in enumerate(people):
        y = top + row * (high + _GAP)
        draw.text((14, y + high // 2 - 10), f"{pid:04d}", _INK, large)
    for index, (settings, walks) in enumerate(zip(sets, rows, strict=True)):
        left = _MARGIN + index * site
        if len(sets) > 1:
            draw.text((left, 14), f"site {settings.site}", _INK, large)
            draw.line((left, _TITLE + 4, left + site - 5 * _GAP, _TITLE + 4), _FAINT)
        for half, modality in enumerate((VISIBLE, INFRARED)):
            x = left + half * column
            draw.text((x, top - 50), _TITLES[modality], _INK, large)
            for row, pid in enumerate(people):
                seen = [walk for walk in walks[pid] if walk.modality == modality][:_WALKS]
                corner = (x, top + row * (high + _GAP))
                _paste(sheet, settings, seen, corner, (wide, high), small)
    file.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(file, lambda out: sheet.save(out, format="PNG"))


def _walks_by_person(settings: SyntheticSettings) -> dict[int, list[Walk]]:
    """List by person the test walks that a reader of HITSZ-VCM does not pass over."""
    people: dict[int, list[Walk]] = {}
    for walk in plan_split(settings, "test"):
        if walk.frames >= SHORTEST_TRACKLET:
            people.setdefault(walk.pid, []).append(walk)
    return people


def _paste(
    sheet: Image.Image,
    settings: SyntheticSettings,
    walks: Sequence[Walk],
    corner: tuple[int, int],
    frame: tuple[int, int],
    font: ImageFont.FreeTypeFont | ImageFont.ImageFont,
) -> None:
    """Paste strips of walks side by side, each with the name of its camera, from ``corner`` on.

    Args:
        sheet: to paste into.
        settings: settings of the data set.
        walks: to render.
        corner: left and top, pixels.
        frame: width and height of a frame, pixels.
        font: font of the names.
    """
    wide, high = _FRAMES * frame[0], frame[1]
    draw = ImageDraw.Draw(sheet)
    for index, walk in enumerate(walks):
        left, top = corner[0] + index * (wide + _GAP), corner[1]
        strip = Image.fromarray(_strip(settings, walk))
        sheet.paste(strip.resize((wide, high), Image.Resampling.NEAREST), (left, top))
        name = f"D{walk.camid}"
        draw.text((left + 3, top + 1), name, _PAPER, font, stroke_width=2, stroke_fill=_INK)


def _strip(settings: SyntheticSettings, walk: Walk) -> np.ndarray:
    """Join some frames of a walk, at equal distances, side by side."""
    frames = render_walk(settings, walk)
    return np.concatenate(frames[np.linspace(0, 11, _FRAMES).astype(int)], axis=1)
