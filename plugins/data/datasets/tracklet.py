"""The unit of video re-identification."""

from collections.abc import Sequence
from typing import NamedTuple

VISIBLE, INFRARED = 0, 1
MODALITIES = ("visible", "infrared")


class Tracklet(NamedTuple):
    """Frames of one person, seen by one camera, in the order of time.

    The first three fields stand where fastreid's image items have theirs.

    Attributes:
        img_paths: one file per frame.
        pid: person, as the data set numbers people.
        camid: camera, likewise.
        modality: 0 visible, 1 infrared.
        is_pseudo: whether a generator made the frames.
    """

    img_paths: tuple[str, ...]
    pid: int
    camid: int
    modality: int
    is_pseudo: bool = False


def is_image(item: Sequence) -> bool:
    """Whether ``item`` is an image, (path, pid, camid) or with is_pseudo, and not a tracklet."""
    return isinstance(item[0], str)


def as_tracklet(item: Sequence) -> Tracklet:
    """A tracklet as it is; fastreid's image (path, pid, camid) as a visible one of one frame."""
    if is_image(item):
        path, pid, camid, *is_pseudo = item
        return Tracklet((path,), pid, camid, VISIBLE, *is_pseudo)
    return Tracklet(*item)
