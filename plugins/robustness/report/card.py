"""The card of a report: one JSON document that holds every number.

Version 3 of the schema has these entries; percentages are numbers from 0 to 100.

    schema, version     name and version of this schema
    status, headline, counts
                        what the numbers are worth, see ``status.judge``
    established         whether no check failed
    level, model, code, data, threat, seed, cost
                        settings and facts, plain values
    clean, worst        "Rank-1" and "mAP", each with value, interval_over_people and
                        interval_over_queries, see ``interval_of_mean``
    chance              Rank-1 of a random list; null in cards of earlier versions
    attacks             attack -> the same, and recipe, unique_wins, mean_perturbation (eps),
                        zero_gradients (queries), forwards, backwards, seconds
    curve               attack, queries, points (eps, Rank-1), area
    people, cameras     id, queries, clean and worst Rank-1 of each, worst first
    checks              id, group, question, state, explanation, value, unit of each
"""

import importlib.metadata
import json
import platform
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from plugins.errors import InputError
from plugins.robustness.checks import FAIL, all_checks, run_checks
from plugins.robustness.checks.masking import curve_budgets
from plugins.robustness.fingerprint import hash_weights
from plugins.robustness.levels import REFERENCE_ATTACK
from plugins.robustness.report.entries import (
    FORMAT_1,
    STATUS_FROM,
    require_card,
    require_entries,
)
from plugins.robustness.report.markdown import markdown
from plugins.robustness.report.status import VERBS, judge
from plugins.robustness.report.upgrade import from_format_1
from plugins.robustness.results import AttackStats, Scores, rank_1, worst_case
from plugins.robustness.runner import AttackRunner
from plugins.robustness.statistics import (
    area_under,
    chance_of_rank_1,
    interval_of_mean,
    share_by,
)
from plugins.utils.io import read_mapping, write_text
from plugins.utils.values import json_value

SCHEMA, VERSION = "fastreid-plugins/robustness-card", 3


def make_card(runner: AttackRunner, level: str, dataset: str) -> dict:
    """Run all attacks and checks of a report, and collect their results.

    Args:
        runner: the attacks on a model and a task.
        level: name of the level.
        dataset: name of the data set.

    Returns:
        Plain values only, as JSON has them, without NaN.
    """
    code = describe_code()  # now, as a checkout may change in the hours of the attacks
    with overall_bar(runner, dataset) as bar:
        for name in runner.level_attacks:
            runner.run_on_all(name)
            bar.update()
        checks = []
        for check, verdict in run_checks(runner):
            about = {"id": check.id, "group": check.group, "question": check.question}
            checks.append({**about, **asdict(verdict)})
            bar.update()
    stats = runner.run_level()
    _, wins = worst_case({"clean": runner.clean_scores, **stats})
    costs = runner.all_stats()
    worst = summarize(runner, runner.worst_scores())
    chance = 100 * chance_of_rank_1(runner.guides.positives, runner.guides.valid)
    return {
        "schema": SCHEMA,
        "version": VERSION,
        **describe_status(checks, worst, chance),
        "level": {"name": level, **asdict(runner.level)},
        "model": describe_model(runner),
        "code": code,
        "data": describe_data(runner, dataset),
        "threat": asdict(runner.threat),
        "seed": runner.cfg.ATTACK.SEED,
        "clean": summarize(runner, runner.clean_scores),
        "attacks": {
            name: describe_attack(runner, name, each, wins[name]) for name, each in stats.items()
        },
        "worst": worst,
        "chance": chance,
        "curve": make_curve(runner),
        "people": break_down(runner, runner.guides.pids.cpu(), runner.person_name),
        "cameras": break_down(runner, runner.camids, runner.camera_name),
        "checks": checks,
        "cost": {
            "forwards": sum(each.forwards for each in costs),
            "backwards": sum(each.backwards for each in costs),
            "seconds": round(sum(each.seconds for each in costs), 1),
        },
    }


@contextmanager
def overall_bar(runner: AttackRunner, dataset: str) -> Iterator[tqdm]:
    """Show how many of the attacks and checks of a report are done, and the time they may take.

    Log lines are written above the bar; the bars of single attacks come and go below it.
    """
    total = len(runner.level_attacks) + len(all_checks())
    title = f"{dataset} {runner.task.name}: attacks and checks"
    with logging_redirect_tqdm(), tqdm(total=total, desc=title, unit="step") as bar:
        yield bar


def describe_status(checks: list[dict], worst: Mapping, chance: float | None) -> dict:
    """Return the entries "status", "headline", "counts" and "established" of a card."""
    status = judge(checks, worst["Rank-1"], chance)
    return {
        "status": status.name,
        "headline": status.headline,
        "counts": status.counts,
        "established": not status.counts[VERBS[FAIL]],
    }


def summarize(runner: AttackRunner, scores: Scores) -> dict:
    """Compute Rank-1 and mAP in percent, with 95 % intervals over people and over queries."""
    pids, seed = runner.guides.pids.cpu(), runner.cfg.ATTACK.SEED
    values = {"Rank-1": scores.hit.double(), "mAP": scores.ap}
    return {
        metric: {
            "value": 100 * float(value.mean()),
            "interval_over_people": interval(value, pids, seed),
            "interval_over_queries": interval(value, torch.arange(len(pids)), seed),
        }
        for metric, value in values.items()
    }


def interval(values: Tensor, clusters: Tensor, seed: int) -> list[float]:
    """Compute the interval in percent."""
    return [100 * bound for bound in interval_of_mean(values, clusters, seed)]


def describe_attack(runner: AttackRunner, name: str, stats: AttackStats, wins: int) -> dict:
    """Describe the result of one attack on all queries."""
    return {
        **summarize(runner, stats),
        "recipe": asdict(runner.make_attack(name).recipe),
        "unique_wins": wins,
        "mean_perturbation": float(stats.mean_perturbation.double().mean()),
        "zero_gradients": int(stats.zero_gradient.sum()),
        "forwards": stats.forwards,
        "backwards": stats.backwards,
        "seconds": round(stats.seconds, 1),
    }


def make_curve(runner: AttackRunner) -> dict:
    """Compute Rank-1 under the reference attack by budget, on the subset, from eps 0 on.

    The area is the mean of Rank-1 over budgets from 0 to the threat model's, in percent.
    """
    subset = torch.isin(runner.rows, runner.subset).cpu()
    points = [(0.0, 100 * float(runner.clean_scores.hit[subset].double().mean()))]
    for eps in curve_budgets(runner):
        points.append((eps, rank_1(runner.break_subset(REFERENCE_ATTACK, eps=eps))))
    return {
        "attack": REFERENCE_ATTACK,
        "queries": int(subset.sum()),
        "points": [{"eps": eps, "Rank-1": value} for eps, value in points],
        "area": area_under([point for point in points if point[0] <= runner.threat.eps]),
    }


def break_down(runner: AttackRunner, groups: Tensor, name_of: Callable[[int], str]) -> list[dict]:
    """Compute clean and worst-case Rank-1 in percent of each person or camera (Q,), worst first.

    Each has its "id", the number that tensors have, and its "name" in the data set.
    """
    clean = share_by(groups, runner.clean_scores.hit)
    worst = share_by(groups, runner.worst_scores().hit)
    rows = [
        {
            "id": group,
            "name": name_of(group),
            "queries": number,
            "clean": 100 * clean[group][0],
            "worst": 100 * share,
        }
        for group, (share, number) in worst.items()
    ]
    return sorted(rows, key=lambda row: row["worst"])


def describe_model(runner: AttackRunner) -> dict:
    """Describe the network and its weights."""
    parameters = list(runner.adapter.model.parameters())
    return {
        "architecture": runner.cfg.MODEL.META_ARCHITECTURE,
        "weights": runner.cfg.MODEL.WEIGHTS,
        "sha256": hash_weights(runner.adapter.model),
        "parameters": sum(parameter.numel() for parameter in parameters),
        "dtype": str(parameters[0].dtype).removeprefix("torch."),
        "device": str(parameters[0].device),
    }


def describe_code() -> dict:
    """Name the versions, and the commit if this is a checkout."""
    root = Path(__file__).resolve().parents[3]
    command = ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=40"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        commit = done.stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        commit = None
    try:
        version = importlib.metadata.version("fastreid-plugins")
    except importlib.metadata.PackageNotFoundError:  # an uninstalled checkout
        version = None
    return {
        "plugins": version,
        "commit": commit,
        "torch": torch.__version__,
        "python": platform.python_version(),
    }


def describe_data(runner: AttackRunner, dataset: str) -> dict:
    """Describe queries, gallery and rules, and the source of the attack's guides."""
    task = runner.task
    return {
        "dataset": dataset,
        "direction": task.name,
        "queries": len(runner.rows),
        "queries_of_set": len(task.query_rows),
        "people": len(runner.guides.pids.unique()),
        "gallery": len(task.gallery_rows),
        "metric": task.metric,
        "junk": task.junk,
        "cmc": task.cmc,
        "guides": runner.guides.source,
        "attacked_side": task.side,
    }


def write_card(card: Mapping, stem: Path) -> list[Path]:
    """Write ``stem``.json and ``stem``.md; return their paths."""
    texts = {".json": json.dumps(card, indent=1, allow_nan=False) + "\n", ".md": markdown(card)}
    paths = []
    for suffix, text in texts.items():
        paths.append(stem.with_name(stem.name + suffix))
        write_text(paths[-1], text)
    return paths


def read_card(path: Path) -> dict:
    """Read the JSON of a card; a card of an earlier version is upgraded.

    Raises:
        InputError: the file cannot be read, is no card, lacks an entry, or is of a later version.
    """
    card = read_mapping(path, "the JSON card of a report")
    try:
        return _as_today(card, str(path))
    except RecursionError:  # JSON is read more deeply than it is upgraded
        raise InputError(f"{path}: nested too deeply; expected the JSON card of a report") from None


def _as_today(card: dict, source: str) -> dict:
    """Return a card with the entries of today's version; raise InputError if it lacks one."""
    if card.get("format") == 1:
        require_entries(card, FORMAT_1, source)
        card = {"schema": SCHEMA, "version": 2, **from_format_1(card)}
    if card.get("schema") != SCHEMA:
        raise InputError(f"{source}: no card of a report; expected schema {SCHEMA}")
    version = card.get("version")
    if version == 2:
        require_entries(card, STATUS_FROM, source)
        card |= {"version": VERSION, "chance": None}
        card |= describe_status(card["checks"], card["worst"], None)
    elif version != VERSION:
        raise InputError(f"{source}: card of version {json_value(version)}; expected {VERSION}")
    require_card(card, source)
    return card
