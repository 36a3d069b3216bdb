"""Ablations: rows of config overrides times seeds, run, recorded and set side by side."""

from plugins.experiments.jobs import execute
from plugins.experiments.plan import Ablation, Row, difference
from plugins.experiments.reading import read_ablation
from plugins.experiments.results import (
    read_results,
    record_result,
    split_stale,
    table,
    write_table,
)
from plugins.experiments.runs import Run, plan_runs

__all__ = [
    "Ablation",
    "Row",
    "Run",
    "difference",
    "execute",
    "plan_runs",
    "read_ablation",
    "read_results",
    "record_result",
    "split_stale",
    "table",
    "write_table",
]
