"""Measure how much of what brute force finds a search in a gallery finds.

Legend: Q queries, G gallery items, k items of a list.
"""

import numpy as np

from plugins.inference.features import Features
from plugins.inference.gallery import Gallery

SAMPLE = 200  # queries
BLOCK = 100_000  # rows that brute force has in memory at a time


def measure_recall(
    gallery: Gallery,
    query: Features,
    top: int = 10,
    *,
    junk: str = "none",
    itself: bool = True,
    sample: int = SAMPLE,
) -> float:
    """Measure the share of the k nearest items, as brute force finds them, that a search lists.

    Args:
        gallery: G items, with the index that is measured.
        query: Q items of the same network.
        top: k.
        junk: items that a query does not see, a name in ``plugins.protocol.JUNK``.
        itself: whether a query sees the item of its own name.
        sample: number of queries, evenly spaced among these, to measure with; 0 for all.

    Returns:
        Recall at k, 0 to 1; NaN where no query has an item to find.

    Raises:
        InputError: as from ``Gallery.search``.
    """
    if 0 < sample < len(query):
        query = query.select(np.linspace(0, len(query) - 1, sample).astype(np.int64))
    listed = gallery.search(query, top, junk=junk, itself=itself).rows
    wanted = nearest_rows(query, gallery.items, top, gallery.metric, junk, itself)
    pairs = zip(wanted, listed, strict=True)
    found = sum(int(np.isin(nearest[nearest >= 0], rows).sum()) for nearest, rows in pairs)
    number = int((wanted >= 0).sum())
    return found / number if number else float("nan")


def nearest_rows(
    query: Features,
    items: Features,
    top: int,
    metric: str,
    junk: str = "none",
    itself: bool = True,
) -> np.ndarray:
    """List the nearest items of each query by brute force, block by block.

    Args:
        query: Q items.
        items: G items of the same network.
        top: k.
        metric: "cosine" or "euclidean".
        junk: as of :func:`measure_recall`.
        itself: likewise.

    Returns:
        (Q, k) int64 rows of ``items``; -1 where a list has ended.
    """
    rows = np.full((len(query), top), -1, dtype=np.int64)
    near = np.full((len(query), top), np.inf, dtype=np.float32)
    for start in range(0, len(items), BLOCK):
        block = items.select(range(start, min(start + BLOCK, len(items))))
        found = Gallery(block, metric).search(query, top, junk=junk, itself=itself)
        both = np.concatenate([rows, np.where(found.rows < 0, -1, found.rows + start)], axis=1)
        distances = np.concatenate([near, found.distances], axis=1)
        order = distances.argsort(axis=1, kind="stable")[:, :top]  # earlier rows first
        rows, near = (np.take_along_axis(each, order, axis=1) for each in (both, distances))
    return rows
