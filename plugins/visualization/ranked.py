"""Rank galleries for chosen queries, with the junk in its place.

Legend: Q queries, G gallery items, k items of a list.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from plugins.errors import InputError
from plugins.evaluation import RankingResult, Side, distances, evaluate_ranking
from plugins.evaluation.distance import norm_of_all
from plugins.evaluation.ranks import sort_keys
from plugins.protocol import Direction, junk_rule
from plugins.utils.pictures import choose_queries
from plugins.utils.random import item_generator
from plugins.visualization.evaluated_set import EvaluatedSet

PICKS = {
    "spread": "at even steps of the order by average precision (AP), from the worst to the best",
    "best": "those of the highest average precision (AP)",
    "worst": "those of the lowest average precision (AP)",
    "random": "drawn at random",
}
MOST_JUNK = 2  # items of junk that a list shows

RIGHT, WRONG, JUNK = "right", "wrong", "junk"


class Entry(NamedTuple):
    """One item of a list.

    Attributes:
        column: the item's index in the gallery.
        distance: from the query.
        kind: "right", "wrong" or "junk".
        rank: from 1, junk left out; 0 for junk.
    """

    column: int
    distance: float
    kind: str
    rank: int


class RankedQuery(NamedTuple):
    """A query and its list.

    Attributes:
        row: row of the query in the set.
        average_precision: fraction; NaN where the gallery holds no match.
        first_rank: rank of the first match, from 1; 0 likewise.
        rows: rows in the set of the items of the list.
        entries: the list, nearest first.
        left_out: items of junk nearer than the last item that the list does not show.
    """

    row: int
    average_precision: float
    first_rank: int
    rows: list[int]
    entries: list[Entry]
    left_out: int


def list_with_junk(
    query: Side, gallery: Side, top: int, metric: str, junk: str
) -> list[list[Entry]]:
    """List the nearest items of each query until ``top`` of them count, with the junk between.

    Args:
        query: Q items.
        gallery: G items.
        top: items of a list that are no junk.
        metric: "cosine" or "euclidean".
        junk: name of a rule in ``plugins.protocol.JUNK``.

    Returns:
        A list for each query, nearest first; equal distances keep the gallery's order.
    """
    norm = norm_of_all(query.features, gallery.features)
    near = distances(query.features, gallery.features, metric, norm)
    same = query.pids[:, None] == gallery.pids
    unseen = junk_rule(junk)(same, query.camids[:, None], gallery.camids)
    lists = []
    for row, order in enumerate(sort_keys(near).argsort(dim=1).tolist()):
        entries: list[Entry] = []
        rank = 0
        for column in order:
            is_junk = bool(unseen[row, column])
            rank += not is_junk
            if rank > top:
                break
            kind = JUNK if is_junk else RIGHT if same[row, column] else WRONG
            entries.append(Entry(column, float(near[row, column]), kind, 0 if is_junk else rank))
        while entries and entries[-1].kind == JUNK and rank >= top:
            entries.pop()  # beyond the last that counts
        lists.append(entries)
    return lists


def show_less_junk(entries: Sequence[Entry]) -> tuple[list[Entry], int]:
    """Keep the first ``MOST_JUNK`` items of junk of a list; return also how many are left out."""
    junk = [entry for entry in entries if entry.kind == JUNK]
    gone = {entry.column for entry in junk[MOST_JUNK:]}
    return [entry for entry in entries if entry.column not in gone], len(gone)


def pick_queries(precisions: Tensor, pick: str, count: int, seed: int = 0) -> list[int]:
    """Choose queries by how well they are answered, or at random.

    Args:
        precisions: (Q,) average precisions, NaN for queries without a match, which are not chosen.
        pick: a name in ``PICKS``.
        count: number of queries; all that have a match where these are fewer.
        seed: of the random choice.

    Returns:
        Indices: for "best" and "worst" the extreme one first; else in ascending order of AP
        ("spread") or of the queries ("random").
    """
    if pick == "spread":
        return choose_queries(precisions, count)
    valid = (~precisions.isnan()).nonzero().flatten()
    if pick == "random":
        drawn = torch.randperm(len(valid), generator=item_generator(seed))[:count]
        return sorted(valid[drawn].tolist())
    order = precisions[valid].argsort(descending=pick == "best", stable=True)
    return valid[order[:count]].tolist()


def chosen_queries(
    data: EvaluatedSet,
    direction: Direction,
    scores: RankingResult,
    picks: Sequence[str],
    count: int,
    seed: int,
) -> list[int]:
    """Choose queries of a direction: one word of ``PICKS``, or names of items.

    Raises:
        InputError: a name is that of no item, or of one that is no query of this direction.
    """
    if len(picks) == 1 and picks[0] in PICKS:
        return pick_queries(scores.average_precision, picks[0], count, seed)
    rows = direction.trials[0].query.tolist()
    chosen = []
    for name in picks:
        if name in PICKS:
            raise InputError(f"--pick {name}: expected it alone, or names of queries")
        if (row := data.row_of(name)) not in rows:
            raise InputError(f"{name}: an item of the gallery; expected a query of the direction")
        chosen.append(rows.index(row))
    return chosen


def rank_queries(
    data: EvaluatedSet,
    name: str = "",
    *,
    picks: Sequence[str] = ("spread",),
    count: int = 5,
    top: int = 6,
    seed: int = 0,
) -> list[RankedQuery]:
    """Rank the gallery of a direction's first trial for chosen queries.

    Args:
        data: the evaluated set.
        name: of the direction; empty for the first.
        picks: one word of ``PICKS``, or names of queries.
        count: number of queries for a word.
        top: items of a list that are no junk.
        seed: of a random choice.

    Raises:
        InputError: no such direction, or from the names.
    """
    direction = data.direction(name)
    query_rows, gallery_rows = direction.trials[0]
    query, gallery = data.side(query_rows), data.side(gallery_rows)
    scores = evaluate_ranking(
        query, gallery, metric=data.metric, junk=direction.junk, cmc=direction.cmc
    )
    chosen = chosen_queries(data, direction, scores, picks, count, seed)
    lists = list_with_junk(
        query.select(np.array(chosen)), gallery, top, data.metric, direction.junk
    )
    found = []
    for index, entries in zip(chosen, lists, strict=True):
        shown, left_out = show_less_junk(entries)
        found.append(
            RankedQuery(
                int(query_rows[index]),
                float(scores.average_precision[index]),
                int(scores.first_rank[index]),
                [int(gallery_rows[entry.column]) for entry in shown],
                shown,
                left_out,
            )
        )
    return found
