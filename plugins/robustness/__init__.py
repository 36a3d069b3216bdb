"""Robustness: how well a model retrieves when images are attacked."""

from plugins.robustness.attack_rows import attack_rows
from plugins.robustness.batches import RowBatches
from plugins.robustness.evaluator import RobustEvaluator
from plugins.robustness.export import AttackedSet
from plugins.robustness.fingerprint import fingerprint
from plugins.robustness.results import AttackStats, Record, RowStats, Scores, worst_case
from plugins.robustness.task import RetrievalTask

__all__ = [
    "AttackStats",
    "AttackedSet",
    "Record",
    "RetrievalTask",
    "RobustEvaluator",
    "RowBatches",
    "RowStats",
    "Scores",
    "attack_rows",
    "fingerprint",
    "worst_case",
]
