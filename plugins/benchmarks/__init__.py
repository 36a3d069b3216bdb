"""Speed and memory of this package, beside other ways to do the same work."""

from plugins.benchmarks.settings import Settings
from plugins.benchmarks.subjects import SUBJECTS, benchmark, benchmark_table

__all__ = ["SUBJECTS", "Settings", "benchmark", "benchmark_table"]
