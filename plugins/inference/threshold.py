"""Choose the distance below which two items are taken for one person."""

from collections.abc import Mapping

import numpy as np
import torch

from plugins.errors import InputError
from plugins.evaluation.side import Side
from plugins.evaluation.verification import Verification
from plugins.evaluation.verification import find_threshold as find
from plugins.inference.features import Features, require_same_network
from plugins.inference.junk import number_cameras, number_names, warn_without_camera

# Directions: modality of the queries and of the gallery; empty for both.
DIRECTIONS: Mapping[str, tuple[str, str]] = {
    "I2V": ("infrared", "visible"),
    "V2I": ("visible", "infrared"),
    "Q2G": ("", ""),
}


def sides(query: Features, gallery: Features, direction: str) -> tuple[Features, Features]:
    """Return the queries and the gallery of a direction.

    Args:
        query: items of any modality.
        gallery: likewise; may be the same.
        direction: I2V, V2I, or Q2G for all queries and the whole gallery.

    Raises:
        InputError: there is no such direction, or it has no queries or no gallery.
    """
    if direction not in DIRECTIONS:
        raise InputError(f"direction {direction!r}; expected one of {', '.join(DIRECTIONS)}")
    found = []
    for items, modality, what in zip(
        (query, gallery), DIRECTIONS[direction], ("query", "item of the gallery"), strict=True
    ):
        chosen = items.of(modality) if modality else items
        if not len(chosen):
            raise InputError(f"direction {direction}: no {' '.join([modality, what]).strip()}")
        found.append(chosen)
    return found[0], found[1]


def find_threshold(
    query: Features,
    gallery: Features,
    rate: float,
    *,
    junk: str = "camera",
    metric: str = "",
    seed: int = 0,
) -> Verification:
    """Find the threshold at a false accept rate, with intervals over people.

    Args:
        query: items of known people.
        gallery: likewise, of the same network; where it has the items of ``query``, each pair
            counts once, and no item is a pair with itself.
        rate: share of the pairs of two people that may be accepted, above 0 and below 1.
        junk: pairs that do not count, a name in ``plugins.protocol.JUNK``.
        metric: distance; empty for that of the network's test.
        seed: of the draws.

    Raises:
        InputError: there is no item, or its person is not known; from ``number_cameras``; or from
            ``plugins.evaluation.verification.find_threshold``.
    """
    require_same_network(gallery, query, "the gallery", "the queries")
    for what, items in (("queries", query), ("gallery", gallery)):
        if not len(items):
            raise InputError(f"the {what}: no items; expected items of known people")
        if len(unknown := np.flatnonzero(items.person == "")):
            raise InputError(
                f"{items.name[unknown[0]]}: its person is not known, nor is that of "
                f"{len(unknown) - 1} others; expected items of known people"
            )
    one, other = as_sides(query, gallery, junk)
    warn_without_camera(query.camera, gallery.camera, junk)
    same = np.array_equal(query.name, gallery.name) and np.array_equal(query.path, gallery.path)
    metric = metric or query.metric
    return find(one, other, rate, metric=metric, junk=junk, same=same, seed=seed)


def as_sides(query: Features, gallery: Features, junk: str) -> tuple[Side, Side]:
    """Number the people and the cameras of both, as a junk rule takes them."""
    pids = number_names(query.person, gallery.person)
    camids = number_cameras(query.camera, gallery.camera, junk)
    first, second = (
        Side(*(torch.from_numpy(each) for each in (items.features, people, cameras)))
        for items, people, cameras in zip((query, gallery), pids, camids, strict=True)
    )
    return first, second
