"""Give people, cameras and tracklets their own names back: numbers are for tensors alone.

Legend: I items.
"""

import os
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from plugins.data.datasets.tracklet import MODALITIES, Tracklet, as_tracklet


def person_name(data: Any, label: int | str) -> str:
    """Return a data set's own name of a person; a reader that has none keeps its label.

    Args:
        data: a data set; a user's reader need not be a ReidDataset.
        label: person of one of its items.
    """
    return getattr(data, "person_name", str)(label)


def camera_name(data: Any, label: int | str) -> str:
    """Return a data set's own name of a camera; see :func:`person_name`."""
    return getattr(data, "camera_name", str)(label)


def line_of(data: Any, file: str, split: str) -> str:
    """Return the line that lists a file of a data set; see ``ReidDataset.line_of``."""
    return getattr(data, "line_of", lambda file, split: "")(file, split)


def named(data: Any, item: Sequence) -> Tracklet:
    """Return an item of a data set as a tracklet whose person and camera are own names."""
    tracklet = as_tracklet(item)
    return tracklet._replace(
        pid=person_name(data, tracklet.pid), camid=camera_name(data, tracklet.camid)
    )


def item_names(data: Any, items: Sequence[Sequence], root: str) -> dict[str, np.ndarray]:
    """Name the items of a data set, the same on every machine.

    Args:
        data: the data set.
        items: tracklets or fastreid's images of the set.
        root: folder of all data sets.

    Returns:
        "path" (I,): the first file, from ``root`` on where it lies there, "/" between folders; of
        several items that begin with one file the further ones end in "#2", "#3", ...; "person"
        and "camera" (I,), the set's own names; "modality" (I,), "visible" or "infrared".
    """
    columns: dict[str, list[str]] = {"path": [], "person": [], "camera": [], "modality": []}
    seen: Counter[str] = Counter()
    for item in items:
        tracklet = named(data, item)
        path = _below(tracklet.img_paths[0], root)
        seen[path] += 1
        columns["path"].append(path if seen[path] == 1 else f"{path}#{seen[path]}")
        columns["person"].append(str(tracklet.pid))
        columns["camera"].append(str(tracklet.camid))
        columns["modality"].append(MODALITIES[tracklet.modality])
    return {name: np.array(values, dtype=str) for name, values in columns.items()}


def _below(path: str, root: str) -> str:
    inside = os.path.relpath(path, root)
    outside = inside == os.pardir or inside.startswith(os.pardir + os.sep)
    return (os.path.abspath(path) if outside else inside).replace(os.sep, "/")
