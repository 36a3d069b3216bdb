"""Draw what a trained model finds, sees and confuses."""

from plugins.visualization.cameras import CameraTable, camera_table, picture_of_cameras
from plugins.visualization.embedding import embed, picture_of_tsne
from plugins.visualization.evaluated_set import EvaluatedSet, evaluate_set
from plugins.visualization.histograms import PairCounts, count_pairs, picture_of_distances
from plugins.visualization.picture import Picture, require_picture, save_picture
from plugins.visualization.ranked import picture_of_ranked, rank_queries

__all__ = [
    "CameraTable",
    "EvaluatedSet",
    "PairCounts",
    "Picture",
    "camera_table",
    "count_pairs",
    "embed",
    "evaluate_set",
    "picture_of_cameras",
    "picture_of_distances",
    "picture_of_ranked",
    "picture_of_tsne",
    "rank_queries",
    "require_picture",
    "save_picture",
]
