"""The subjects of the benchmark by name, and the rows of some of them."""

import os
import platform
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path

import torch
from tabulate import tabulate
from tqdm import tqdm

from plugins.benchmarks.attack import attack
from plugins.benchmarks.comparison import Comparison, measure, runs
from plugins.benchmarks.evaluation import evaluation
from plugins.benchmarks.features import features
from plugins.benchmarks.loader import loader
from plugins.benchmarks.report import report
from plugins.benchmarks.search import ranking, reranking
from plugins.benchmarks.settings import Settings
from plugins.benchmarks.startup import startup
from plugins.benchmarks.step import step

SUBJECTS: dict[str, Callable[[Settings], list[Comparison]]] = {
    "ranking": ranking,
    "rerank": reranking,
    "loader": loader,
    "step": step,
    "attack": attack,
    "features": features,
    "evaluation": evaluation,
    "startup": startup,
    "report": report,
}
PACKAGES = ("torch", "numpy", "scipy", "faiss-cpu", "fastreid")


def benchmark(names: Sequence[str], settings: Settings) -> dict:
    """Measure subjects one after another, with a progress bar on stderr.

    Args:
        names: keys of ``SUBJECTS``.
        settings: size and surroundings.

    Returns:
        "machine", and "rows", each with the keys name, ours, theirs, ratio, target, met, unit, note
        and more.

    Raises:
        RunFailed: two ways gave different results, or a process failed.
    """
    comparisons = [each for name in names for each in SUBJECTS[name](settings)]
    rows = []
    with tqdm(total=sum(map(runs, comparisons)), unit="run") as bar:
        for each in comparisons:
            bar.set_description(each.name)
            rows += measure(each, bar.update)
    return {"machine": machine(), "rows": rows}


def machine() -> dict[str, str | int]:
    """Describe the machine and the versions that decide a figure."""
    found: dict[str, str | int] = {
        "processor": processor(),
        "cores": os.cpu_count() or 1,
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else "none",
        "python": platform.python_version(),
    }
    return found | {name: version(name) for name in PACKAGES}


def processor() -> str:
    """Name the processor."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def benchmark_table(results: dict) -> str:
    """Write the machine and the rows as a table."""
    about = ", ".join(f"{name} {value}" for name, value in results["machine"].items())
    rows = [
        [
            row["name"],
            f"{row['ours']:.4g}",
            f"{row['theirs']:.4g}",
            row["unit"],
            f"{row['ratio']:.2f}",
            f"{row['target']:g}",
            "yes" if row["met"] else "no",
            row["note"],
        ]
        for row in results["rows"]
    ]
    headers = ["work", "ours", "theirs", "unit", "ratio", "target", "met", "theirs is"]
    return f"{about}\n{tabulate(rows, headers, disable_numparse=True)}"
