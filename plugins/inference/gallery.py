"""Search a gallery of features: a faiss index finds candidates, exact distances rank them.

Legend: Q queries, G gallery items, D feature length, k items of a list.

The index compares in float32, where a rounding decides which of two equal items comes first. So it
gives more candidates than are wanted, as many as it takes to be sure that none is missed, and their
distances are those of ``plugins.evaluation.distance``. A list is that of brute force: the distance
first, then the order of the gallery. The index ``ivfpq`` is faster in a large gallery, and its
candidates lack some of the nearest items; ``measure_recall`` tells how many.
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
from plugins.inference.index import (
    FLAT,
    IVFPQ,
    PROBES,
    add_to,
    blocks,
    build_index,
    candidates,
    check_kind,
    comparable,
    is_index,
    read_index,
    set_probes,
    write_index,
)
from plugins.inference.junk import Junk
from plugins.inference.lists import RankedLists
from plugins.inference.store import load_items
from plugins.utils.digests import digest
from plugins.utils.io import write_atomically
from plugins.utils.names import closest_names

# A product of two features of length 1 is off by less in float32: 2 D 2^-24 is 5e-4 for D 4096, and
# a sum in blocks, as faiss makes it, comes nowhere near.
ROUNDING = 1e-4
EXTRA = 32  # candidates beyond k to begin with
CODED = 4  # times as many where they are compared by their codes


class Gallery:
    """Items that can be searched, added and removed.

    Attributes:
        items: their features and names, in the order of the index.
        metric: "cosine", or "euclidean" for the squared distance.
        kind: "flat", which finds all candidates, or "ivfpq", see ``plugins.inference.index``.
        index: faiss index of the same rows, for the cosine of features of length 1.
    """

    def __init__(
        self,
        items: Features,
        metric: str = "",
        kind: str = FLAT,
        probes: int = PROBES,
        index: faiss.Index | None = None,
    ) -> None:
        """Build the index.

        Args:
            items: G items, 0 or more; 256 or more for "ivfpq".
            metric: distance; empty for that of the network's test.
            kind: of the index.
            probes: lists of "ivfpq" that a query is compared with.
            index: index of that kind that was built of these items; None builds one.

        Raises:
            InputError: there is no such metric or index, or too few items or probes.
        """
        self.metric, self.kind = metric or items.metric, kind
        check_value("TEST.METRIC", self.metric)
        check_kind(kind)
        self.items = items
        self.index = build_index(items.features, self.metric, kind) if index is None else index
        set_probes(self.index, probes)

    def __len__(self) -> int:
        return len(self.items)

    def add(self, items: Features) -> None:
        """Append items.

        Raises:
            InputError: they are of another network, or a name is in the gallery already.
        """
        both = join([self.items, items], ["the gallery", "the new items"])
        add_to(self.index, items.features, self.metric)
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
        self.items = self.items.select(~gone)
        if self.kind == FLAT:
            self.index.remove_ids(faiss.IDSelectorBatch(np.flatnonzero(gone).astype(np.int64)))
        else:  # its rows keep their numbers; what was trained stays
            self.index.reset()
            add_to(self.index, self.items.features, self.metric)
        return int(gone.sum())

    def search(
        self,
        query: Features,
        top: int = 10,
        *,
        junk: str = "none",
        itself: bool = True,
        rerank: Mapping[str, float] | None = None,
    ) -> RankedLists:
        """List the nearest items of each query.

        Args:
            query: Q items of the same network.
            top: k, the longest a list may be.
            junk: items that a query does not see, a name in ``plugins.protocol.JUNK``. Nobody is
                known to be the same person as an item whose person is not known.
            itself: whether a query sees the item of its own name, as in a gallery that searches
                itself.
            rerank: k1, k2 and lambda_value of ``plugins.evaluation.rerank.rerank``, for lists that
                depend on all queries and the whole gallery; None for plain distances.

        Raises:
            InputError: the queries are of another network; no such rule; a wrong value; or
                ``rerank`` with an index that does not find all.
        """
        require_same_network(self.items, query, "the gallery", "the queries")
        if top < 1:
            raise InputError(f"top {top}: expected 1 or more")
        unseen = Junk(query, self.items, junk, itself)
        if rerank is not None:
            if self.kind != FLAT:
                raise InputError(
                    f"TEST.RERANK.ENABLED: True with the index {self.kind}; re-ranking compares "
                    f"all items, expected the index {FLAT}"
                )
            found = self._search_reranked(query, top, unseen, rerank)
        else:
            found = self._search_index(query, top, unseen)
        return RankedLists(query, self.items, *found, metric=self.metric)

    def save(self, path: str | Path) -> None:
        """Write the items as a file of features, and beside it an index that was trained.

        An index "flat" is built again by :meth:`load`. A faiss file has no checksum and no names,
        and reading a damaged one may end the process.

        Raises:
            InputError: nothing can be written, or the index would replace a file that is none.
        """
        beside = index_file(path)
        earlier = is_index(beside)  # of a gallery of that name; what else lies there stays
        if self.kind != FLAT and beside.exists() and not earlier:
            raise InputError(f"{beside}: would be replaced, but is no index; expected another name")
        self.items.save(path)
        if self.kind == FLAT and earlier:
            beside.unlink()
        elif self.kind != FLAT:
            write_index(beside, self.index, self.metric, digest_of(self.items))

    def save_index(self, path: str | Path) -> None:
        """Write the index alone, as ``faiss.read_index`` reads it, for other programs."""
        contents = faiss.serialize_index(self.index)
        write_atomically(path, lambda file: file.write(contents.tobytes()))

    @classmethod
    def load(
        cls, *paths: str | Path, metric: str = "", kind: str = "", probes: int = PROBES
    ) -> "Gallery":
        """Read files or folders of features and build the index; see :meth:`Features.load`.

        Args:
            *paths: files, or folders of a ``FeatureStore``, which stay on disk.
            metric: as of a gallery.
            kind: of the index; empty for that which was saved with the gallery.
            probes: as of a gallery.

        Raises:
            InputError: from the files, or the index beside the gallery is damaged or is of other
                features.
        """
        items = load_items(*paths)
        beside = index_file(paths[0])
        if len(paths) > 1 or kind == FLAT or not beside.is_file():
            return cls(items, metric, kind or FLAT, probes)
        check_kind(kind or IVFPQ)
        metric = metric or items.metric
        index = read_index(beside, metric, digest_of(items))
        return cls(items, metric, IVFPQ, probes, index)

    def _search_index(
        self, query: Features, top: int, unseen: "Junk"
    ) -> tuple[np.ndarray, np.ndarray]:
        rows = np.full((len(query), min(top, len(self))), -1, dtype=np.int64)
        values = np.full(rows.shape, np.inf, dtype=np.float32)
        left = np.arange(len(query))
        count = min(top + EXTRA if self.kind == FLAT else CODED * (top + EXTRA), len(self))
        norm = 1.0
        if self.metric == "euclidean":
            parts = [query.features, *blocks(self.items.features)]
            norm = max(norm_of_all(torch.from_numpy(part)) for part in parts)
        while len(left) and len(self):
            compared = comparable(query.features[left], self.metric)
            scores, found = candidates(self.index, compared, count)
            last = 1 - scores[:, -1] if self.metric == "cosine" else scores[:, -1]
            rounding = ROUNDING * (1 if self.metric == "cosine" else 2 * norm**2)
            unsure = []
            for number, row in enumerate(left):
                columns = np.sort(found[number][found[number] >= 0])
                columns = columns[~unseen.mask(int(row), columns)]
                ranked, near = self._exact(query.features[row], columns, rows.shape[1], norm)
                rows[row, : len(ranked)], values[row, : len(ranked)] = ranked, near
                whole = len(ranked) == rows.shape[1]
                if whole and self.kind == FLAT:
                    # What the index left out is no nearer than its last, but for rounding.
                    whole = bool(near[-1] < last[number] - rounding)
                if not whole:
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
        if not (len(query) and len(self)):
            shape = (len(query), min(top, len(self)))
            return np.full(shape, -1, dtype=np.int64), np.full(shape, np.inf, dtype=np.float32)
        everything = np.arange(len(self))
        near = reranked(
            torch.from_numpy(query.features),
            torch.from_numpy(self.items.features),
            metric=self.metric,
            **parameters,  # type: ignore[arg-type]
        )
        masks = np.stack([unseen.mask(row, everything) for row in range(len(query))])
        return nearest(near, torch.from_numpy(masks), top)


def index_file(path: str | Path) -> Path:
    """Name the file of a trained index beside a file of features."""
    return Path(path).with_suffix(".index")


def digest_of(items: Features) -> str:
    """Identify features by a digest."""
    return f"{digest(np.ascontiguousarray(items.features)):016x}"


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
