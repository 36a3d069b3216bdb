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
# Names of the clean rows.
CLEAN = {"": "clean, all queries", "rerank": "clean, all queries, re-ranked"}
# Metrics of the first and the second table; the second holds targeted attacks only.
METRICS = ("Rank-1", "mAP"), ("success@1", "success@10")


def compare(columns: Mapping[str, CfgNode], folder: Path) -> Path:
    """Evaluate MODEL.WEIGHTS of each config under its TEST.ATTACKS; return the table's file.

    Document and table are written after each column; the results of the attacks are kept in
    OUTPUT_DIR, so that an interrupted comparison resumes.

    Args:
        columns: name -> config, each with an OUTPUT_DIR of its own.
        folder: folder of document and table, which is made.
    """
    with hold(folder, "--out", "comparison"):
        results: dict[str, dict] = {}
        for name, cfg in columns.items():
            blocks = Trainer.test(cfg, load_model(cfg, cfg.MODEL.WEIGHTS))
            if len(cfg.DATASETS.TESTS) == 1:
                blocks = {cfg.DATASETS.TESTS[0]: blocks}
            results[name] = by_task(blocks)
            write_json(folder / DOCUMENT, results)
            write_text(folder / TABLE, comparison_tables(results))
    return folder / TABLE


def comparison_tables(results: Mapping[str, Mapping[str, Mapping]]) -> str:
    """Tabulate each direction, a row for each attack: scores, and success rates of targeted ones.

    Args:
        results: column -> row, such as "DATASET/DIRECTION+ATTACK" -> block of metrics.
    """
    columns = {
        name: {direction_and_attack(row): block for row, block in blocks.items()}
        for name, blocks in results.items()
    }
    directions: dict[str, dict[str, None]] = {}
    for direction, attack in (pair for blocks in columns.values() for pair in blocks):
        directions.setdefault(direction, {})[attack] = None
    parts = []
    for direction, attacks in directions.items():
        for metrics in METRICS:
            lines = [
                [CLEAN.get(attack, attack)]
                + [cell(blocks.get((direction, attack)), metrics) for blocks in columns.values()]
                for attack in attacks
            ]
            lines = [line for line in lines if set(line[1:]) != {"-"}]
            if lines:
                head = [direction, *results]
                table = tabulate(lines, head, tablefmt="pipe", disable_numparse=True)
                parts.append(f"{' / '.join(metrics)}, percent.\n\n{table}\n")
    return "\n".join(parts)


def direction_and_attack(row: str) -> tuple[str, str]:
    """Split the name of a row; "" is clean. Views and side are the same in a whole column.

    >>> direction_and_attack("Market1501/Q2G+flip+gallery+FNA")
    ('Market1501/Q2G', 'FNA')
    >>> direction_and_attack("Market1501/Q2G+flip+clips=3")
    ('Market1501/Q2G', '')
    """
    direction, *words = row.split("+")
    last = words[-1] if words else ""
    return direction, "" if last == "flip" or last.startswith("clips=") else last


def cell(block: Mapping | None, metrics: tuple[str, ...]) -> str:
    """Format ``50.0 / 40.0``; a dash if there is no block or it lacks a metric."""
    if block is None or any(metric not in block for metric in metrics):
        return "-"
    return " / ".join(f"{block[metric]:.1f}" for metric in metrics)
