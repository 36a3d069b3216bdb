"""Choose the distance below which two items are taken for one person."""

from collections.abc import Mapping

import numpy as np
import torch

from plugins.errors import InputError
from plugins.evaluation.side import Side
from plugins.evaluation.verification import Verification
from plugins.evaluation.verification import find_threshold as find
from plugins.inference.features import Features, require_same_network

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
        InputError: an item's person is not known; or from
            ``plugins.evaluation.verification.find_threshold``.
    """
    require_same_network(gallery, query, "the gallery", "the queries")
    for items in (query, gallery):
        if len(unknown := np.flatnonzero(items.person == "")):
            raise InputError(
                f"{items.name[unknown[0]]}: its person is not known, nor is that of "
                f"{len(unknown) - 1} others; expected items of known people"
            )
    one, other = as_sides(query, gallery)
    same = np.array_equal(query.name, gallery.name) and np.array_equal(query.path, gallery.path)
    metric = metric or query.metric
    return find(one, other, rate, metric=metric, junk=junk, same=same, seed=seed)


def as_sides(query: Features, gallery: Features) -> tuple[Side, Side]:
    """Number the people and cameras of both; cameras that are numbers keep them."""
    numbers = []
    for name in ("person", "camera"):
        both = np.concatenate([getattr(query, name), getattr(gallery, name)])
        plain = name == "camera" and all(each.isdecimal() for each in both.tolist())
        coded = both.astype(np.int64) if plain else np.unique(both, return_inverse=True)[1]
        numbers.append(torch.from_numpy(coded.astype(np.int64)).split([len(query), len(gallery)]))
    (people, others), (cameras, seen) = numbers
    return (
        Side(torch.from_numpy(query.features), people, cameras),
        Side(torch.from_numpy(gallery.features), others, seen),
    )
