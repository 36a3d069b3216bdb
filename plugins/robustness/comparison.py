"""The same attacks under several threat models, side by side."""

from collections.abc import Mapping
from pathlib import Path

from fastreid.config import CfgNode
from tabulate import tabulate

from plugins.engine.trainer import Trainer, load_model
from plugins.evaluation.table import by_task
from plugins.utils.io import write_json, write_text
from plugins.utils.locks import hold

DOCUMENT, TABLE = "comparison.json", "comparison.md"
# What stands side by side in a table; the second is of attacks that aim at an item.
CLEAN = {"": "clean, all queries", "rerank": "clean, all queries, re-ranked"}
FIGURES = ("Rank-1", "mAP"), ("success@1", "success@10")


def compare(columns: Mapping[str, CfgNode], folder: Path) -> Path:
    """Evaluate MODEL.WEIGHTS of each config under its TEST.ATTACKS; gives the table's file.

    Document and table are written after each column; what attacks found is kept in OUTPUT_DIR, so
    that a comparison that was stopped goes on.

    Args:
        columns: name -> config, each with an OUTPUT_DIR of its own.
        folder: of document and table; is made.
    """
    with hold(folder, "--out", "comparison"):
        return _compare(columns, folder)


def _compare(columns: Mapping[str, CfgNode], folder: Path) -> Path:
    found: dict[str, dict] = {}
    for name, cfg in columns.items():
        results = Trainer.test(cfg, load_model(cfg, cfg.MODEL.WEIGHTS))
        if len(cfg.DATASETS.TESTS) == 1:
            results = {cfg.DATASETS.TESTS[0]: results}
        found[name] = by_task(results)
        write_json(folder / DOCUMENT, found)
        write_text(folder / TABLE, comparison_tables(found))
    return folder / TABLE


def comparison_tables(found: Mapping[str, Mapping[str, Mapping]]) -> str:
    """Tables of each search, a row for each attack: its scores, and whether it reached its aim.

    Args:
        found: column -> task, such as "DATASET/DIRECTION+ATTACK" -> block of metrics.
    """
    columns = {
        name: {search_and_attack(task): block for task, block in blocks.items()}
        for name, blocks in found.items()
    }
    searches: dict[str, dict[str, None]] = {}
    for search, attack in (task for blocks in columns.values() for task in blocks):
        searches.setdefault(search, {})[attack] = None
    parts = []
    for search, attacks in searches.items():
        for metrics in FIGURES:
            rows = [
                [CLEAN.get(attack, attack)]
                + [cell(blocks.get((search, attack)), metrics) for blocks in columns.values()]
                for attack in attacks
            ]
            rows = [row for row in rows if set(row[1:]) != {"-"}]
            if rows:
                table = tabulate(rows, [search, *found], tablefmt="pipe", disable_numparse=True)
                parts.append(f"{' / '.join(metrics)}, percent.\n\n{table}\n")
    return "\n".join(parts)


def search_and_attack(task: str) -> tuple[str, str]:
    """Search and attack of a task; "" is clean. Views and side are the same in a whole column.

    >>> search_and_attack("Market1501/Q2G+flip+gallery+FNA")
    ('Market1501/Q2G', 'FNA')
    >>> search_and_attack("Market1501/Q2G+flip+clips=3")
    ('Market1501/Q2G', '')
    """
    search, *words = task.split("+")
    last = words[-1] if words else ""
    return search, "" if last == "flip" or last.startswith("clips=") else last


def cell(block: Mapping | None, metrics: tuple[str, ...]) -> str:
    """``50.0 / 40.0``; a dash if there is no block or it lacks a metric."""
    if block is None or any(metric not in block for metric in metrics):
        return "-"
    return " / ".join(f"{block[metric]:.1f}" for metric in metrics)
