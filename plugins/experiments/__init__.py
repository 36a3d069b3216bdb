"""Run ablations, rows of config overrides times seeds; record and compare their results.

``plan`` says what an ablation is, ``datasets`` what it trains and is tested on, and ``reading``
reads its file; ``runs``, ``stages``, ``processes`` and ``jobs`` run it; ``gather`` and ``results``
keep what was found. ``pairing`` sets runs side by side query by query, ``paired`` says how far a
difference can be trusted, ``differences`` does both for an ablation, ``comparison`` for any runs.
"""

from plugins.experiments.comparison import compare_runs, comparison_table
from plugins.experiments.differences import write_differences
from plugins.experiments.jobs import execute
from plugins.experiments.paired import Difference, holm, paired_difference
from plugins.experiments.pairing import DatasetResults, by_dataset, compare
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
from plugins.experiments.tables import differences_table

__all__ = [
    "Ablation",
    "DatasetResults",
    "Difference",
    "Row",
    "Run",
    "by_dataset",
    "compare",
    "compare_runs",
    "comparison_table",
    "difference",
    "differences_table",
    "execute",
    "holm",
    "paired_difference",
    "plan_runs",
    "read_ablation",
    "read_results",
    "record_result",
    "split_stale",
    "table",
    "write_differences",
    "write_table",
]
