"""Histograms of distances: pairs of one person and of two, within and across modalities.

Legend: N items, P bins.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from plugins.errors import InputError
from plugins.evaluation import Side
from plugins.evaluation.distance import CHUNK, distance_blocks, norm_of_all
from plugins.protocol import junk_rule
from plugins.visualization.evaluated_set import EvaluatedSet
from plugins.visualization.picture import BLUE, ORANGE, Picture, styled

BINS = 50
SAME, OTHER = "same person", "other people"
WITHIN_VISIBLE, WITHIN_INFRARED, ACROSS = "within visible", "within infrared", "across modalities"
PANELS = (WITHIN_VISIBLE, WITHIN_INFRARED, ACROSS)
KINDS = [(panel, people) for panel in PANELS for people in (SAME, OTHER)]

# Not by color alone: one histogram is filled, the other hatched.
LOOKS: tuple[tuple[str, str, dict[str, Any]], ...] = (
    (OTHER, ORANGE, {"hatch": "////"}),
    (SAME, BLUE, {"fill": True, "alpha": 0.75}),
)


@dataclass(frozen=True)
class PairCounts:
    """How many pairs lie at which distance.

    Attributes:
        edges: (P + 1,) float64 edges of the bins, which hold their lower one; the last bin holds
            both.
        counts: (P,) int64 pairs of each kind in ``KINDS``.
        means: mean distance of each kind; NaN for a kind without pairs.
    """

    edges: np.ndarray
    counts: dict[tuple[str, str], np.ndarray]
    means: dict[tuple[str, str], float]

    def number(self, kind: tuple[str, str]) -> int:
        """Return the number of pairs of a kind."""
        return int(self.counts[kind].sum())


def count_pairs(
    side: Side, modalities: np.ndarray, *, metric: str, junk: str = "camera", bins: int = BINS
) -> PairCounts:
    """Count the distances of all pairs of two items, each pair once.

    Args:
        side: N items.
        modalities: (N,) "visible" or "infrared".
        metric: "cosine" or "euclidean".
        junk: name of a rule in ``plugins.protocol.JUNK``; a pair that is junk in one of its two
            directions does not count.
        bins: P, from the smallest to the largest distance.

    Raises:
        InputError: there is no pair.
    """
    infrared = torch.from_numpy(modalities == "infrared")
    low, high = torch.inf, -torch.inf
    for _, _, near in _kinds_of_pairs(side, infrared, metric, junk):
        if len(near):
            low, high = min(low, float(near.min())), max(high, float(near.max()))
    if low > high:
        raise InputError(f"{len(side)} items make no pair that counts; expected 2 or more")
    edges = np.linspace(low, high if high > low else low + 1e-6, bins + 1)
    counts = {kind: np.zeros(bins, dtype=np.int64) for kind in KINDS}
    sums = dict.fromkeys(KINDS, 0.0)
    for panel, people, near in _kinds_of_pairs(side, infrared, metric, junk):
        values = near.numpy().astype(np.float64)
        # A float32 end may lie beyond the float64 edge that it became.
        counts[panel, people] += np.histogram(values.clip(edges[0], edges[-1]), edges)[0]
        sums[panel, people] += float(values.sum())
    means = {kind: sums[kind] / n if (n := counts[kind].sum()) else np.nan for kind in KINDS}
    return PairCounts(edges, counts, means)


def _kinds_of_pairs(
    side: Side, infrared: Tensor, metric: str, junk: str
) -> Iterator[tuple[str, str, Tensor]]:
    """Yield panel, people and distances of the pairs of some rows with the later items."""
    rule, columns = junk_rule(junk), torch.arange(len(side))
    norm = norm_of_all(side.features) if metric == "euclidean" else None
    blocks = distance_blocks(side.features, side.features, metric, CHUNK, norm)
    for rows, near in zip(columns.split(CHUNK), blocks, strict=True):
        same = side.pids[rows, None] == side.pids
        one, other = side.camids[rows, None], side.camids
        counted = (rows[:, None] < columns) & ~(rule(same, one, other) | rule(same, other, one))
        first, second = infrared[rows, None], infrared
        masks = {
            WITHIN_VISIBLE: ~first & ~second,
            WITHIN_INFRARED: first & second,
            ACROSS: first != second,
        }
        for panel, mask in masks.items():
            yield panel, SAME, near[counted & mask & same]
            yield panel, OTHER, near[counted & mask & ~same]


def picture_of_distances(data: EvaluatedSet, bins: int = BINS) -> Picture:
    """Draw the histograms of an evaluated set, whose first direction tells what is junk."""
    junk = data.direction("").junk
    side = data.side(np.arange(len(data)))
    found = count_pairs(side, data.modalities, metric=data.metric, junk=junk, bins=bins)
    people = len(data.pids.unique())
    caption = (
        f"All pairs of {len(data)} clips of {people} people, without the junk pairs of the "
        "protocol. Each histogram shows shares of its own pairs; a dashed line marks its mean. "
        "The less the two overlap, the better the distance tells one person from two."
    )
    title = f"Distances of {data.name}: one person and two, within and across modalities"
    return Picture(title, caption, draw_histograms(found, data.metric))


@styled
def draw_histograms(found: PairCounts, metric: str) -> Figure:
    """Draw a panel for each pair of modalities that has pairs."""
    panels = [each for each in PANELS if any(found.number((each, who)) for who in (SAME, OTHER))]
    figure = Figure(figsize=(7.2, 0.6 + 1.75 * len(panels)), layout="constrained")
    all_axes = figure.subplots(len(panels), 1, sharex=True, squeeze=False)[:, 0]
    for axes, panel in zip(all_axes, panels, strict=True):
        for who, color, look in LOOKS:
            number = found.number((panel, who))
            label = f"{who}, {number} pairs"
            shares = 100 * found.counts[panel, who] / max(number, 1)
            axes.stairs(shares, found.edges, color=color, label=label, **look)
            if number:
                axes.axvline(found.means[panel, who], color=color, linestyle="--", linewidth=1.2)
        axes.set_title(panel, loc="left", fontweight="bold")
        axes.set_ylabel("pairs, %")
        axes.legend(loc="lower right", bbox_to_anchor=(1.01, 0.98), ncols=2)
    all_axes[-1].set_xlabel(f"{metric} distance" + (", squared" if metric == "euclidean" else ""))
    return figure
