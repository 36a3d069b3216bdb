"""The test of a run as pictures need it: items with their own names, features, directions.

Legend: N items of query + gallery, D feature length.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from plugins.data.datasets.build import build_dataset, datasets_root
from plugins.data.datasets.own_names import item_names, named
from plugins.data.datasets.tracklet import Tracklet, as_tracklet
from plugins.errors import InputError
from plugins.evaluation import Side
from plugins.inference import Embedder, Features
from plugins.inference.features import network_differences
from plugins.protocol import Direction
from plugins.utils.names import closest_names, join_choices


@dataclass(frozen=True, eq=False)
class EvaluatedSet:
    """Query + gallery of a data set, as a run's model sees them.

    Attributes:
        name: registered name of the set.
        items: N tracklets, whose persons and cameras are the set's own names.
        features: N features, in the same order, with the same names.
        pids: (N,) int64 labels of persons, as the reader numbers them.
        camids: (N,) int64 labels of cameras, likewise.
        directions: who searches whom, by the name of the direction.
        source: the reader, with its lists ``query``, ``gallery`` and ``train``.
    """

    name: str
    items: list[Tracklet]
    features: Features
    pids: Tensor
    camids: Tensor
    directions: Mapping[str, Direction]
    source: Any = None

    def __len__(self) -> int:
        return len(self.items)

    @property
    def metric(self) -> str:
        """The distance of the run's test, "cosine" or "euclidean"."""
        return self.features.metric

    @property
    def modalities(self) -> np.ndarray:
        """The modality of each item (N,), "visible" or "infrared"."""
        return self.features.modality

    def side(self, rows: np.ndarray) -> Side:
        """Return the items of these rows for a search."""
        everything = Side(torch.from_numpy(self.features.features), self.pids, self.camids)
        return everything.select(rows)

    def direction(self, name: str) -> Direction:
        """Return the direction of that name, by default the first.

        Raises:
            InputError: the set has no such direction, or it has no queries or no gallery.
        """
        return find_direction(self.name, self.directions, name)

    def row_of(self, name: str) -> int:
        """Return the row of the item that a user names: its name, its first file or its folder.

        Raises:
            InputError: no item has that name, or several have.
        """
        return find_row(self.name, self.features.name, self.features.path, name)


def find_row(data: str, names: np.ndarray, paths: np.ndarray, name: str) -> int:
    """Return the row of the item that a user names, see :meth:`EvaluatedSet.row_of`.

    Args:
        data: name of the set, for messages.
        names: (N,) own names.
        paths: (N,) first files.
        name: what the user wrote.
    """
    wanted = name.rstrip("/")
    columns = [names, paths]
    columns += [np.array([os.path.dirname(each) for each in column]) for column in columns]
    for column in columns:
        rows = np.flatnonzero(column == wanted)
        if len(rows) == 1:
            return int(rows[0])
        if len(rows) > 1:
            raise InputError(
                f"{name}: {len(rows)} items of {data} are there, such as {names[rows[1]]}; "
                "expected the name of one"
            )
    close = closest_names(name, names.tolist())[:3]
    raise InputError(f"{name}: no item of {data}; nearest: {', '.join(close)}")


def find_direction(data: str, directions: Mapping[str, Direction], name: str) -> Direction:
    """Return the direction of that name, see :meth:`EvaluatedSet.direction`."""
    found = directions.get(name or next(iter(directions)))
    if found is None:
        raise InputError(
            f"direction {name!r}; expected {join_choices([*directions])}, which {data} has"
        )
    if not (len(found.trials[0].query) and len(found.trials[0].gallery)):
        raise InputError(f"direction {name}: {data} has no queries or no gallery for it")
    return found


def evaluate_set(
    embedder: Embedder,
    name: str = "",
    features: str | Path = "",
    *,
    direction: str = "",
    items: Sequence[str] = (),
) -> EvaluatedSet:
    """Read the test of a data set, with the features of its items.

    Args:
        embedder: a run's model.
        name: registered name of the set; empty for the first of DATASETS.TESTS.
        features: file of :meth:`Embedder.dataset`, to read what was extracted; empty to extract.
        direction: name of a direction that the set must have; empty for any.
        items: names of items that it must have.

    Raises:
        InputError: no such set, direction or item; or the file holds features of others or of
            another network.
    """
    key = "--dataset" if name else "DATASETS.TESTS"
    name = name or next(iter(embedder.cfg.DATASETS.TESTS), "")
    data = build_dataset(name, key, cfg=embedder.cfg)
    raw = [*data.query, *data.gallery]
    labels = [as_tracklet(item) for item in raw]
    names = item_names(data, raw, datasets_root())["path"]
    paths = np.array([item.img_paths[0] for item in labels], dtype=str)
    directions = data.directions()
    if direction:
        find_direction(name, directions, direction)
    for item in items:
        find_row(name, names, paths, item)
    found = Features.load(features) if features else embedder.dataset(name)
    network = found.about.get("network")
    other = not network or network_differences(network, embedder.network)
    if other or not np.array_equal(found.name, names):
        raise InputError(
            f"{features}: features of other items or of another network; expected those of "
            f"query + gallery of {name}, extracted with this run"
        )
    return EvaluatedSet(
        name,
        [named(data, item) for item in raw],
        found,
        torch.tensor([item.pid for item in labels], dtype=torch.int64),
        torch.tensor([item.camid for item in labels], dtype=torch.int64),
        directions,
        data,
    )
