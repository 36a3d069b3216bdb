"""Ranks and the scores made of them: pure functions, tensors in, tensors out.

Legend: Q queries, C queries of one chunk, G gallery items, D feature length, K most positives of a
query, k items of a list.

The protocol is that of Market-1501, as in fastreid's ``evaluate_rank``: a gallery item with the
query's person *and* camera is junk and is dropped; a query without a positive is skipped. Equal
distances keep the order of the gallery.

CMC, AP and INP need only the ranks of the positives. So no gallery is sorted and no Q x G matrix is
kept: chunk by chunk, each gallery item is counted in the gap between two positives where it falls.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from plugins.errors import InputError
from plugins.evaluation.distance import CHUNK, distance_blocks

# Sorts after every key of sort_keys: no item.
_NO_ITEM = torch.iinfo(torch.int64).max


@dataclass(frozen=True)
class RankingResult:
    """Scores of one direction, as fractions.

    Attributes:
        cmc: (max_rank,) float64, share of the valid queries with a positive in the first r items.
        average_precision: (Q,) float64, mean over the positives of the precision at their rank; NaN
            where the query has no positive.
        inverse_negative_penalty: (Q,) float64, number of positives / rank of the last one (Ye et
            al., "Deep Learning for Person Re-identification: A Survey and Outlook"); NaN likewise.
        valid: (Q,) bool, the query has a positive.
    """

    cmc: Tensor
    average_precision: Tensor
    inverse_negative_penalty: Tensor
    valid: Tensor

    @property
    def num_valid(self) -> int:
        """Number of queries that count."""
        return int(self.valid.sum())

    @property
    def mean_average_precision(self) -> float:
        """Mean AP (mAP) over the valid queries."""
        return float(self.average_precision.nanmean())

    @property
    def mean_inverse_negative_penalty(self) -> float:
        """Mean INP (mINP) over the valid queries."""
        return float(self.inverse_negative_penalty.nanmean())


def evaluate_ranking(
    query_features: Tensor,
    gallery_features: Tensor,
    query_pids: Tensor,
    gallery_pids: Tensor,
    query_camids: Tensor,
    gallery_camids: Tensor,
    *,
    metric: str = "cosine",
    max_rank: int = 20,
    chunk: int = CHUNK,
) -> RankingResult:
    """Rank the gallery for each query and score the lists; never holds a Q x G matrix.

    Args:
        query_features: (Q, D), finite.
        gallery_features: (G, D), finite.
        query_pids: (Q,) persons.
        gallery_pids: (G,) persons.
        query_camids: (Q,) cameras.
        gallery_camids: (G,) cameras.
        metric: "cosine" or "euclidean".
        max_rank: length of the CMC; with a shorter gallery its last value is repeated.
        chunk: queries at a time; changes memory and speed, no result.

    Raises:
        InputError: no query has a positive, or the metric is unknown.
    """
    blocks = distance_blocks(query_features, gallery_features, metric, chunk)
    matches = match_blocks(query_pids, gallery_pids, query_camids, gallery_camids, chunk)
    return _score(blocks, matches, max_rank)


def evaluate_distances(
    distances: Tensor,
    query_pids: Tensor,
    gallery_pids: Tensor,
    query_camids: Tensor,
    gallery_camids: Tensor,
    *,
    max_rank: int = 20,
    chunk: int = CHUNK,
) -> RankingResult:
    """Score a given distance matrix, such as a re-ranked one.

    Args:
        distances: (Q, G), compared in float32.
        query_pids: (Q,) persons.
        gallery_pids: (G,) persons.
        query_camids: (Q,) cameras.
        gallery_camids: (G,) cameras.
        max_rank: length of the CMC; with a shorter gallery its last value is repeated.
        chunk: queries at a time; changes memory and speed, no result.

    Raises:
        InputError: no query has a positive, or a distance is NaN.
    """
    blocks = (block.float() for block in distances.split(chunk))
    matches = match_blocks(query_pids, gallery_pids, query_camids, gallery_camids, chunk)
    return _score(blocks, matches, max_rank)


def ranked_lists(
    query_features: Tensor,
    gallery_features: Tensor,
    query_pids: Tensor,
    gallery_pids: Tensor,
    query_camids: Tensor,
    gallery_camids: Tensor,
    *,
    length: int,
    metric: str = "cosine",
    chunk: int = CHUNK,
) -> tuple[Tensor, Tensor]:
    """The nearest gallery items of each query, junk left out.

    Args:
        query_features: (Q, D), finite.
        gallery_features: (G, D), finite.
        query_pids: (Q,) persons.
        gallery_pids: (G,) persons.
        query_camids: (Q,) cameras.
        gallery_camids: (G,) cameras.
        length: items of a list; k is the smaller of it and G.
        metric: "cosine" or "euclidean".
        chunk: queries at a time; changes memory and speed, no result.

    Returns:
        (Q, k) int64 gallery indices, nearest first, -1 where a list has ended, and their (Q, k)
        float32 distances, infinite there.
    """
    blocks = distance_blocks(query_features, gallery_features, metric, chunk)
    matches = match_blocks(query_pids, gallery_pids, query_camids, gallery_camids, chunk)
    indices, values = [], []
    for block, (_, junk) in zip(blocks, matches, strict=True):
        keys = sort_keys(block).masked_fill_(junk, _NO_ITEM)
        keys = keys.topk(min(length, keys.shape[1]), dim=1, largest=False).values
        ended = keys == _NO_ITEM
        columns = (keys & 0xFFFFFFFF).masked_fill_(ended, 0)
        values.append(block.gather(1, columns).masked_fill_(ended, torch.inf))
        indices.append(columns.masked_fill_(ended, -1))
    return torch.cat(indices), torch.cat(values)


def match_blocks(
    query_pids: Tensor,
    gallery_pids: Tensor,
    query_camids: Tensor,
    gallery_camids: Tensor,
    chunk: int,
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield, for each chunk of queries, the (C, G) bool masks of the positives and of the junk."""
    for pids, camids in zip(query_pids.split(chunk), query_camids.split(chunk), strict=True):
        same_person = pids[:, None] == gallery_pids
        same_camera = camids[:, None] == gallery_camids
        yield same_person & ~same_camera, same_person & same_camera


def sort_keys(distances: Tensor) -> Tensor:
    """Integers that sort as (distance, gallery index) do, so that no two keys of a row are equal.

    Args:
        distances: (C, G) float32, no NaN.

    Returns:
        (C, G) int64: the distance in the upper half, its column in the lower.
    """
    # The bits of a float sort as integers do once those below the sign of a negative are flipped;
    # adding 0 turns -0.0 into 0.0.
    bits = (distances + 0.0).view(torch.int32)
    bits = bits ^ ((bits >> 31) & 0x7FFFFFFF)
    columns = torch.arange(distances.shape[1], device=distances.device)
    return (bits.long() << 32).bitwise_or_(columns)


def positive_ranks(distances: Tensor, positive: Tensor, junk: Tensor) -> Tensor:
    """Rank of each positive among the items that are not junk.

    Args:
        distances: (C, G) float32, no NaN.
        positive: (C, G) bool.
        junk: (C, G) bool, nowhere true where ``positive`` is.

    Returns:
        (C, K) int64 ranks from 1, ascending; 0 beyond a query's last positive. K is at least 1.
    """
    keys = sort_keys(distances).masked_fill_(junk, _NO_ITEM)
    counts = positive.sum(dim=1)
    width = max([1, *counts.tolist()])
    rows, columns = positive.nonzero(as_tuple=True)
    slots = torch.arange(len(rows), device=rows.device) - (counts.cumsum(0) - counts)[rows]
    ladder = keys.new_full((len(keys), width), _NO_ITEM)
    ladder[rows, slots] = keys[rows, columns]
    ladder = ladder.sort(dim=1).values
    # An item's gap is the number of positives before it, so the rank of a positive is the number of
    # items in the gaps up to its own. Junk falls beyond the last positive and is never counted.
    gaps = torch.searchsorted(ladder, keys)
    gaps += torch.arange(len(keys), device=keys.device)[:, None] * (width + 1)
    items = gaps.flatten().bincount(minlength=len(keys) * (width + 1)).view(-1, width + 1)
    return items[:, :width].cumsum(dim=1).masked_fill_(ladder == _NO_ITEM, 0)


def _score(
    blocks: Iterable[Tensor], matches: Iterable[tuple[Tensor, Tensor]], max_rank: int
) -> RankingResult:
    """Scores of a distance matrix that comes in blocks of rows, with its masks."""
    first_ranks, precisions, penalties = [], [], []
    for block, (positive, junk) in zip(blocks, matches, strict=True):
        if block.isnan().any():
            raise InputError("a distance is NaN; expected finite features")
        ranks = positive_ranks(block, positive, junk)
        found = ranks > 0
        number = found.sum(dim=1)
        hits = found.cumsum(dim=1).double()  # positives up to this one
        # A running sum, because the order of sum() depends on the width and so on the chunk. 0 / 0
        # where there is no positive gives the NaN of an invalid query.
        precisions.append((hits / ranks).where(found, 0).cumsum(dim=1)[:, -1] / number)
        penalties.append(number / ranks.amax(dim=1).double())
        first_ranks.append(ranks[:, 0])
    first_rank, average_precision = torch.cat(first_ranks), torch.cat(precisions)
    valid = first_rank > 0
    if not valid.any():
        raise InputError(
            f"none of the {len(valid)} queries has a gallery item of its person from another camera"
        )
    hits_at = first_rank[valid].bincount(minlength=max_rank + 1)[1 : max_rank + 1]
    return RankingResult(
        cmc=hits_at.cumsum(0).double() / valid.sum(),
        average_precision=average_precision,
        inverse_negative_penalty=torch.cat(penalties),
        valid=valid,
    )
