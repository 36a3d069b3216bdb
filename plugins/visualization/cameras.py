"""Confusion between cameras: how well queries of each camera find the gallery of each other one.

Legend: A cameras of queries, B cameras of the gallery.
"""

from dataclasses import dataclass
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from plugins.errors import InputError
from plugins.evaluation import evaluate_ranking
from plugins.evaluation.ranks import match_blocks
from plugins.utils.names import natural_order
from plugins.visualization.evaluated_set import EvaluatedSet
from plugins.visualization.picture import SMALL, TEXT, Picture, styled

COLORS = "cividis"  # dark to bright, the same to all eyes


@dataclass(frozen=True)
class CameraTable:
    """Scores by camera.

    Attributes:
        query_cameras: A own names.
        gallery_cameras: B own names.
        rank1: (A, B) share of the queries of a camera whose nearest clip of the other camera shows
            their person; NaN where no query has a match there.
        mean_ap: (A, B) mean average precision of these queries, likewise.
        queries: (A, B) number of queries that have a match there.
    """

    query_cameras: list[str]
    gallery_cameras: list[str]
    rank1: np.ndarray
    mean_ap: np.ndarray
    queries: np.ndarray


def camera_table(data: EvaluatedSet, name: str = "") -> CameraTable:
    """Let the queries of each camera search the gallery clips of each camera alone.

    The rules are those of the direction: its junk stays unseen, its CMC counts.

    Args:
        data: the evaluated set.
        name: of the direction, whose first trial counts; empty for the first direction.

    Raises:
        InputError: there is no such direction.
    """
    direction = data.direction(name)
    names = data.features.camera
    rows, columns = direction.trials[0]
    queries, galleries = (sorted(set(names[side].tolist()), key=natural_order)
                          for side in (rows, columns))  # fmt: skip
    shape = len(queries), len(galleries)
    rank1, mean_ap = np.full(shape, np.nan), np.full(shape, np.nan)
    numbers = np.zeros(shape, dtype=np.int64)
    for i, camera in enumerate(queries):
        query = data.side(rows[names[rows] == camera])
        for j, other in enumerate(galleries):
            gallery = data.side(columns[names[columns] == other])
            matches = match_blocks(query, gallery, direction.junk, len(query))
            if not any(positive.any() for positive, _ in matches):
                continue
            scores = evaluate_ranking(
                query, gallery, metric=data.metric, junk=direction.junk, cmc=direction.cmc
            )
            rank1[i, j], numbers[i, j] = float(scores.cmc[0]), scores.num_valid
            mean_ap[i, j] = scores.mean_average_precision
    return CameraTable(queries, galleries, rank1, mean_ap, numbers)


def picture_of_cameras(data: EvaluatedSet, name: str = "") -> Picture:
    """Draw the table of a direction: Rank-1 and mAP.

    Raises:
        InputError: there is no such direction, or no query has a match.
    """
    name = name or next(iter(data.directions))
    table = camera_table(data, name)
    if not table.queries.any():
        raise InputError(f"direction {name}: no query of {data.name} has a match in its gallery")
    number = len(data.direction(name).trials[0].query)
    caption = (
        f"{number} queries. In each cell the queries of one camera search the gallery clips of "
        "one camera alone; n queries have a match there. A cell without any is empty. Galleries of "
        "one camera are smaller than the whole, so these are not the scores of the test."
    )
    title = f"Confusion between cameras: {data.name} {name}"
    return Picture(title, caption, draw_table(table))


@styled
def draw_table(table: CameraTable) -> Figure:
    """Draw Rank-1 and mAP side by side."""
    wide, high = len(table.gallery_cameras), len(table.query_cameras)
    figure = Figure(figsize=(2 * (0.7 + 0.62 * wide) + 0.9, 1.0 + 0.5 * high), layout="constrained")
    panels = figure.subplots(1, 2, sharey=True)
    for axes, values, measure in zip(
        panels, (table.rank1, table.mean_ap), ("Rank-1", "mAP"), strict=True
    ):
        image = axes.imshow(100 * values, cmap=COLORS, vmin=0, vmax=100, aspect="auto")
        axes.set_title(f"{measure}, %", loc="left", fontweight="bold")
        axes.set_xticks(range(wide), table.gallery_cameras)
        axes.set_yticks(range(high), table.query_cameras)
        axes.set_xlabel("camera of the gallery")
        axes.spines[:].set_visible(False)
        axes.tick_params(length=0)
        write_cells(axes, values, table.queries)
    panels[0].set_ylabel("camera of the queries")
    figure.colorbar(image, ax=panels, shrink=0.9, label="%")
    return figure


def write_cells(axes: Axes, values: np.ndarray, queries: np.ndarray) -> None:
    """Write each value, in percent, and its number of queries into its cell."""
    colors = matplotlib.colormaps[COLORS]
    for (row, column), value in np.ndenumerate(values):
        if np.isnan(value):
            continue
        red, green, blue, _ = colors(value)
        ink = "black" if 0.3 * red + 0.6 * green + 0.1 * blue > 0.5 else "white"
        place: dict[str, Any] = {"ha": "center", "color": ink}
        axes.text(column, row - 0.03, f"{100 * value:.0f}", va="bottom", fontsize=TEXT, **place)
        number = f"n {queries[row, column]}"
        axes.text(column, row + 0.06, number, va="top", fontsize=SMALL - 1, **place)
