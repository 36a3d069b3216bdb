"""Distances, ranking, the evaluator of visible-infrared sets and its table."""

from plugins.evaluation.distance import distances
from plugins.evaluation.queries import (
    Evaluation,
    QueryResults,
    pack_queries,
    read_queries,
    write_queries,
)
from plugins.evaluation.ranking import (
    RankingResult,
    evaluate_distances,
    evaluate_ranking,
    ranked_lists,
)
from plugins.evaluation.side import Side
from plugins.evaluation.table import (
    check_expected,
    check_expected_rows,
    results_table,
    verify_expected,
)
from plugins.evaluation.views import FlipAverage
from plugins.evaluation.vvi_evaluator import VVIEvaluator

__all__ = [
    "Evaluation",
    "FlipAverage",
    "QueryResults",
    "RankingResult",
    "Side",
    "VVIEvaluator",
    "check_expected",
    "check_expected_rows",
    "distances",
    "evaluate_distances",
    "evaluate_ranking",
    "pack_queries",
    "ranked_lists",
    "read_queries",
    "results_table",
    "verify_expected",
    "write_queries",
]
