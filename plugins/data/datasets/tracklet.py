"""The unit of video re-identification."""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

VISIBLE, INFRARED = 0, 1
MODALITIES = ("visible", "infrared")
SPLITS = ("train", "query", "gallery")


class Tracklet(NamedTuple):
    """Frames of one person, seen by one camera, in the order of time.

    The first three fields stand where fastreid's image items have theirs.

    Attributes:
        img_paths: one file per frame.
        pid: person, as the data set numbers or names people.
        camid: camera, likewise.
        modality: 0 visible, 1 infrared.
        is_pseudo: whether a generator made the frames.
    """

    img_paths: tuple[str, ...]
    pid: int | str
    camid: int | str
    modality: int
    is_pseudo: bool = False


def is_image(item: Sequence) -> bool:
    """Tell an image, (path, pid, camid) or with is_pseudo, from a tracklet."""
    return isinstance(item[0], str)


def as_tracklet(item: Sequence) -> Tracklet:
    """Make fastreid's image (path, pid, camid) a visible tracklet of one frame; keep a tracklet."""
    if is_image(item):
        path, pid, camid, *is_pseudo = item
        return Tracklet((path,), pid, camid, VISIBLE, *is_pseudo)
    return Tracklet(*item)


def number_sorted(names: Iterable[Any]) -> dict[Any, int]:
    """Number names from 0 in sorted order: the order of a set differs between processes.

    >>> number_sorted(["b", "a", "b"])
    {'a': 0, 'b': 1}
    """
    return {name: number for number, name in enumerate(sorted(set(names)))}
