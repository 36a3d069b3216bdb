"""Robustness: how a model searches when images are attacked."""

from plugins.robustness.batches import RowBatches
from plugins.robustness.export import AttackedSet
from plugins.robustness.outcomes import Attacked, Outcomes, Scores, worst_case
from plugins.robustness.records import Record, fingerprint
from plugins.robustness.robust_evaluator import RobustEvaluator
from plugins.robustness.searches import Search, attack_search

__all__ = [
    "Attacked",
    "AttackedSet",
    "Outcomes",
    "Record",
    "RobustEvaluator",
    "RowBatches",
    "Scores",
    "Search",
    "attack_search",
    "fingerprint",
    "worst_case",
]
