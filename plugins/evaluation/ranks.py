"""Rank a query's positives: pure functions, tensors in, tensors out.

Legend: Q queries, C queries of one chunk, G gallery items, K most positives of a query.

CMC, AP and INP need no more than these ranks. So no gallery is sorted and no Q x G matrix is kept:
chunk by chunk, each gallery item is counted in the gap between two positives where it falls.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

from plugins.errors import InputError
from plugins.evaluation.side import Side
from plugins.protocol import CMC, junk_rule

# Sorts after every key of sort_keys: no item.
NO_ITEM = torch.iinfo(torch.int64).max


def match_blocks(
    query: Side, gallery: Side, junk: str, chunk: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield, for each chunk of queries, the (C, G) bool masks of the positives and of the junk.

    Args:
        query: Q items.
        gallery: G items.
        junk: name of a rule in ``plugins.protocol.JUNK``.
        chunk: queries at a time.

    Raises:
        InputError: there is no such rule.
    """
    rule = junk_rule(junk)
    for pids, camids in zip(query.pids.split(chunk), query.camids.split(chunk), strict=True):
        same_person = pids[:, None] == gallery.pids
        unseen = rule(same_person, camids[:, None], gallery.camids)
        yield same_person & ~unseen, unseen


def people_columns(gallery_pids: Tensor, cmc: str) -> Tensor | None:
    """Number the people of a gallery for a CMC of identities; return None for a CMC of items.

    Args:
        gallery_pids: (G,) persons.
        cmc: "item" or "identity".

    Returns:
        (G,) int64, the people numbered 0, 1, ...

    Raises:
        InputError: ``cmc`` is neither.
    """
    if cmc not in CMC:
        raise InputError(f"no CMC '{cmc}'; known: {', '.join(CMC)}")
    return gallery_pids.unique(return_inverse=True)[1] if cmc == "identity" else None


def sort_keys(distances: Tensor) -> Tensor:
    """Compute integers that sort as (distance, gallery index) do; no two keys of a row are equal.

    Args:
        distances: (C, G) float32, no NaN.

    Returns:
        (C, G) int64: the distance in the upper half, its column in the lower.
    """
    columns = torch.arange(distances.shape[1], device=distances.device)
    return key_bits(distances, columns)


def key_bits(distances: Tensor, columns: Tensor) -> Tensor:
    """Pack float32 distances and gallery indices, which broadcast, into the keys of a list."""
    # The bits of a float sort as integers do once those below the sign of a negative are flipped;
    # adding 0 turns -0.0 into 0.0.
    bits = (distances + 0.0).view(torch.int32)
    bits = bits ^ ((bits >> 31) & 0x7FFFFFFF)
    return (bits.long() << 32).bitwise_or_(columns)


def key_distances(keys: Tensor) -> Tensor:
    """Read the float32 distances in keys; that of NO_ITEM is NaN."""
    bits = (keys >> 32).int()
    return (bits ^ ((bits >> 31) & 0x7FFFFFFF)).view(torch.float32)


def positive_ranks(distances: Tensor, positive: Tensor, junk: Tensor) -> Tensor:
    """Rank each positive among the items that are not junk.

    Args:
        distances: (C, G) float32, no NaN.
        positive: (C, G) bool.
        junk: (C, G) bool, nowhere true where ``positive`` is.

    Returns:
        (C, K) int64 ranks from 1, ascending; 0 beyond a query's last positive. K is at least 1.
    """
    keys = sort_keys(distances).masked_fill_(junk, NO_ITEM)
    counts = positive.sum(dim=1)
    width = max([1, *counts.tolist()])
    rows, columns = positive.nonzero(as_tuple=True)
    slots = torch.arange(len(rows), device=rows.device) - (counts.cumsum(0) - counts)[rows]
    ladder = keys.new_full((len(keys), width), NO_ITEM)
    ladder[rows, slots] = keys[rows, columns]
    ladder = ladder.sort(dim=1).values
    # An item's gap is the number of positives before it, so the rank of a positive is the number of
    # items in the gaps up to its own. Junk falls beyond the last positive and is never counted.
    gaps = torch.searchsorted(ladder, keys)
    gaps += torch.arange(len(keys), device=keys.device)[:, None] * (width + 1)
    items = gaps.flatten().bincount(minlength=len(keys) * (width + 1)).view(-1, width + 1)
    return items[:, :width].cumsum(dim=1).masked_fill_(ladder == NO_ITEM, 0)


def nearest_of_each_person(distances: Tensor, junk: Tensor, people: Tensor) -> Tensor:
    """Find the items that stay where a list keeps only the first item of each person.

    Args:
        distances: (C, G) float32, no NaN.
        junk: (C, G) bool.
        people: (G,) int64, the person of each item, numbered 0, 1, ...

    Returns:
        (C, G) bool, false for junk.
    """
    keys = sort_keys(distances).masked_fill_(junk, NO_ITEM)
    people = people.expand_as(keys)
    nearest = torch.full_like(keys, NO_ITEM).scatter_reduce_(1, people, keys, "amin")
    return (keys == nearest.gather(1, people)) & ~junk
