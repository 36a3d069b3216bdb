"""Rank positives without a list and without a Q x G matrix: the gallery passes by in tiles.

Legend: Q queries, G gallery items, D feature length, C queries of a block, K most positives of a
query, T items of a tile, P pairs of a query and an item of its person.

The distances of a query's positives come first. Then each tile of the gallery is sorted and counted
against them. Features become float64 block by block, so that a gallery may be a file on disk.
Distances are those of ``plugins.evaluation.distance``, and so are the ranks, to the last bit.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from plugins.errors import InputError
from plugins.evaluation.distance import Grid
from plugins.evaluation.ranks import NO_ITEM, key_bits, key_distances
from plugins.evaluation.side import Side
from plugins.protocol import junk_rule

# Bytes of a block of queries in float64, of a tile of the gallery, and of their distances.
BLOCK_BYTES, TILE_BYTES, PRODUCT_BYTES = 24 << 20, 8 << 20, 16 << 20
MOST_QUERIES = 4096  # of a block
MOST_POSITIVES = 1 << 21  # of a block, with the gaps of shorter lists
GROUP = 128  # gallery items, at least, whose pairs are computed together
TIED_PAIRS = 4096  # whose tiles are searched together for ties

NAN = "a distance is NaN; expected finite features"


@dataclass(frozen=True)
class Pairs:
    """The pairs of C queries and the items of their own persons, in the order of the queries.

    Attributes:
        rows: (P,) int64 queries.
        keys: (P,) int64, sort as (distance, gallery index) do.
        junk: (P,) bool, the query does not see the item.
    """

    rows: Tensor
    keys: Tensor
    junk: Tensor


class Counter:
    """Ranks the positives of queries in one gallery.

    Attributes:
        order: (G,) int64, the gallery sorted by person.
    """

    def __init__(self, gallery: Side, metric: str, junk: str, grid: Grid) -> None:
        """Sort the gallery by person.

        Raises:
            InputError: there is no such metric or junk rule.
        """
        self.gallery, self.grid, self.rule = gallery, grid, junk_rule(junk)
        self.people, self.order = gallery.pids.sort(stable=True)
        self.cameras = gallery.camids.unique()

    def blocks(self, query: Side, most: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the indices (C,) of a block of queries and the ranks (C, K) of their positives.

        Args:
            query: Q items.
            most: queries of a block.

        Raises:
            InputError: a distance is NaN.
        """
        pids, order = query.pids.sort(stable=True)
        first = torch.searchsorted(self.people, pids)
        counts = torch.searchsorted(self.people, pids, right=True) - first
        row_bytes = 8 * max(1, query.features.shape[1])
        most = max(1, min(most, MOST_QUERIES, BLOCK_BYTES // row_bytes))
        # Blocks of equal size: a small last one would convert the whole gallery for few queries.
        most = max(1, -(-len(order) // max(1, -(-len(order) // most))))
        start = 0
        while start < len(order):
            size = most
            while size > 1 and size * int(counts[start : start + size].max()) > MOST_POSITIVES:
                size //= 2
            block = slice(start, start + size)
            rows = order[block]
            yield rows, self._ranks(query, rows, first[block], counts[block])
            start += size

    def _ranks(self, query: Side, rows: Tensor, first: Tensor, counts: Tensor) -> Tensor:
        features = self.grid.rows(query.features, rows)
        pids, camids = query.pids[rows], query.camids[rows]
        pairs = self._pairs(features, camids, first, counts)
        positives = ladder(pairs, ~pairs.junk, len(rows))
        # A rule that hides none but the own person needs no mask: its junk is in the pairs.
        nobody = torch.zeros(1, dtype=torch.bool, device=camids.device)
        hidden = bool(self.rule(nobody, camids.unique()[:, None], self.cameras).any())
        ranks = self._count(features, positives, (pids, camids) if hidden else None)
        if not hidden:
            ranks -= torch.searchsorted(ladder(pairs, pairs.junk, len(rows)), positives)
        return ranks.masked_fill_(positives == NO_ITEM, 0)

    def _pairs(self, features: Tensor, camids: Tensor, first: Tensor, counts: Tensor) -> Pairs:
        """Compute the pairs of queries that are sorted by person.

        Args:
            features: (C, D) on the grid.
            camids: (C,).
            first: (C,) index in ``order`` of the first item of each query's person.
            counts: (C,) number of its items.
        """
        rows, places = expand(first, counts)
        columns = self.order[places]
        # Queries of one person share their items: the products are made group by group.
        near = [torch.empty(0, dtype=torch.float32, device=features.device)]
        for part in groups(first, counts):
            people, people_rows = first[part].unique(return_inverse=True)
            sizes = counts[part].new_zeros(len(people))
            # A person without an item begins where the next one does.
            sizes.scatter_reduce_(0, people_rows, counts[part], "amax")
            items = self.order[expand(people, sizes)[1]]
            block = torch.cat(
                [
                    self.grid.distances(features[part], self.grid.rows(self.gallery.features, some))
                    for some in items.split(1024)
                ],
                dim=1,
            )
            starts = (sizes.cumsum(0) - sizes)[people_rows]
            near.append(block[expand(starts, counts[part])])
        own = torch.ones_like(rows, dtype=torch.bool)
        junk = self.rule(own, camids[rows], self.gallery.camids[columns])
        return Pairs(rows, key_bits(torch.cat(near), columns), junk)

    def _count(
        self, features: Tensor, positives: Tensor, labels: tuple[Tensor, Tensor] | None
    ) -> Tensor:
        """Count, for each positive, the items up to it in its list, itself included.

        Args:
            features: (C, D) on the grid.
            positives: (C, K) keys, ascending.
            labels: (C,) persons and cameras of the queries, if items must be hidden by the rule.
        """
        values, columns = key_distances(positives), positives & 0xFFFFFFFF
        ranks = torch.ones_like(columns)
        row_bytes = 8 * max(1, features.shape[1])
        size = max(1, min(TILE_BYTES // row_bytes, PRODUCT_BYTES // (12 * max(1, len(features)))))
        for start in range(0, len(self.gallery), size):
            tile = slice(start, min(start + size, len(self.gallery)))
            near = self.grid.distances(features, self.grid.rows(self.gallery.features, tile))
            if labels is not None:
                same_person = labels[0][:, None] == self.gallery.pids[tile]
                cameras = self.gallery.camids[tile]
                near.masked_fill_(self.rule(same_person, labels[1][:, None], cameras), torch.inf)
            ranks += count_tile(near, start, values, columns, positives == NO_ITEM)
        return ranks


def expand(first: Tensor, counts: Tensor) -> tuple[Tensor, Tensor]:
    """List the pairs (row, number) with ``first[row] <= number < first[row] + counts[row]``."""
    rows = torch.arange(len(counts), device=counts.device).repeat_interleave(counts)
    numbers = torch.arange(len(rows), device=counts.device)
    return rows, numbers + (first - counts.cumsum(0) + counts)[rows]


def groups(first: Tensor, counts: Tensor) -> Iterator[slice]:
    """Split queries that are sorted by person where a group has enough gallery items."""
    people = torch.unique_consecutive(first.where(counts > 0, -1), return_counts=True)
    start = row = items = 0
    for place, number in zip(*(part.tolist() for part in people), strict=True):
        items += int(counts[row]) if place >= 0 else 0
        row += number
        if items >= GROUP or row == len(counts):
            yield slice(start, row)
            start, items = row, 0


def ladder(pairs: Pairs, chosen: Tensor, number: int) -> Tensor:
    """Sort the keys of chosen pairs for each of C queries.

    Returns:
        (C, K) int64, ascending, NO_ITEM beyond the last; K is at least 1.
    """
    rows, keys = pairs.rows[chosen], pairs.keys[chosen]
    counts = rows.bincount(minlength=number)
    width = max([1, *counts.tolist()])
    slots = torch.arange(len(rows), device=rows.device) - (counts.cumsum(0) - counts)[rows]
    table = keys.new_full((number, width), NO_ITEM)
    table[rows, slots] = keys
    return table.sort(dim=1).values


def count_tile(near: Tensor, start: int, values: Tensor, columns: Tensor, absent: Tensor) -> Tensor:
    """Count the items of a tile that come before each positive.

    Args:
        near: (C, T) float32 distances; infinite for junk.
        start: gallery index of the tile's first item.
        values: (C, K) float32 distances of the positives, ascending.
        columns: (C, K) their gallery indices.
        absent: (C, K) bool, no positive is there.

    Returns:
        (C, K) int64.

    Raises:
        InputError: a distance is NaN.
    """
    in_order = sort_rows(near)
    if in_order[:, -1].isnan().any():
        raise InputError(NAN)
    before = torch.searchsorted(in_order, values)
    equal = torch.searchsorted(in_order, values, right=True) - before
    place = columns - start
    inside = (place >= 0) & (place < near.shape[1])
    before += equal.where(place >= near.shape[1], 0)
    tied = (inside & (equal > 1) & ~absent).nonzero()
    for rows, slots in (part.T for part in tied.split(TIED_PAIRS)):
        own = values[rows, slots][:, None] == near[rows]
        own &= torch.arange(near.shape[1], device=near.device) < place[rows, slots][:, None]
        before[rows, slots] += own.sum(dim=1)
    return before


def sort_rows(values: Tensor) -> Tensor:
    """Sort each row of (C, T); numpy sorts short rows ten times as fast as torch on a CPU."""
    if values.device.type != "cpu":
        return values.sort(dim=1).values
    threads = torch.get_num_threads()
    if threads == 1:
        return torch.from_numpy(np.sort(values.numpy(), axis=1))
    result = values.clone()
    parts = [part.numpy() for part in result.chunk(threads)]
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(lambda part: part.sort(axis=1), parts))
    return result
