"""Ablations: rows of config overrides times seeds, run, recorded and set side by side."""

from plugins.engine.ablation.jobs import execute
from plugins.engine.ablation.plan import Ablation, Row, difference
from plugins.engine.ablation.reading import read_ablation
from plugins.engine.ablation.results import (
    read_results,
    record_result,
    split_stale,
    table,
    write_table,
)
from plugins.engine.ablation.runs import Run, plan_runs

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
