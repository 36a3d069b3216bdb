"""Rank galleries and score the lists: pure functions, tensors in, tensors out.

Legend: Q queries, G gallery items, D feature length, k items of a list.

By default the protocol is that of Market-1501, as in fastreid's ``evaluate_rank``: a gallery item
with the query's person *and* camera is junk and is dropped; a query without a positive is skipped.
``JUNK`` and ``CMC`` of ``plugins.protocol`` name other conventions. Equal distances keep the
gallery's order.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from plugins.errors import InputError
from plugins.evaluation.counting import MOST_QUERIES, NAN, Counter
from plugins.evaluation.distance import CHUNK, GRID_BITS, Grid, distance_blocks
from plugins.evaluation.ranks import (
    NO_ITEM,
    match_blocks,
    nearest_of_each_person,
    people_columns,
    positive_ranks,
    sort_keys,
)
from plugins.evaluation.side import Side
from plugins.utils.values import require_whole


class QueryRanks(NamedTuple):
    """What is known of each query when the gallery is ranked; attributes of RankingResult."""

    average_precision: Tensor
    first_rank: Tensor
    last_rank: Tensor
    positives: Tensor


@dataclass(frozen=True)
class RankingResult:
    """Scores of one direction, as fractions.

    Attributes:
        cmc: (max_rank,) float64, share of the valid queries with a positive in the first r items,
            or whose person is among the first r people.
        average_precision: (Q,) float64, mean over the positives of the precision at their rank; NaN
            where the query has no positive.
        inverse_negative_penalty: (Q,) float64, number of positives / rank of the last one (Ye et
            al., "Deep Learning for Person Re-identification: A Survey and Outlook"); NaN likewise.
        valid: (Q,) bool, the query has a positive.
        first_rank: (Q,) int64 from 1, where the CMC finds the query's person; 0 where not valid.
        last_rank: (Q,) int64, rank of the last positive among the items; 0 likewise.
        positives: (Q,) int64, number of positives.
    """

    cmc: Tensor
    average_precision: Tensor
    inverse_negative_penalty: Tensor
    valid: Tensor
    first_rank: Tensor
    last_rank: Tensor
    positives: Tensor

    @classmethod
    def of_queries(
        cls,
        average_precision: Tensor,
        first_rank: Tensor,
        last_rank: Tensor,
        positives: Tensor,
        max_rank: int,
    ) -> "RankingResult":
        """Compute the scores from what is known of each query; see the attributes.

        Raises:
            InputError: no query has a positive.
        """
        valid = first_rank > 0
        if not valid.any():
            raise InputError(
                f"none of the {len(valid)} queries has a gallery item of its person that is not "
                "junk"
            )
        hits_at = first_rank[valid].bincount(minlength=max_rank + 1)[1 : max_rank + 1]
        return cls(
            cmc=hits_at.cumsum(0).double() / valid.sum(),
            average_precision=average_precision,
            # 0 / 0 where there is no positive gives the NaN of an invalid query.
            inverse_negative_penalty=positives / last_rank.double(),
            valid=valid,
            first_rank=first_rank,
            last_rank=last_rank,
            positives=positives,
        )

    @property
    def num_valid(self) -> int:
        """Number of queries that count."""
        return int(self.valid.sum())

    @property
    def mean_average_precision(self) -> float:
        """Return the mean AP (mAP) over the valid queries."""
        return float(self.average_precision.nanmean())

    @property
    def mean_inverse_negative_penalty(self) -> float:
        """Return the mean INP (mINP) over the valid queries."""
        return float(self.inverse_negative_penalty.nanmean())


def evaluate_ranking(
    query: Side,
    gallery: Side,
    *,
    metric: str = "cosine",
    junk: str = "camera",
    cmc: str = "item",
    max_rank: int = 20,
    chunk: int = MOST_QUERIES,
) -> RankingResult:
    """Rank the gallery for each query and score the lists; never holds a Q x G matrix.

    Args:
        query: Q items.
        gallery: G items.
        metric: "cosine" or "euclidean".
        junk: name of a rule in ``plugins.protocol.JUNK``.
        cmc: "item" or "identity", see ``plugins.protocol.CMC``.
        max_rank: length of the CMC; with a shorter gallery its last value is repeated.
        chunk: queries at a time; changes memory and speed, no result.

    Raises:
        InputError: no query has a positive, or an argument is wrong, see ``check_search``.
    """
    require_whole(max_rank, "max_rank", 1)
    ranks = query_ranks(query, gallery, metric=metric, junk=junk, cmc=cmc, chunk=chunk)
    return RankingResult.of_queries(*ranks, max_rank=max_rank)


def query_ranks(
    query: Side,
    gallery: Side,
    *,
    metric: str = "cosine",
    junk: str = "camera",
    cmc: str = "item",
    chunk: int = MOST_QUERIES,
    grid: Grid | None = None,
) -> QueryRanks:
    """Rank the gallery for some queries of a search.

    Args:
        query: the queries.
        gallery: G items.
        metric: "cosine" or "euclidean".
        junk: name of a rule in ``plugins.protocol.JUNK``.
        cmc: "item" or "identity", see ``plugins.protocol.CMC``.
        chunk: queries at a time; changes memory and speed, no result.
        grid: that of the whole search, if these are not all its queries; None if they are.

    Raises:
        InputError: an argument is wrong, see ``check_search``, or a distance is NaN.
    """
    check_search(query, gallery, chunk)
    people = people_columns(gallery.pids, cmc)
    grid = grid or Grid(metric, query.features, gallery.features)
    if people is not None:
        chunk = min(chunk, CHUNK)
        largest = grid.step * 2.0**GRID_BITS / 2
        blocks = distance_blocks(query.features, gallery.features, metric, chunk, largest)
        return _rank_blocks(blocks, match_blocks(query, gallery, junk, chunk), people)
    found = [torch.empty(len(query), dtype=torch.float64, device=query.features.device)]
    found += [torch.empty(len(query), dtype=torch.int64, device=found[0].device) for _ in range(3)]
    counter = Counter(gallery, metric, junk, grid)
    for rows, ranks in counter.blocks(query, chunk):
        for column, values in zip(found, of_ranks(ranks), strict=True):
            column[rows] = values
    return QueryRanks(*found)


def evaluate_distances(
    distances: Tensor,
    query: Side,
    gallery: Side,
    *,
    junk: str = "camera",
    cmc: str = "item",
    max_rank: int = 20,
    chunk: int = CHUNK,
) -> RankingResult:
    """Score a given distance matrix, such as a re-ranked one.

    Args:
        distances: (Q, G), compared in float32.
        query: Q items, whose features are not read.
        gallery: G items, whose features are not read.
        junk: name of a rule in ``plugins.protocol.JUNK``.
        cmc: "item" or "identity", see ``plugins.protocol.CMC``.
        max_rank: length of the CMC; with a shorter gallery its last value is repeated.
        chunk: queries at a time; changes memory and speed, no result.

    Raises:
        InputError: no query has a positive, a distance is NaN, or ``max_rank`` is below 1.
    """
    require_whole(max_rank, "max_rank", 1)
    blocks = (block.float() for block in distances.split(chunk))
    matches = match_blocks(query, gallery, junk, chunk)
    ranks = _rank_blocks(blocks, matches, people_columns(gallery.pids, cmc))
    return RankingResult.of_queries(*ranks, max_rank=max_rank)


def ranked_lists(
    query: Side,
    gallery: Side,
    *,
    length: int,
    metric: str = "cosine",
    junk: str = "camera",
    chunk: int = CHUNK,
) -> tuple[Tensor, Tensor]:
    """List the nearest gallery items of each query, without junk.

    Args:
        query: Q items.
        gallery: G items.
        length: items of a list; k is the smaller of it and G.
        metric: "cosine" or "euclidean".
        junk: name of a rule in ``plugins.protocol.JUNK``.
        chunk: queries at a time; changes memory and speed, no result.

    Returns:
        (Q, k) int64 gallery indices, nearest first, -1 where a list has ended, and their (Q, k)
        float32 distances, infinite there.

    Raises:
        InputError: an argument is wrong, see ``check_search``, or a distance is NaN.
    """
    require_whole(length, "length", 1)
    check_search(query, gallery, chunk)
    blocks = distance_blocks(query.features, gallery.features, metric, chunk)
    matches = match_blocks(query, gallery, junk, chunk)
    indices, values = [], []
    for block, (_, unseen) in zip(blocks, matches, strict=True):
        _refuse_nan(block)
        keys = sort_keys(block).masked_fill_(unseen, NO_ITEM)
        keys = keys.topk(min(length, keys.shape[1]), dim=1, largest=False).values
        ended = keys == NO_ITEM
        columns = (keys & 0xFFFFFFFF).masked_fill_(ended, 0)
        values.append(block.gather(1, columns).masked_fill_(ended, torch.inf))
        indices.append(columns.masked_fill_(ended, -1))
    return torch.cat(indices), torch.cat(values)


def check_search(query: Side, gallery: Side, chunk: int) -> None:
    """Check the two sides of a search.

    Raises:
        InputError: features are no (N, D) real numbers or differ in D, labels are not as many as
            features, or ``chunk`` is below 1.
    """
    require_whole(chunk, "chunk", 1)
    for name, side in (("query", query), ("gallery", gallery)):
        for part in ("features", "pids", "camids"):
            value = getattr(side, part)
            if not isinstance(value, Tensor):
                kind = type(value).__name__
                raise InputError(f"{part} of the {name} are a {kind}; expected a torch.Tensor")
        shape = tuple(side.features.shape)
        if len(shape) != 2:
            raise InputError(f"features of the {name} are of shape {shape}; expected (N, D)")
        if side.features.is_complex():
            raise InputError(
                f"features of the {name} are of {side.features.dtype}; expected real numbers"
            )
        for part in ("pids", "camids"):
            if getattr(side, part).shape != shape[:1]:
                found = tuple(getattr(side, part).shape)
                raise InputError(
                    f"{part} of the {name} are of shape {found}; expected ({shape[0]},), one for "
                    "each feature"
                )
    lengths = query.features.shape[1], gallery.features.shape[1]
    if lengths[0] != lengths[1]:
        raise InputError(
            f"features of the query have length {lengths[0]}, those of the gallery {lengths[1]}; "
            "expected one length"
        )


def of_ranks(ranks: Tensor) -> QueryRanks:
    """Score queries by the ranks of their positives.

    Args:
        ranks: (C, K) int64 from 1, ascending; 0 beyond a query's last positive.
    """
    ranked = ranks > 0
    number = ranked.sum(dim=1)
    hits = ranked.cumsum(dim=1).double()  # positives up to this rank
    # A running sum, because the order of sum() depends on the width and so on the chunk. 0 / 0
    # where there is no positive gives the NaN of an invalid query.
    precision = (hits / ranks).where(ranked, 0).cumsum(dim=1)[:, -1] / number
    return QueryRanks(precision, ranks[:, 0], ranks.amax(dim=1), number)


def _refuse_nan(block: Tensor) -> None:
    """Raise InputError if one of the distances is NaN."""
    if block.isnan().any():
        raise InputError(NAN)


def _rank_blocks(
    blocks: Iterable[Tensor], matches: Iterable[tuple[Tensor, Tensor]], people: Tensor | None
) -> QueryRanks:
    """Rank by a distance matrix that comes in blocks of rows, with its masks.

    With ``people`` of the gallery, the CMC counts identities.
    """

    def parts() -> Iterator[QueryRanks]:
        for block, (positive, junk) in zip(blocks, matches, strict=True):
            _refuse_nan(block)
            found = of_ranks(positive_ranks(block, positive, junk))
            if people is not None:
                kept = nearest_of_each_person(block, junk, people)
                ranks = positive_ranks(block, positive & kept, ~kept)
                found = found._replace(first_rank=ranks[:, 0])
            yield found

    return QueryRanks(*(torch.cat(column) for column in zip(*parts(), strict=True)))
