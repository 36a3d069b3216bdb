"""Results of attacks on a task: statistics, scores, the worst case of several attacks, records.

Legend: A attacked rows of query + gallery, ascending; S scored queries; D feature length. When the
queries are attacked, they are the scored ones: S = A in the same order. When the gallery is
attacked, all queries that have a positive are scored.
"""

import logging
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor

from plugins.errors import InputError
from plugins.evaluation import RankingResult
from plugins.utils.io import read_tensors, write_json, write_tensors

logger = logging.getLogger(__name__)

SCHEMA = "fastreid-plugins/attack-record"
# Changes with what an attack does or a record holds, so that older records are not read.
VERSION = 3


@dataclass(frozen=True, eq=False)
class Scores:
    """Scores of each query, by the ranking of ``plugins.evaluation``.

    Attributes:
        valid: (S,) bool, the query has a positive; only these count.
        hit: (S,) bool, Rank-1 is right.
        ap: (S,) float64, average precision; NaN where not valid.
    """

    valid: Tensor
    hit: Tensor
    ap: Tensor


@dataclass(frozen=True, eq=False)
class RowStats:
    """Statistics of one attack on some rows.

    Attributes:
        rows: (A,) int64.
        objective: (A,) objective of the attacked images.
        start: (A,) objective where the attack began.
        margin: (A,) margin of the attacked images, see ``objectives.rank_margin``; above 0 where
            Rank-1 fails.
        mean_perturbation: (A,) used share of the budget: for L-inf, mean |delta| over all pixels /
            eps; for L2, norm / eps. 0 for an eps of 0.
        max_perturbation: (A,) largest |delta|, or for L2 the norm; in gray levels, 0 to 255.
        zero_gradient: (A,) bool, the gradient at the start was 0 everywhere.
        features: (A, D) of the attacked images.
        forwards: forward passes of a row, over all rows.
        backwards: backward passes, likewise.
        seconds: duration of the attack, summed over the processes.
    """

    rows: Tensor
    objective: Tensor
    start: Tensor
    margin: Tensor
    mean_perturbation: Tensor
    max_perturbation: Tensor
    zero_gradient: Tensor
    features: Tensor
    forwards: int
    backwards: int
    seconds: float


@dataclass(frozen=True, eq=False)
class AttackStats(Scores, RowStats):
    """Statistics of one attack on all rows of a task, with the scores of the queries under it."""

    def numbers(self) -> dict[str, float | int]:
        """Summarize the attack: means over its rows, counts, seconds."""
        return {
            "rows": len(self.rows),
            "mean_perturbation": float(self.mean_perturbation.mean()),
            "max_perturbation": float(self.max_perturbation.max()),
            "zero_gradients": int(self.zero_gradient.sum()),
            "forwards": self.forwards,
            "backwards": self.backwards,
            "seconds": self.seconds,
        }

    def select(self, rows: Tensor) -> "AttackStats":
        """Return the statistics of some of the attacked queries; counts and seconds stay."""
        kept = torch.isin(self.rows, rows.to(self.rows.device))
        columns: dict[str, Any] = {
            name: value[kept] if torch.is_tensor(value) else value
            for name, value in vars(self).items()
        }
        return AttackStats(**columns)


def join(parts: Sequence[RowStats]) -> RowStats:
    """Join the rows of several batches; counts and seconds are added."""
    columns: dict[str, Any] = {}
    for field in fields(RowStats):
        values = [getattr(part, field.name) for part in parts]
        columns[field.name] = torch.cat(values) if torch.is_tensor(values[0]) else sum(values)
    return RowStats(**columns)


def rank_1(scores: Scores) -> float:
    """Compute Rank-1 in percent, over the queries that have a positive."""
    return 100 * float(scores.hit[scores.valid].double().mean())


def worst_scores(scores: Mapping[str, Scores]) -> Scores:
    """Compute the per-query worst of several attacks: right under all of them, lowest AP.

    Args:
        scores: attack -> scores of the same queries. Include the clean scores, as an attacker may
            do nothing.
    """
    several = list(scores.values())
    valid = several[0].valid
    assert all(torch.equal(each.valid, valid) for each in several), "not the same queries"
    return Scores(
        valid=valid,
        hit=torch.stack([each.hit for each in several]).all(dim=0),
        ap=torch.stack([each.ap for each in several]).amin(dim=0),
    )


def worst_case(scores: Mapping[str, Scores]) -> tuple[dict[str, float | int], dict[str, int]]:
    """Summarize :func:`worst_scores`, and count how many queries only one attack breaks.

    Returns:
        "Rank-1", "mAP", their mean "metric" and "queries", percent; and attack -> unique wins, the
        valid queries whose Rank-1 only this attack breaks.
    """
    worst = worst_scores(scores)
    hits = torch.stack([each.hit[worst.valid] for each in scores.values()])
    block: dict[str, float | int] = {
        "Rank-1": rank_1(worst),
        "mAP": 100 * float(worst.ap[worst.valid].mean()),
    }
    block["metric"] = (block["mAP"] + block["Rank-1"]) / 2
    block["queries"] = int(worst.valid.sum())
    alone = (~hits).sum(dim=0) == 1
    wins = (~hits & alone).sum(dim=1).tolist()
    return block, dict(zip(scores, wins, strict=True))


def worst_ranking(rankings: Sequence[RankingResult]) -> RankingResult:
    """Compute the per-query worst of several rankings of the same queries.

    Args:
        rankings: the ranking under each attack, and the clean one.
    """
    first = rankings[0]
    assert all(torch.equal(each.positives, first.positives) for each in rankings), "other queries"
    return RankingResult.of_queries(
        average_precision=torch.stack([each.average_precision for each in rankings]).amin(dim=0),
        first_rank=torch.stack([each.first_rank for each in rankings]).amax(dim=0),
        last_rank=torch.stack([each.last_rank for each in rankings]).amax(dim=0),
        positives=first.positives,
        max_rank=len(first.cmc),
    )


def person_deviation(scores: Scores, people: Tensor) -> float:
    """Compute the standard deviation over people of each person's mAP, in points.

    Args:
        scores: scores of S queries.
        people: (S,) persons.

    Returns:
        The deviation; 0 for one person.
    """
    people, ap = people[scores.valid], scores.ap[scores.valid]
    means = torch.stack([ap[people == person].mean() for person in people.unique()])
    return 100 * float(means.std(correction=0))


Stats = TypeVar("Stats", bound=RowStats)


class Record:
    """The files of one attack on one task; those made with another key count as missing.

    ``NAME.json`` is for people, ``NAME.pt`` holds the AttackStats as {"schema", "version", "key",
    "stats"}, and ``NAME.parts/`` the finished batches of an attack that has not ended.

    Attributes:
        path: path of ``NAME.pt``.
        key: names all that the result depends on.
    """

    def __init__(self, folder: Path, name: str, key: str) -> None:
        """Keep the files ``name`` in ``folder``."""
        self.key = key
        self._header = {"schema": SCHEMA, "version": VERSION, "key": key}
        self._summary, self.path = folder / f"{name}.json", folder / f"{name}.pt"
        self._parts = folder / f"{name}.parts"

    def read(self) -> AttackStats | None:
        """Read the statistics, if the attack has ended."""
        return self._load(self.path, AttackStats)

    def keep(self, stats: AttackStats, summary: dict) -> None:
        """Write the statistics and a summary of plain values; delete the finished batches."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        write_json(self._summary, {**self._header, **summary})
        self._save(self.path, stats)
        self.forget_parts()

    def forget_parts(self) -> None:
        """Delete the finished batches of an attack that has not ended."""
        shutil.rmtree(self._parts, ignore_errors=True)

    def read_part(self, number: int) -> RowStats | None:
        """Read the batch of that number, if it was finished."""
        return self._load(self._part(number), RowStats)

    def keep_part(self, number: int, part: RowStats) -> None:
        """Write a finished batch."""
        self._save(self._part(number), part)

    def _part(self, number: int) -> Path:
        return self._parts / f"{number:06d}.pt"

    def _save(self, path: Path, stats: RowStats) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_tensors(path, {**self._header, "stats": vars(stats)})

    def _load(self, path: Path, kind: type[Stats]) -> Stats | None:
        if not path.is_file():
            return None
        try:
            saved: Any = read_tensors(path, "attack record")
            if saved.get("version", 0) < VERSION and "key" in saved:
                logger.info("%s: record of an earlier version; the attack is made anew", path)
                return None
            return kind(**saved["stats"]) if saved["key"] == self._header["key"] else None
        except InputError as error:
            raise InputError(f"{error}; delete it to attack anew") from error
        except (AttributeError, KeyError, TypeError) as error:
            raise InputError(
                f"{path}: corrupt attack record ({type(error).__name__}); delete it to attack anew"
            ) from error
