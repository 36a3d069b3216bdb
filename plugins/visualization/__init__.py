"""Draw what a trained model finds, sees and confuses."""

from plugins.visualization.cameras import CameraTable, camera_table, picture_of_cameras
from plugins.visualization.embedding import embed, picture_of_tsne
from plugins.visualization.evaluated_set import EvaluatedSet, evaluate_set
from plugins.visualization.gradcam import grad_cam, picture_of_gradcam
from plugins.visualization.histograms import PairCounts, count_pairs, picture_of_distances
from plugins.visualization.kinds import KINDS, Options
from plugins.visualization.page import make_page
from plugins.visualization.perturbations import picture_of_attack, self_attack_delta
from plugins.visualization.picture import Picture, require_picture, save_picture
from plugins.visualization.ranked import rank_queries
from plugins.visualization.ranked_picture import picture_of_ranked
from plugins.visualization.weights import ClipWeights, clip_weights, picture_of_weights

__all__ = [
    "KINDS",
    "CameraTable",
    "ClipWeights",
    "EvaluatedSet",
    "Options",
    "PairCounts",
    "Picture",
    "camera_table",
    "clip_weights",
    "count_pairs",
    "embed",
    "evaluate_set",
    "grad_cam",
    "make_page",
    "picture_of_attack",
    "picture_of_cameras",
    "picture_of_distances",
    "picture_of_gradcam",
    "picture_of_ranked",
    "picture_of_tsne",
    "picture_of_weights",
    "rank_queries",
    "require_picture",
    "save_picture",
    "self_attack_delta",
]
