"""Draw what a trained model does: ranked clips."""

from plugins.visualization.evaluated_set import EvaluatedSet, evaluate_set
from plugins.visualization.picture import Picture, require_picture, save_picture
from plugins.visualization.ranked import picture_of_ranked, rank_queries

__all__ = [
    "EvaluatedSet",
    "Picture",
    "evaluate_set",
    "picture_of_ranked",
    "rank_queries",
    "require_picture",
    "save_picture",
]
