"""Search a gallery of features: a faiss index finds candidates, exact distances rank them.

Legend: Q queries, G gallery items, D feature length, k items of a list.

The index compares in float32, where a rounding decides which of two equal items comes first. So it
gives more candidates than are wanted, as many as it takes to be sure that none is missed, and their
distances are those of ``plugins.evaluation.distance``. A list is that of brute force: the distance
first, then the order of the gallery.
"""

from collections.abc import Mapping
from pathlib import Path

import faiss
import numpy as np
import torch
from torch import Tensor

from plugins.config import check_value
from plugins.errors import InputError
from plugins.evaluation.distance import distances, norm_of_all
from plugins.evaluation.ranks import NO_ITEM, sort_keys
from plugins.evaluation.rerank import rerank as reranked
from plugins.inference.features import Features, join, require_same_network
from plugins.inference.lists import RankedLists
from plugins.protocol import junk_rule
from plugins.utils.io import write_atomically
from plugins.utils.names import closest_names

# A product of two features of length 1 is off by less in float32: 2 D 2^-24 is 5e-4 for D 4096, and
# a sum in blocks, as faiss makes it, comes nowhere near.
ROUNDING = 1e-4
EXTRA = 32  # candidates beyond k to begin with


class Gallery:
    """Items that can be searched, added and removed.

    Attributes:
        items: their features and names, in the order of the index.
        metric: "cosine", or "euclidean" for the squared distance.
        index: faiss index of the same rows: IndexFlatIP of features of length 1, or IndexFlatL2.
    """

    def __init__(self, items: Features, metric: str = "") -> None:
        """Build the index.

        Args:
            items: G items, 0 or more.
            metric: distance; empty for that of the network's test.

        Raises:
            InputError: there is no such metric.
        """
        self.metric = metric or items.metric
        check_value("TEST.METRIC", self.metric)
        length = items.features.shape[1]
        flat = faiss.IndexFlatIP if self.metric == "cosine" else faiss.IndexFlatL2
        self.index = flat(length)
        self.items = items
        self.index.add(self._indexed(items.features))

    def __len__(self) -> int:
        return len(self.items)

    def add(self, items: Features) -> None:
        """Append items.

        Raises:
            InputError: they are of another network, or a name is in the gallery already.
        """
        both = join([self.items, items], ["the gallery", "the new items"])
        self.index.add(self._indexed(items.features))
        self.items = both

    def remove(self, *, person: str | None = None, name: str | None = None) -> int:
        """Remove all items of a person, or the item of a name; return how many.

        Raises:
            InputError: neither or both are given, or no item is of that person or name.
        """
        if (person is None) == (name is None):
            raise InputError("remove: expected a person or the name of an item")
        kind, wanted, column = (
            ("person", person, self.items.person)
            if name is None
            else ("item", name, self.items.name)
        )
        gone = column == wanted
        if not gone.any():
            close = ", ".join(closest_names(str(wanted), np.unique(column).tolist())[:3])
            raise InputError(f"no {kind} {wanted!r} in the gallery; nearest: {close or 'none'}")
        self.index.remove_ids(faiss.IDSelectorBatch(np.flatnonzero(gone).astype(np.int64)))
        self.items = self.items.select(~gone)
        return int(gone.sum())

    def search(
        self,
        query: Features,
        top: int = 10,
        *,
        junk: str = "none",
        rerank: Mapping[str, float] | None = None,
    ) -> RankedLists:
        """List the nearest items of each query.

        Args:
            query: Q items of the same network.
            top: k, the longest a list may be.
            junk: items that a query does not see, a name in ``plugins.protocol.JUNK``. Nobody is
                known to be the same person as an item whose person is not known.
            rerank: k1, k2 and lambda_value of ``plugins.evaluation.rerank.rerank``, for lists that
                depend on all queries and the whole gallery; None for plain distances.

        Raises:
            InputError: the queries are of another network; no such rule; or a wrong value.
        """
        require_same_network(self.items, query, "the gallery", "the queries")
        if top < 1:
            raise InputError(f"top {top}: expected 1 or more")
        unseen = Junk(query, self.items, junk)
        if rerank is not None:
            found = self._search_reranked(query, top, unseen, rerank)
        else:
            found = self._search_index(query, top, unseen)
        return RankedLists(query, self.items, *found, metric=self.metric)

    def save(self, path: str | Path) -> None:
        """Write the items as a file of features, from which :meth:`load` builds the index again.

        A faiss file has no checksum and no names, and reading a damaged one may end the process.
        """
        self.items.save(path)

    def save_index(self, path: str | Path) -> None:
        """Write the index alone, as ``faiss.read_index`` reads it, for other programs."""
        contents = faiss.serialize_index(self.index)
        write_atomically(path, lambda file: file.write(contents.tobytes()))

    @classmethod
    def load(cls, *paths: str | Path, metric: str = "") -> "Gallery":
        """Read one or more files of features and build the index; see :meth:`Features.load`."""
        return cls(Features.load(*paths), metric)

    def _indexed(self, features: np.ndarray) -> np.ndarray:
        features = np.ascontiguousarray(features, dtype=np.float32)
        if self.metric == "cosine":
            features = features / np.linalg.norm(features, axis=1, keepdims=True).clip(1e-12)
        return features

    def _search_index(
        self, query: Features, top: int, unseen: "Junk"
    ) -> tuple[np.ndarray, np.ndarray]:
        rows = np.full((len(query), min(top, len(self))), -1, dtype=np.int64)
        values = np.full(rows.shape, np.inf, dtype=np.float32)
        left = np.arange(len(query))
        count = min(top + EXTRA, len(self))
        norm = 1.0
        if self.metric == "euclidean":
            norm = norm_of_all(*map(torch.from_numpy, (query.features, self.items.features)))
        while len(left) and len(self):
            indexed = self._indexed(query.features[left])
            scores, found = self.index.search(indexed, count)
            last = 1 - scores[:, -1] if self.metric == "cosine" else scores[:, -1]
            rounding = ROUNDING * (1 if self.metric == "cosine" else 2 * norm**2)
            unsure = []
            for number, row in enumerate(left):
                columns = np.sort(found[number])
                columns = columns[~unseen.mask(int(row), columns)]
                ranked, near = self._exact(query.features[row], columns, rows.shape[1], norm)
                rows[row, : len(ranked)], values[row, : len(ranked)] = ranked, near
                # Whatever the index left out is no nearer than its last, but for rounding.
                whole = len(ranked) == rows.shape[1]
                if not (whole and near[-1] < last[number] - rounding):
                    unsure.append(row)
            if count == len(self):
                break
            left, count = np.array(unsure, dtype=np.int64), min(4 * count, len(self))
        return rows, values

    def _exact(
        self, query: np.ndarray, columns: np.ndarray, top: int, norm: float
    ) -> tuple[np.ndarray, np.ndarray]:
        """Rank gallery items, in ascending order, by their exact distances to a query (D,)."""
        features = torch.from_numpy(self.items.features[columns])
        near = distances(torch.from_numpy(query)[None], features, self.metric, norm)
        order = sort_keys(near)[0].argsort()[:top].numpy()
        return columns[order], near[0].numpy()[order]

    def _search_reranked(
        self, query: Features, top: int, unseen: "Junk", parameters: Mapping[str, float]
    ) -> tuple[np.ndarray, np.ndarray]:
        everything = np.arange(len(self))
        near = reranked(
            torch.from_numpy(query.features),
            torch.from_numpy(self.items.features),
            metric=self.metric,
            **parameters,  # type: ignore[arg-type]
        )
        masks = np.stack([unseen.mask(row, everything) for row in range(len(query))])
        return nearest(near, torch.from_numpy(masks), top)


class Junk:
    """The items that each query does not see, by a rule of ``plugins.protocol``."""

    def __init__(self, query: Features, gallery: Features, rule: str) -> None:
        """Number people and cameras of both sides together.

        Raises:
            InputError: there is no such rule, or it names cameras by numbers and some have none.
        """
        self._rule = junk_rule(rule)
        self._query, self._gallery = query, gallery
        cameras = [query.camera, gallery.camera]
        if rule == "sysu":
            for camera in np.unique(np.concatenate(cameras)).tolist():
                if not camera.isdecimal():
                    raise InputError(f"junk rule sysu: camera {camera!r}; expected 1 to 6")
            cameras = [column.astype(np.int64) for column in cameras]
        self._query_cameras, self._gallery_cameras = cameras

    def mask(self, query: int, columns: np.ndarray) -> np.ndarray:
        """Return a bool for each of the gallery's ``columns``, true where it is junk."""
        person = self._query.person[query]
        same = (self._gallery.person[columns] == person) & (person != "")
        return np.asarray(
            self._rule(same, self._query_cameras[query], self._gallery_cameras[columns])
        )


def nearest(near: Tensor, unseen: Tensor, top: int) -> tuple[np.ndarray, np.ndarray]:
    """List the nearest columns of each row, ties in the order of the columns.

    Args:
        near: (Q, G) float32 distances.
        unseen: (Q, G) bool, the junk.
        top: k.

    Returns:
        (Q, min(k, G)) int64 columns, -1 where the list has ended, and their distances, infinite
        there.
    """
    keys = sort_keys(near).masked_fill_(unseen, NO_ITEM)
    keys = keys.topk(min(top, keys.shape[1]), dim=1, largest=False).values
    ended = keys == NO_ITEM
    columns = (keys & 0xFFFFFFFF).masked_fill_(ended, 0)
    values = near.gather(1, columns).masked_fill_(ended, torch.inf)
    return columns.masked_fill_(ended, -1).numpy(), values.numpy()


def compare(first: Features, second: Features, metric: str = "") -> float:
    """Return the distance of two items.

    Args:
        first: one item.
        second: one item of the same network.
        metric: distance; empty for that of the network's test.

    Raises:
        InputError: one of them is not one item, or they are of two networks.
    """
    for items in (first, second):
        if len(items) != 1:
            raise InputError(f"{len(items)} items to compare; expected one")
    require_same_network(first, second, str(first.name[0]), str(second.name[0]))
    one, other = (torch.from_numpy(items.features) for items in (first, second))
    return float(distances(one, other, metric or first.metric))
