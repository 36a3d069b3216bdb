"""The test of a run as pictures need it: items with their own names, features, directions.

Legend: N items of query + gallery, D feature length.
"""

import os
from collections.abc import Mapping
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
        found = self.directions.get(name or next(iter(self.directions)))
        if found is None:
            raise InputError(
                f"direction {name!r}; expected {join_choices([*self.directions])}, which "
                f"{self.name} has"
            )
        if not (len(found.trials[0].query) and len(found.trials[0].gallery)):
            raise InputError(f"direction {name}: {self.name} has no queries or no gallery for it")
        return found

    def row_of(self, name: str) -> int:
        """Return the row of the item that a user names: its name, its first file or its folder.

        Raises:
            InputError: no item has that name, or several have.
        """
        wanted = name.rstrip("/")
        columns = [self.features.name, self.features.path]
        columns += [np.array([os.path.dirname(each) for each in column]) for column in columns]
        for column in columns:
            rows = np.flatnonzero(column == wanted)
            if len(rows) == 1:
                return int(rows[0])
            if len(rows) > 1:
                raise InputError(
                    f"{name}: {len(rows)} items of {self.name} are there, such as "
                    f"{self.features.name[rows[1]]}; expected the name of one"
                )
        close = closest_names(name, self.features.name.tolist())[:3]
        raise InputError(f"{name}: no item of {self.name}; nearest: {', '.join(close)}")


def evaluate_set(embedder: Embedder, name: str = "", features: str | Path = "") -> EvaluatedSet:
    """Read the test of a data set, with the features of its items.

    Args:
        embedder: a run's model.
        name: registered name of the set; empty for the first of DATASETS.TESTS.
        features: file of :meth:`Embedder.dataset`, to read what was extracted; empty to extract.

    Raises:
        InputError: no such set, or the file holds features of others or of another network.
    """
    name = name or next(iter(embedder.cfg.DATASETS.TESTS), "")
    data = build_dataset(name, "DATASETS.TESTS", cfg=embedder.cfg)
    raw = [*data.query, *data.gallery]
    found = Features.load(features) if features else embedder.dataset(name)
    if features:
        names = item_names(data, raw, datasets_root())["path"]
        if found.about.get("network") != embedder.network or not np.array_equal(found.name, names):
            raise InputError(
                f"{features}: features of other items or of another network; expected those of "
                f"query + gallery of {name}, extracted with this run"
            )
    labels = [as_tracklet(item) for item in raw]
    return EvaluatedSet(
        name,
        [named(data, item) for item in raw],
        found,
        torch.tensor([item.pid for item in labels], dtype=torch.int64),
        torch.tensor([item.camid for item in labels], dtype=torch.int64),
        data.directions(),
        data,
    )
