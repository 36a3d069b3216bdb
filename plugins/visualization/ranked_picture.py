"""Draw ranked clips: queries, and what the model finds for them."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from plugins.data.datasets.tracklet import Tracklet
from plugins.protocol import Direction
from plugins.utils.pictures import FAINT, INK, clip_strip
from plugins.visualization.evaluated_set import EvaluatedSet
from plugins.visualization.picture import (
    BLUE,
    ORANGE,
    SMALL,
    Picture,
    counted,
    styled,
    without_ticks,
)
from plugins.visualization.ranked import JUNK, PICKS, RIGHT, WRONG, RankedQuery, rank_queries

# Words, color and line of each kind: no kind is told by its color alone.
MARKS = {
    RIGHT: ("\N{CHECK MARK} same person", BLUE, "-"),
    WRONG: ("\N{BALLOT X} another person", ORANGE, "--"),
    JUNK: ("junk, not ranked", FAINT, ":"),
}

# Inches.
FRAME = (0.46, 0.92)  # width, height
GAP, QUERY_GAP = 0.16, 0.34  # between clips; between the query and its list
LEAST_WIDTH = 1.3  # of the words of a clip
LINE = 0.15  # of text
ROW_GAP = 0.18


def picture_of_ranked(
    data: EvaluatedSet,
    name: str = "",
    *,
    picks: Sequence[str] = ("spread",),
    count: int = 5,
    top: int = 6,
    frames: int = 3,
    seed: int = 0,
) -> Picture:
    """Draw chosen queries with their ranked clips; arguments are those of :func:`rank_queries`.

    Args:
        data: the evaluated set.
        name: of the direction; empty for the first.
        picks: one word of ``PICKS``, or names of queries.
        count: number of queries for a word.
        top: items of a list that are no junk.
        frames: shown of each clip, evenly spaced over the tracklet.
        seed: of a random choice.
    """
    name = name or next(iter(data.directions))
    direction = data.direction(name)
    ranked = rank_queries(data, name, picks=picks, count=count, top=top, seed=seed)
    rows = [row for each in ranked for row in (each.row, *each.rows)]
    frames = min(frames, max(len(data.items[row].img_paths) for row in rows))
    title = f"Ranked clips of {data.name} {name}: {modality_words(data, direction)}"
    how = PICKS.get(picks[0], "chosen by name")
    trials = len(direction.trials)
    query_rows, gallery_rows = direction.trials[0]
    caption = (
        f"{len(ranked)} of {len(query_rows)} queries, {how}, each with the nearest of "
        f"{len(gallery_rows)} gallery clips; {counted(frames, 'frame')} of each. "
        f"The number below a clip is its {data.metric} distance from the query. "
        + ("Junk is not ranked: the protocol does not let the query see it. " * has_junk(ranked))
        + (f"First of {trials} drawn galleries. " * (trials > 1))
    )
    return Picture(title, caption.strip(), draw_ranked(data, ranked, frames))


def has_junk(ranked: Sequence[RankedQuery]) -> bool:
    """Tell whether a list shows junk."""
    return any(entry.kind == JUNK for each in ranked for entry in each.entries)


def modality_words(data: EvaluatedSet, direction: Direction) -> str:
    """Say of which modality queries and gallery are."""
    kinds = [set(data.modalities[rows].tolist()) for rows in direction.trials[0]]
    query, gallery = (kind.pop() if len(kind) == 1 else "all" for kind in kinds)
    return f"{query} queries, {gallery} gallery"


@styled
def draw_ranked(data: EvaluatedSet, ranked: Sequence[RankedQuery], frames: int) -> Figure:
    """Draw each query and its list in a row."""
    clip = frames * FRAME[0]
    step_x = max(clip, LEAST_WIDTH) + GAP
    list_x = step_x + QUERY_GAP - GAP
    above = 2.7 * LINE  # heading, and the words above a clip
    step_y = above + FRAME[1] + 2.2 * LINE + ROW_GAP
    length = max(len(each.entries) for each in ranked)
    width, height = list_x + length * step_x - GAP, len(ranked) * step_y - ROW_GAP
    figure = Figure(figsize=(width, height))

    def write(x: float, y: float, text: str, **more: Any) -> None:
        figure.text(x / width, 1 - y / height, text, va="baseline", fontsize=SMALL, **more)

    def show(x: float, y: float, item: Tracklet, look: tuple[str, str, str], note: str) -> None:
        mark, color, line = look
        place = (x / width, 1 - (y + FRAME[1]) / height, clip / width, FRAME[1] / height)
        axes = figure.add_axes(place)
        axes.imshow(np.asarray(clip_strip(item.img_paths, frames)), aspect="auto")
        without_ticks(axes)
        edge = Rectangle((0, 0), 1, 1, transform=axes.transAxes, fill=False, clip_on=False)
        edge.set(edgecolor=color, linewidth=2.5, linestyle=line)
        axes.add_patch(edge)
        write(x, y - 0.06, mark, color=color, fontweight="bold")
        write(x, y + FRAME[1] + LINE + 0.02, f"person {item.pid}, camera {item.camid}")
        write(x, y + FRAME[1] + 2 * LINE + 0.02, note, color=FAINT)

    for number, each in enumerate(ranked):
        top = number * step_y
        write(0, top + LINE, heading(data, each), fontweight="bold")
        item = data.items[each.row]
        show(0, top + above, item, ("query", INK, "-"), data.modalities[each.row])
        for place, (row, entry) in enumerate(zip(each.rows, each.entries, strict=True)):
            mark, color, line = MARKS[entry.kind]
            mark = f"{entry.rank} {mark}" if entry.rank else mark
            x, note = list_x + place * step_x, f"distance {entry.distance:.3f}"
            show(x, top + above, data.items[row], (mark, color, line), note)
    return figure


def heading(data: EvaluatedSet, ranked: RankedQuery) -> str:
    """Name a query, and say how well it was answered."""
    score = f"AP {100 * ranked.average_precision:.1f} %, first match at rank {ranked.first_rank}"
    if not ranked.first_rank:
        score = "the gallery holds no match"
    junk = f", {ranked.left_out} more items of junk not shown" if ranked.left_out else ""
    return f"{data.features.name[ranked.row]}: {score}{junk}"
