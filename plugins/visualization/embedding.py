"""Map of features in two dimensions by t-SNE, with persons and modalities.

Legend: N items of the map, D feature length.
"""

import numpy as np
import torch
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from sklearn.manifold import TSNE

from plugins.errors import InputError
from plugins.evaluation import distances
from plugins.utils.names import natural_order
from plugins.utils.pictures import FAINT, INK
from plugins.utils.random import item_generator
from plugins.visualization.evaluated_set import EvaluatedSet
from plugins.visualization.picture import SMALL, Picture, styled

PERPLEXITY = 30.0
LEAST_ITEMS = 4
PEOPLE = 8
# Okabe and Ito; a person's name stands beside its clips as well.
PALETTE = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000", "#8a7a00")
MARKERS = {"visible": "o", "infrared": "^"}


def choose_people(data: EvaluatedSet, count: int, seed: int) -> list[str]:
    """Draw people, and return their own names in order; all where there are fewer.

    Args:
        data: the evaluated set.
        count: number of people.
        seed: of the draw.
    """
    people = sorted(set(data.features.person.tolist()), key=natural_order)
    drawn = torch.randperm(len(people), generator=item_generator(seed))[:count]
    return [people[index] for index in sorted(drawn.tolist())]


def embed(features: np.ndarray, metric: str, seed: int) -> np.ndarray:
    """Compute the map of features by t-SNE; the same seed gives the same map.

    Args:
        features: (N, D).
        metric: "cosine" or "euclidean", the squared one, as features are ranked.
        seed: of the initial map.

    Returns:
        (N, 2). Only neighborhoods mean something; axes and sizes of gaps do not.

    Raises:
        InputError: fewer than 4 items.
    """
    if len(features) < LEAST_ITEMS:
        raise InputError(f"{len(features)} items to map; expected {LEAST_ITEMS} or more")
    perplexity = min(PERPLEXITY, (len(features) - 1) / 3)
    items = torch.from_numpy(features)
    near = distances(items, items, metric).numpy().clip(0)
    near = np.sqrt(near) if metric == "euclidean" else near  # t-SNE squares what it gets
    np.fill_diagonal(near, 0)
    map_of = TSNE(
        perplexity=perplexity, metric="precomputed", init="random", random_state=seed
    ).fit_transform(near)
    return np.asarray(map_of)


def picture_of_tsne(data: EvaluatedSet, people: int = PEOPLE, seed: int = 0) -> Picture:
    """Draw the clips of drawn people.

    Args:
        data: the evaluated set.
        people: number of people.
        seed: of the draw and of the map.
    """
    chosen = choose_people(data, people, seed)
    rows = np.flatnonzero(np.isin(data.features.person, chosen))
    points = embed(data.features.features[rows], data.metric, seed)
    everyone = len(set(data.features.person.tolist()))
    caption = (
        f"{len(rows)} clips of {len(chosen)} of {everyone} people, drawn with seed {seed}. Lines "
        "join the clips of a person with their center, at which its name stands. t-SNE keeps "
        f"neighborhoods of the {data.metric} distance; axes and gaps between groups mean nothing."
    )
    title = f"t-SNE of the features of {data.name}, by person and modality"
    figure = draw_map(points, data.features.person[rows], data.modalities[rows])
    return Picture(title, caption, figure)


@styled
def draw_map(points: np.ndarray, people: np.ndarray, modalities: np.ndarray) -> Figure:
    """Draw points (N, 2) of people (N,) in modalities (N,), a color for each person."""
    figure = Figure(figsize=(7.2, 6.0), layout="constrained")
    axes = figure.add_subplot()
    names = sorted(set(people.tolist()), key=natural_order)
    for number, name in enumerate(names):
        color, own = PALETTE[number % len(PALETTE)], people == name
        center = points[own].mean(axis=0)
        for x, y in points[own]:
            axes.plot([x, center[0]], [y, center[1]], color=color, linewidth=0.7, alpha=0.5)
        for modality, marker in MARKERS.items():
            chosen = own & (modalities == modality)
            face = color if modality == "visible" else "white"
            axes.scatter(
                points[chosen, 0],
                points[chosen, 1],
                marker=marker,
                s=44,
                facecolor=face,
                edgecolor=color,
                zorder=3,
            )
        box = {"facecolor": "white", "edgecolor": color, "pad": 1.5}
        axes.text(
            center[0], center[1], name, fontsize=SMALL, ha="center", va="center", bbox=box, zorder=4
        )
    handles = [
        Line2D([], [], linestyle="", marker=marker, color=INK, label=modality,
               markerfacecolor=INK if modality == "visible" else "white")
        for modality, marker in MARKERS.items()
        if modality in modalities
    ]  # fmt: skip
    axes.legend(handles=handles, loc="lower left", bbox_to_anchor=(-0.02, 1), ncols=2)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set(visible=True, color=FAINT, linewidth=0.5)
    return figure
