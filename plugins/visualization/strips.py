"""Drawings of clips: a row of frames, and below it rows of maps of the same frames.

Legend: T frames of H x W pixels; h x w cells of a map.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from torch import Tensor

from plugins.utils.pictures import FAINT
from plugins.visualization.picture import SMALL, TEXT, styled, without_ticks

# Inches.
WIDTH = 0.84  # of a frame
GAP, LINE = 0.06, 0.16
LABEL, BAR, UNIT = 0.95, 0.12, 0.72  # words on the left; color bar; its numbers
BLOCK_GAP = 0.3
LETTER = 0.65 * TEXT / 72  # mean width of a letter of a heading
WIDEST = 11.0  # of two blocks beside each other
HEAT, SIGNED = "cividis", "PuOr_r"  # the same to all eyes; 0 is white


@dataclass
class Line:
    """A row of a drawing.

    Attributes:
        label: words on its left; line breaks are kept.
        images: T images (H, W, 3) uint8, or T maps (h, w) of numbers, or one map for all frames.
        colors: color map of numbers; empty for images.
        low: number of the first color.
        high: number of the last color.
        unit: what the numbers are.
        height: inches; 0 for that of the frames.
        below: T images that the maps cover, half transparent; empty for none.
        spans: whether the one map spans all frames.
    """

    label: str
    images: Sequence[np.ndarray]
    colors: str = ""
    low: float = 0.0
    high: float = 1.0
    unit: str = ""
    height: float = 0.0
    below: Sequence[np.ndarray] = ()
    spans: bool = False


@dataclass
class Block:
    """A clip: a heading and its rows, the first one of frames."""

    heading: str
    lines: Sequence[Line]


def pixels(frames: Tensor) -> list[np.ndarray]:
    """Turn frames (T, 3, H, W) in [0, 255] into images (H, W, 3) uint8."""
    whole = frames.clamp(0, 255).round().byte().permute(0, 2, 3, 1).numpy()
    return list(whole)


def gray(images: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Take the color out of images (H, W, 3), so that colors of a map are not mixed with theirs."""
    return [np.repeat(image.mean(axis=2, keepdims=True).round(), 3, 2).astype(np.uint8)
            for image in images]  # fmt: skip


def signed_line(label: str, maps: Sequence[np.ndarray], reach: float, unit: str) -> Line:
    """Make a row of signed maps, whose scale goes from -reach to reach."""
    return Line(label, maps, SIGNED, -reach, reach, unit)


@styled
def draw_blocks(blocks: Sequence[Block]) -> Figure:
    """Draw blocks, two beside each other where there is room, each row with its scale."""
    frames = max(len(line.images) for block in blocks for line in block.lines)
    first = blocks[0].lines[0].images[0]
    tall = WIDTH * first.shape[0] / first.shape[1]
    headings = [line for block in blocks for line in block.heading.split("\n")]
    wide = max(LABEL + frames * (WIDTH + GAP) + BAR + UNIT, max(map(len, headings)) * LETTER)
    columns = min(len(blocks), 2 if 2 * wide <= WIDEST else 1)
    rows = [blocks[start : start + columns] for start in range(0, len(blocks), columns)]
    heights = [max(height_of(block, tall) for block in row) for row in rows]
    size = (
        columns * (wide + BLOCK_GAP) - BLOCK_GAP,
        sum(heights) + BLOCK_GAP * (len(rows) - 1),
    )
    figure = Figure(figsize=size)
    top = 0.0
    for row, height in zip(rows, heights, strict=True):
        for column, block in enumerate(row):
            draw_block(figure, block, column * (wide + BLOCK_GAP), top, tall, frames)
        top += height + BLOCK_GAP
    return figure


def height_of(block: Block, tall: float) -> float:
    """Return the height of a block in inches, for frames of height ``tall``."""
    words = (1 + block.heading.count("\n")) * LINE + 2 * GAP
    return words + sum((line.height or tall) + 2 * GAP for line in block.lines)


def draw_block(
    figure: Figure, block: Block, left: float, top: float, tall: float, frames: int
) -> None:
    """Draw a block whose upper left corner lies at (left, top) inches."""
    write(figure, left, top, block.heading, fontweight="bold", va="top", linespacing=1.3)
    top += (1 + block.heading.count("\n")) * LINE + 2 * GAP
    for line in block.lines:
        draw_line(figure, line, left, top, line.height or tall, frames)
        top += (line.height or tall) + 2 * GAP


def draw_line(
    figure: Figure, line: Line, left: float, top: float, tall: float, frames: int
) -> None:
    """Draw a row of ``frames`` images or maps whose corner lies at (left, top) inches."""
    width, height = figure.get_size_inches()
    write(figure, left, top + tall / 2, line.label, va="center", fontsize=SMALL, color=FAINT)

    def place(x: float, wide: float) -> tuple[float, float, float, float]:
        return (left + x) / width, 1 - (top + tall) / height, wide / width, tall / height

    colors: dict[str, Any] = {}
    if line.colors:
        colors = {"cmap": line.colors, "norm": Normalize(line.low, line.high)}
    span = frames if line.spans else 1
    for number, image in enumerate(line.images):
        x = LABEL + number * (WIDTH + GAP)
        axes = figure.add_axes(place(x, span * (WIDTH + GAP) - GAP))
        look: dict[str, Any] = {"aspect": "auto", "extent": (0, 1, 1, 0)}
        if line.below:
            axes.imshow(line.below[number], **look)
        look |= {"alpha": 0.55 if line.below else 1.0, "interpolation": "nearest"}
        axes.imshow(image, **look, **colors)
        without_ticks(axes)
    if line.colors:
        bar = figure.add_axes(place(LABEL + frames * (WIDTH + GAP), BAR))
        figure.colorbar(ScalarMappable(**colors), cax=bar, label=line.unit)
        bar.yaxis.label.set_fontsize(SMALL)


def write(figure: Figure, x: float, y: float, text: str, **more: Any) -> None:
    """Write at inches from the upper left corner."""
    width, height = figure.get_size_inches()
    figure.text(x / width, 1 - y / height, text, **{"fontsize": TEXT, **more})
