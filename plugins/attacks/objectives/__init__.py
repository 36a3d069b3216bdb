"""Objectives to maximize: ``objective(features (R, D), guides) -> (R,)``, one value per row."""

from plugins.attacks.objectives.guided import (
    farthest_negative,
    local_transform,
    metric_guides,
    nearest_push_pull,
    odfa,
    self_metric,
    targeted,
)
from plugins.attacks.objectives.ranking import (
    candidate_attack,
    query_attack,
    rank_margin,
    soft_ap,
    success_at_k,
)

__all__ = [
    "candidate_attack",
    "farthest_negative",
    "local_transform",
    "metric_guides",
    "nearest_push_pull",
    "odfa",
    "query_attack",
    "rank_margin",
    "self_metric",
    "soft_ap",
    "success_at_k",
    "targeted",
]
