"""What attacks on a search came to, and the worst of several of them.

Legend: A attacked rows of query + gallery, ascending; S scored queries; D feature length. When the
queries are attacked, they are the scored ones: S = A in the same order. When the gallery is
attacked, all queries that have a positive are scored.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields

import torch
from torch import Tensor


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


def worst_case(outcomes: Mapping[str, Scores]) -> tuple[dict[str, float | int], dict[str, int]]:
    """The per-query worst of several attacks on the same queries.

    Args:
        outcomes: attack -> its scores; give it the clean ones too, as an attacker may do nothing.

    Returns:
        The worst case's row of the table: "Rank-1", where a query counts if it is right under every
        attack; "mAP", of the lowest AP of each query; their mean "metric"; "queries". Percent.
        And attack -> unique wins, the valid queries whose Rank-1 only this attack breaks.
    """
    scores = list(outcomes.values())
    valid = scores[0].valid
    assert all(torch.equal(one.valid, valid) for one in scores), "not the same queries"
    hits = torch.stack([one.hit[valid] for one in scores])
    lowest = torch.stack([one.ap[valid] for one in scores]).amin(dim=0)
    block = {
        "Rank-1": 100 * float(hits.all(dim=0).double().mean()),
        "mAP": 100 * float(lowest.mean()),
    }
    block["metric"] = (block["mAP"] + block["Rank-1"]) / 2
    block["queries"] = int(valid.sum())
    alone = (~hits).sum(dim=0) == 1
    wins = (~hits & alone).sum(dim=1).tolist()
    return block, dict(zip(outcomes, wins, strict=True))
