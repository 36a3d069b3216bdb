"""Draw ranked clips, so that a person can check a number by eye."""

import math
import os
import sys
from collections.abc import Sequence
from typing import NamedTuple, Protocol

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont, ImageOps
from torch import Tensor

from plugins.utils.images import read_image
from plugins.utils.io import write_atomically

HOW_CHOSEN = (
    "Queries at even steps of the order by average precision (AP), from the worst to the best."
)

# Pixels.
FRAME = (64, 128)  # width, height; a frame keeps its shape and is padded
FRAME_GAP = 2
BORDER = 4
CELL_GAP = 20  # between two clips, and between two rows
QUERY_GAP = 44  # between the query and its list
MARGIN = 32
TITLE_SIZE, TEXT_SIZE = 22, 14
LABEL_WIDTH = 130  # room for the text below a single frame
LINE = 19  # from one line of text to the next

PAPER, INK, FAINT = "#ffffff", "#1f2933", "#6b7785"
PADDING = "#e4e7eb"
QUERY, RIGHT, WRONG = "#3e4c59", "#2b9a4b", "#d23c3c"


class Clip(Protocol):
    """Describe a tracklet as the picture reads it."""

    @property
    def img_paths(self) -> Sequence[str]:
        """Return the files of the frames, in their order."""

    @property
    def pid(self) -> int | str:
        """Return the label of the person."""

    @property
    def camid(self) -> int | str:
        """Return the label of the camera."""


class RankedRow(NamedTuple):
    """Describe one row of the picture.

    Attributes:
        query: the query's tracklet.
        average_precision: of this query, a fraction.
        gallery: tracklets of the list, nearest first, junk left out.
        distances: of each to the query.
    """

    query: Clip
    average_precision: float
    gallery: Sequence[Clip]
    distances: Sequence[float]


def choose_queries(average_precision: Tensor, count: int) -> list[int]:
    """Choose queries that show good and bad results: evenly spaced in the order of their AP.

    Args:
        average_precision: (Q,), NaN where the query does not count.
        count: number of queries; all valid queries where there are fewer.

    Returns:
        Indices from the worst to the best, both included; for a count of 1 the median.
    """
    valid = int((~average_precision.isnan()).sum())
    order = average_precision.nan_to_num(torch.inf).argsort(stable=True)
    worst_first: list[int] = order[:valid].tolist()
    if count == 1:
        return worst_first[(len(worst_first) - 1) // 2 :][:1]
    count = min(count, len(worst_first))
    return [worst_first[i * (len(worst_first) - 1) // max(count - 1, 1)] for i in range(count)]


def draw_ranked_clips(
    path: str | os.PathLike, rows: Sequence[RankedRow], title: str, caption: str, *, frames: int = 3
) -> None:
    """Draw each query and its ranked clips, green where the person is right and red where wrong.

    Args:
        path: PNG file to write; its folder must exist.
        rows: at least one; their lists may differ in length.
        title: what is seen, such as "HITSZVCM I2V: infrared queries, visible gallery".
        caption: a line below it: how the queries were chosen, ``HOW_CHOSEN`` for example.
        frames: shown of each clip, evenly spaced over the tracklet; fewer if none is as long.

    Raises:
        InputError: an image is missing or damaged; names it.
    """
    text, heading = (ImageFont.load_default(size) for size in (TEXT_SIZE, TITLE_SIZE))
    clips = [clip for row in rows for clip in (row.query, *row.gallery)]
    frames = min(frames, max(len(clip.img_paths) for clip in clips))
    step_x = max(strip_width(frames) + 2 * BORDER, LABEL_WIDTH) + CELL_GAP
    step_y = FRAME[1] + 2 * BORDER + 2 * LINE + CELL_GAP
    list_x = MARGIN + step_x - CELL_GAP + QUERY_GAP
    rows_y = MARGIN + 6 * LINE
    length = max(len(row.gallery) for row in rows)
    width = max(
        list_x + length * step_x - CELL_GAP,
        MARGIN + math.ceil(max(heading.getlength(title), text.getlength(caption))),
    )
    height = rows_y + len(rows) * step_y - CELL_GAP
    picture = Image.new("RGB", (width + MARGIN, height + MARGIN), PAPER)
    pen = ImageDraw.Draw(picture)

    pen.text((MARGIN, MARGIN), title, INK, heading, anchor="lt")
    pen.text((MARGIN, MARGIN + 2 * LINE), caption, FAINT, text, anchor="ls")
    legend_x = MARGIN
    for color, meaning in ((RIGHT, "same person"), (WRONG, "another person")):
        pen.rectangle((legend_x, MARGIN + 3 * LINE - 10, legend_x + 10, MARGIN + 3 * LINE), color)
        pen.text((legend_x + 16, MARGIN + 3 * LINE), meaning, FAINT, text, anchor="ls")
        legend_x += 16 + math.ceil(text.getlength(meaning)) + CELL_GAP
    pen.text((MARGIN, rows_y - 8), "query", INK, text, anchor="ls")
    for rank in range(length):
        pen.text((list_x + rank * step_x, rows_y - 8), f"{rank + 1}", INK, text, anchor="ls")

    def draw_clip(x: int, y: int, clip: Clip, color: str, note: str) -> None:
        strip = ImageOps.expand(clip_strip(clip.img_paths, frames), BORDER, color)
        picture.paste(strip, (x, y))
        baseline = y + strip.height + LINE - 4
        pen.text((x, baseline), f"person {clip.pid}, camera {clip.camid}", INK, text, anchor="ls")
        pen.text((x, baseline + LINE), note, FAINT, text, anchor="ls")

    for index, row in enumerate(rows):
        y = rows_y + index * step_y
        draw_clip(MARGIN, y, row.query, QUERY, f"AP {100 * row.average_precision:.1f} %")
        for rank, (clip, distance) in enumerate(zip(row.gallery, row.distances, strict=True)):
            color = RIGHT if clip.pid == row.query.pid else WRONG
            draw_clip(list_x + rank * step_x, y, clip, color, f"distance {distance:.3f}")
    write_atomically(path, lambda file: picture.save(file, format="PNG"))


def strip_width(frames: int) -> int:
    """Return the width in pixels of ``frames`` frames side by side."""
    return frames * (FRAME[0] + FRAME_GAP) - FRAME_GAP


def clip_strip(img_paths: Sequence[str], frames: int) -> Image.Image:
    """Put evenly spaced frames of a tracklet side by side; a short tracklet repeats some."""
    strip = Image.new("RGB", (strip_width(frames), FRAME[1]), PAPER)
    for slot, index in enumerate(np.linspace(0, len(img_paths) - 1, frames).round().astype(int)):
        # No limit on pixels: whoever ranked the clips has read the frame under the run's own.
        image = read_image(img_paths[index], sys.maxsize)
        frame = ImageOps.pad(image, FRAME, Image.Resampling.LANCZOS, PADDING)
        strip.paste(frame, (slot * (FRAME[0] + FRAME_GAP), 0))
    return strip
