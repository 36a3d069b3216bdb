"""Describe test protocols as data: who searches whom, and which items a query does not see.

Legend: I items of query + gallery.
"""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from plugins.errors import InputError

# Units of a CMC rank: gallery items, or people, each where it comes first in the list.
CMC = ("item", "identity")
SEARCHABLE = "queries and a gallery; of two modalities, queries of one and a gallery of the other"

# By the name of a junk rule, whether a gallery item is junk for a query: (whether both show the
# same person, camera of the query, camera of the item) -> bool. Only operators are used, so that
# the three may be plain values, or arrays or tensors that broadcast.
JUNK: dict[str, Callable[[Any, Any, Any], Any]] = {
    "camera": lambda same_person, query, item: same_person & (query == item),
    "none": lambda same_person, query, item: same_person & False,
    "sysu": lambda same_person, query, item: (query == 3) & (item == 2),
}


class Trial(NamedTuple):
    """One search: int64 rows of a data set's ``query + gallery``."""

    query: np.ndarray
    gallery: np.ndarray


@dataclass(frozen=True)
class Direction:
    """Who searches whom, and by which rules.

    Attributes:
        trials: searches whose scores are averaged; each of several has another drawn gallery.
        junk: the gallery items that a query does not see. "camera": the items of its own person
            from its own camera (Market-1501); "none": a query sees all items; "sysu": a query of
            camera 3 sees nothing of camera 2, which is in the same room, whoever is on it
            (SYSU-MM01).
        cmc: unit of a CMC rank. "item": gallery items; "identity": people, each where it comes
            first in the list (SYSU-MM01). mAP and mINP always count items.
        gallery_cameras: cameras that a gallery drawn from other items may hold; empty for all.
    """

    trials: tuple[Trial, ...]
    junk: str = "camera"
    cmc: str = "item"
    gallery_cameras: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        """Check that there is a trial, and the two names."""
        assert self.trials, "a direction needs a trial"
        assert self.junk in JUNK, f"junk rule '{self.junk}', expected one of {list(JUNK)}"
        assert self.cmc in CMC, f"CMC kind '{self.cmc}', expected one of {CMC}"


def junk_rule(name: str) -> Callable[[Any, Any, Any], Any]:
    """Return the junk rule of that name.

    Raises:
        InputError: there is no such rule.
    """
    if name not in JUNK:
        raise InputError(f"no junk rule '{name}'; known: {', '.join(JUNK)}")
    return JUNK[name]


def can_search(directions: Mapping[str, Direction]) -> bool:
    """Tell whether a trial of some direction has both queries and a gallery."""
    trials = [trial for direction in directions.values() for trial in direction.trials]
    return any(len(trial.query) and len(trial.gallery) for trial in trials)


def without_answer(directions: Mapping[str, Direction], items: Sequence) -> list[str]:
    """Name the directions with a trial in which no query sees an item of its own person.

    Args:
        directions: directions of a data set.
        items: its ``query + gallery`` (I), tracklets or fastreid's images.
    """
    return [
        name
        for name, direction in directions.items()
        if not all(_has_answer(trial, direction.junk, items) for trial in direction.trials)
    ]


def _has_answer(trial: Trial, junk: str, items: Sequence) -> bool:
    rule = junk_rule(junk)
    cameras = defaultdict(set)  # by person, the cameras that saw the person in the gallery
    for row in trial.gallery:
        cameras[items[row][1]].add(items[row][2])
    for row in trial.query:
        pid, camid = items[row][1], items[row][2]
        if not all(rule(True, camid, camera) for camera in cameras[pid]):
            return True
    return False
