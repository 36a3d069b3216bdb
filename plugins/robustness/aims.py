"""How often an attack that aims at an item brought it where it wanted it.

Legend: R attacked rows, X items of the attacked side, G items of the other side, D feature length.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from plugins.attacks import Attack
from plugins.attacks.dataset_level import CandidateAttack
from plugins.attacks.objectives import success_at_k
from plugins.evaluation import distances
from plugins.evaluation.distance import CHUNK
from plugins.robustness.searches import Search


def aimed_success(
    attack: Attack, search: Search, rows: Tensor, features: Tensor, ranks: Sequence[int]
) -> dict[str, float]:
    """Share of the rows, in percent, whose aim the attack reached.

    QA+, CA+ and targeted attacks want their item among the first k, QA- and CA- want it behind
    them. QA and targeted ones look at the attacked row's own list, CA at its place in the list of
    the query that was drawn for it, in which everything else is clean.

    Args:
        attack: of any kind.
        search: whose attacked side the rows are.
        rows: (R,).
        features: (R, D) of the attacked images.
        ranks: each k.

    Returns:
        "success@k" for each k, over the rows that had something to aim at; nothing for an attack
        that aims at no item, or where no row had.
    """
    parts = []
    for some, attacked in zip(rows.split(CHUNK), features.split(CHUNK), strict=True):
        guides = attack.set_target(search.guides(some), some)
        if guides.chosen is None:
            return {}
        if isinstance(attack, CandidateAttack):
            lists = _lists_of_queries(search, some, attacked, guides.chosen)
        else:
            gaps = distances(attacked.to(guides.gallery), guides.gallery, guides.metric)
            lists = gaps, guides.chosen, ~guides.valid
        parts.append(torch.stack([success_at_k(*lists, k, promote=attack.promote) for k in ranks]))
    reached = torch.cat(parts, dim=1)
    reached = reached[:, ~reached[0].isnan()]
    if not reached.numel():
        return {}
    return {
        f"success@{k}": 100 * float(share) for k, share in zip(ranks, reached.mean(1), strict=True)
    }


def _lists_of_queries(
    search: Search, rows: Tensor, features: Tensor, chosen: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Distances, chosen items and junk (R, X) in the list of each row's chosen query."""
    items = search.side_rows
    guides = search.guides(items)
    found, query = chosen.any(dim=1), chosen.int().argmax(dim=1)
    gaps = distances(guides.gallery[query], guides.clean, guides.metric)
    own = items == rows.to(items.device)[:, None]
    moved = distances(features.to(guides.gallery), guides.gallery, guides.metric)
    gaps = torch.where(own, moved.gather(1, query[:, None]), gaps)
    return gaps, own & found[:, None], ~guides.valid.T[query]
