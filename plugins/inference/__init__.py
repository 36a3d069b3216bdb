"""Use a trained model: features, search, thresholds."""

from plugins.inference.embedder import Embedder
from plugins.inference.features import Features
from plugins.inference.gallery import Gallery, compare
from plugins.inference.items import Labels
from plugins.inference.lists import RankedLists
from plugins.inference.recall import measure_recall
from plugins.inference.store import FeatureStore, score_stores
from plugins.inference.threshold import find_threshold

__all__ = [
    "Embedder",
    "FeatureStore",
    "Features",
    "Gallery",
    "Labels",
    "RankedLists",
    "compare",
    "find_threshold",
    "measure_recall",
    "score_stores",
]
