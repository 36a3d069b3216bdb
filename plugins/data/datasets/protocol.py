"""Who searches whom, and by which rules: test protocols as data."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

JUNK_RULES = ("camera", "none", "sysu")
CMC_KINDS = ("item", "identity")
SEARCHABLE = "queries and a gallery; of two modalities, queries of one and a gallery of the other"


class Trial(NamedTuple):
    """One search: int64 rows of a data set's ``query + gallery``."""

    query: np.ndarray
    gallery: np.ndarray


@dataclass(frozen=True)
class Protocol:
    """One direction of a data set.

    Attributes:
        trials: searches whose scores are averaged; of several, each has another drawn gallery.
        junk: gallery items that a query does not see. "camera": those of its own person from its
            own camera (Market-1501); "none"; "sysu": a query of camera 3 sees nothing of camera 2,
            which is in the same room, whoever is on it (SYSU-MM01).
        cmc: what a CMC rank counts. "item": gallery items; "identity": people, each where it comes
            first in the list (SYSU-MM01). mAP and mINP always count items.
        gallery_cameras: those that a gallery drawn from other items may hold; empty for all.
    """

    trials: tuple[Trial, ...]
    junk: str = "camera"
    cmc: str = "item"
    gallery_cameras: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        """Check that there is a trial, and the two names."""
        assert self.trials, "a protocol needs a trial"
        assert self.junk in JUNK_RULES, f"junk rule '{self.junk}', expected one of {JUNK_RULES}"
        assert self.cmc in CMC_KINDS, f"CMC kind '{self.cmc}', expected one of {CMC_KINDS}"


def can_search(directions: Mapping[str, Protocol]) -> bool:
    """Whether a trial of some direction has both queries and a gallery."""
    trials = [trial for protocol in directions.values() for trial in protocol.trials]
    return any(len(trial.query) and len(trial.gallery) for trial in trials)


def without_answer(directions: Mapping[str, Protocol], items: Sequence) -> list[str]:
    """Names of the directions with a trial in which no query sees an item of its own person.

    Args:
        directions: of a data set.
        items: its ``query + gallery``, tracklets or fastreid's images.
    """
    return [
        name
        for name, protocol in directions.items()
        if not all(_has_answer(trial, protocol.junk, items) for trial in protocol.trials)
    ]


def _has_answer(trial: Trial, junk: str, items: Sequence) -> bool:
    cameras = defaultdict(set)  # that saw a person, in the gallery
    for row in trial.gallery:
        cameras[items[row][1]].add(items[row][2])
    for row in trial.query:
        pid, camid = items[row][1], items[row][2]
        hidden = {"camera": {camid}, "none": set(), "sysu": {2} if camid == 3 else set()}[junk]
        if cameras[pid] - hidden:
            return True
    return False
