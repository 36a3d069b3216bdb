"""Success rate of targeted ranking attacks.

Legend: R attacked rows, X items of the attacked side, G items of the other side, D feature length.
"""

from collections.abc import Sequence
from typing import Protocol, cast

import torch
from torch import Tensor

from plugins.attacks import Attack
from plugins.attacks.dataset_level import CandidateAttack
from plugins.attacks.objectives import success_at_k
from plugins.evaluation import distances
from plugins.evaluation.distance import CHUNK
from plugins.robustness.task import RetrievalTask


class MovesItem(Protocol):
    """The part of a targeted attack that tells success from failure."""

    promote: bool


def targeted_success_rate(
    attack: Attack, task: RetrievalTask, rows: Tensor, features: Tensor, ranks: Sequence[int]
) -> dict[str, float]:
    """Compute the share of the rows, in percent, for which the attack reached its target.

    QA+, CA+ and targeted attacks move their item into the first k, QA- and CA- move it behind them.
    For QA and targeted attacks the attacked row's own list counts; for CA the rank of the attacked
    row in the list of the query that was drawn for it, in which everything else is clean.

    Args:
        attack: an attack of any kind.
        task: the task whose attacked side holds the rows.
        rows: (R,).
        features: (R, D) of the attacked images.
        ranks: each k.

    Returns:
        "success@k" for each k, over the rows that had a target; nothing for an attack without
        target items, or where no row had a target.
    """
    parts = []
    for chunk, attacked in zip(rows.split(CHUNK), features.split(CHUNK), strict=True):
        guides = attack.set_target(task.guides(chunk), chunk)
        if guides.chosen is None:
            return {}
        if isinstance(attack, CandidateAttack):
            lists = _lists_of_queries(task, chunk, attacked, guides.chosen)
        else:
            gaps = distances(attacked.to(guides.gallery), guides.gallery, guides.metric)
            lists = gaps, guides.chosen, ~guides.valid
        promote = cast(MovesItem, attack).promote
        parts.append(torch.stack([success_at_k(*lists, k, promote=promote) for k in ranks]))
    successes = torch.cat(parts, dim=1)
    successes = successes[:, ~successes[0].isnan()]
    if not successes.numel():
        return {}
    shares = successes.mean(1).tolist()
    return {f"success@{k}": 100 * share for k, share in zip(ranks, shares, strict=True)}


def _lists_of_queries(
    task: RetrievalTask, rows: Tensor, features: Tensor, chosen: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Compute distances, chosen items and junk (R, X) in the list of each row's chosen query."""
    items = task.side_rows
    guides = task.guides(items)
    has_query, query = chosen.any(dim=1), chosen.int().argmax(dim=1)
    gaps = distances(guides.gallery[query], guides.clean, guides.metric)
    is_row = items == rows.to(items.device)[:, None]
    attacked = distances(features.to(guides.gallery), guides.gallery, guides.metric)
    gaps = torch.where(is_row, attacked.gather(1, query[:, None]), gaps)
    return gaps, is_row & has_query[:, None], ~guides.valid.T[query]
