"""What attacks on a search came to, and the worst of several of them.

Legend: A attacked rows of query + gallery, ascending; S scored queries; D feature length. When the
queries are attacked, they are the scored ones: S = A in the same order. When the gallery is
attacked, all queries that have a positive are scored.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from plugins.evaluation import RankingResult


@dataclass(frozen=True, eq=False)
class Scores:
    """What each query finds, by the ranking of ``plugins.evaluation``.

    Attributes:
        valid: (S,) bool, the query has a positive; only these count.
        hit: (S,) bool, Rank-1 is right.
        ap: (S,) float64, average precision; NaN where not valid.
    """

    valid: Tensor
    hit: Tensor
    ap: Tensor


@dataclass(frozen=True, eq=False)
class Attacked:
    """What one attack did to some rows.

    Attributes:
        rows: (A,) int64.
        objective: (A,) as the attack ended.
        start: (A,) the objective where it began.
        margin: (A,) likewise, see ``objectives.rank_margin``; above 0 where Rank-1 fails.
        moved: (A,) how much of the budget was used: L-inf, mean |delta| over all pixels / eps; L2,
            norm / eps. 0 for an eps of 0.
        reached: (A,) largest |delta|, or for L2 the norm; 0-255 units.
        stuck: (A,) bool, the gradient at the start was 0 everywhere.
        features: (A, D) of the attacked images.
        forwards: forward passes of a row, over all rows.
        backwards: backward passes, likewise.
        seconds: that the attack took, summed over the processes.
    """

    rows: Tensor
    objective: Tensor
    start: Tensor
    margin: Tensor
    moved: Tensor
    reached: Tensor
    stuck: Tensor
    features: Tensor
    forwards: int
    backwards: int
    seconds: float


@dataclass(frozen=True, eq=False)
class Outcomes(Scores, Attacked):
    """One attack on one search: what it did to the rows, and what the queries find then."""


def join(parts: Sequence[Attacked]) -> Attacked:
    """The rows of several batches as one; counts and seconds are added."""
    columns = {
        field.name: [getattr(part, field.name) for part in parts] for field in fields(Attacked)
    }
    return Attacked(
        **{
            name: torch.cat(values) if torch.is_tensor(values[0]) else sum(values)
            for name, values in columns.items()
        }
    )


def worst_scores(outcomes: Mapping[str, Scores]) -> Scores:
    """The per-query worst of several attacks on the same queries: right under all, lowest AP.

    Args:
        outcomes: attack -> its scores; give it the clean ones too, as an attacker may do nothing.
    """
    scores = list(outcomes.values())
    valid = scores[0].valid
    assert all(torch.equal(one.valid, valid) for one in scores), "not the same queries"
    return Scores(
        valid=valid,
        hit=torch.stack([one.hit for one in scores]).all(dim=0),
        ap=torch.stack([one.ap for one in scores]).amin(dim=0),
    )


def worst_case(outcomes: Mapping[str, Scores]) -> tuple[dict[str, float | int], dict[str, int]]:
    """:func:`worst_scores` as a row of the table, and whom we owe it to.

    Returns:
        "Rank-1", "mAP", their mean "metric" and "queries", percent; and attack -> unique wins, the
        valid queries whose Rank-1 only this attack breaks.
    """
    worst = worst_scores(outcomes)
    hits = torch.stack([one.hit[worst.valid] for one in outcomes.values()])
    block = {
        "Rank-1": 100 * float(worst.hit[worst.valid].double().mean()),
        "mAP": 100 * float(worst.ap[worst.valid].mean()),
    }
    block["metric"] = (block["mAP"] + block["Rank-1"]) / 2
    block["queries"] = int(worst.valid.sum())
    alone = (~hits).sum(dim=0) == 1
    wins = (~hits & alone).sum(dim=1).tolist()
    return block, dict(zip(outcomes, wins, strict=True))


def worst_ranking(rankings: Sequence[RankingResult]) -> RankingResult:
    """The per-query worst of several rankings of the same queries, as :func:`worst_scores` has it.

    Args:
        rankings: under each attack, and the clean one.
    """
    first = rankings[0]
    assert all(torch.equal(one.positives, first.positives) for one in rankings), "other queries"
    return RankingResult.of_queries(
        average_precision=torch.stack([one.average_precision for one in rankings]).amin(dim=0),
        first_rank=torch.stack([one.first_rank for one in rankings]).amax(dim=0),
        last_rank=torch.stack([one.last_rank for one in rankings]).amax(dim=0),
        positives=first.positives,
        max_rank=len(first.cmc),
    )


def person_deviation(scores: Scores, people: Tensor) -> float:
    """Standard deviation over people of a person's mAP, in points; 0 of one person.

    Args:
        scores: of S queries.
        people: (S,) persons.
    """
    people, ap = people[scores.valid], scores.ap[scores.valid]
    own = torch.stack([ap[people == person].mean() for person in people.unique()])
    return 100 * float(own.std(correction=0))
