"""The card of a report: one JSON document that holds every number, and its Markdown."""

import importlib.metadata
import json
import platform
import subprocess
from dataclasses import asdict
from pathlib import Path

import torch
from tabulate import tabulate
from torch import Tensor

from plugins.robustness.checks import GROUPS, run_checks, stamp
from plugins.robustness.checks.masking import curve_budgets
from plugins.robustness.lab import MEASURE, Lab, rank_1
from plugins.robustness.outcomes import Scores, worst_case
from plugins.robustness.records import hash_weights
from plugins.robustness.statistics import area_under, bootstrap_interval, share_by
from plugins.utils.io import write_text

FORMAT = 1  # of the JSON document


def make_card(lab: Lab, level: str, dataset: str) -> dict:
    """Run everything and write it down.

    Args:
        lab: of the model and the search.
        level: its name.
        dataset: its name.

    Returns:
        Plain values only, as JSON has them; NaN nowhere.
    """
    code = describe_code()  # now, as a checkout may change in the hours of the attacks
    outcomes = lab.attacks()
    _, wins = worst_case({"clean": lab.clean, **outcomes})
    checks = [
        {"group": check.group, "name": check.name, "question": check.question, **asdict(verdict)}
        for check, verdict in run_checks(lab)
    ]
    attacks = {
        name: {
            **summary(lab, one),
            "recipe": asdict(lab.attack(name).recipe),
            "unique wins": wins[name],
            "moved": float(one.moved.double().mean()),
            "without a gradient": int(one.stuck.sum()),
            "forwards": one.forwards,
            "backwards": one.backwards,
            "seconds": round(one.seconds, 1),
        }
        for name, one in outcomes.items()
    }
    bills = lab.all_outcomes()
    return {
        "format": FORMAT,
        "stamp": stamp(check["state"] for check in checks),
        "level": {"name": level, **asdict(lab.level)},
        "model": describe_model(lab),
        "code": code,
        "data": describe_data(lab, dataset),
        "threat": asdict(lab.threat),
        "seed": lab.cfg.ATTACK.SEED,
        "clean": summary(lab, lab.clean),
        "attacks": attacks,
        "worst": summary(lab, lab.worst()),
        "curve": curve(lab),
        "people": breakdown(lab, lab.guides.pids.cpu()),
        "cameras": breakdown(lab, lab.camids),
        "checks": checks,
        "bill": {
            "forwards": sum(one.forwards for one in bills),
            "backwards": sum(one.backwards for one in bills),
            "seconds": round(sum(one.seconds for one in bills), 1),
        },
    }


def summary(lab: Lab, scores: Scores) -> dict:
    """Rank-1 and mAP in percent, with 95 % intervals over people and over queries."""
    pids = lab.guides.pids.cpu()
    values = {"Rank-1": scores.hit.double(), "mAP": scores.ap}
    clusters = {"over people": pids, "over queries": torch.arange(len(pids))}
    return {
        metric: {
            "value": 100 * float(value.mean()),
            **{name: interval(value, of, lab.cfg.ATTACK.SEED) for name, of in clusters.items()},
        }
        for metric, value in values.items()
    }


def interval(values: Tensor, clusters: Tensor, seed: int) -> list[float]:
    """The bootstrap interval in percent."""
    return [100 * bound for bound in bootstrap_interval(values, clusters, seed)]


def curve(lab: Lab) -> dict:
    """Rank-1 of the measure by budget, on the probes, from eps 0 on.

    The area is the mean of Rank-1 over budgets from 0 to the threat's, in percent.
    """
    budgets = curve_budgets(lab)
    probes = torch.isin(lab.rows, lab.probes).cpu()
    clean = 100 * float(lab.clean.hit[probes].double().mean())
    points = [(0.0, clean), *((eps, rank_1(lab.probe(MEASURE, eps=eps))) for eps in budgets)]
    within = [point for point in points if point[0] <= lab.threat.eps]
    return {
        "attack": MEASURE,
        "queries": int(probes.sum()),
        "points": [{"eps": eps, "Rank-1": value} for eps, value in points],
        "area": area_under(within),
    }


def breakdown(lab: Lab, groups: Tensor) -> list[dict]:
    """Clean and worst-case Rank-1 in percent of each person or camera (Q,), worst first."""
    clean = share_by(groups, lab.clean.hit)
    worst = share_by(groups, lab.worst().hit)
    rows = [
        {"id": group, "queries": number, "clean": 100 * clean[group][0], "worst": 100 * share}
        for group, (share, number) in worst.items()
    ]
    return sorted(rows, key=lambda row: row["worst"])


def describe_model(lab: Lab) -> dict:
    """Which network it was."""
    weights = lab.cfg.MODEL.WEIGHTS
    parameters = list(lab.adapter.model.parameters())
    return {
        "architecture": lab.cfg.MODEL.META_ARCHITECTURE,
        "weights": weights,
        "sha256": hash_weights(lab.adapter.model),
        "parameters": sum(parameter.numel() for parameter in parameters),
        "dtype": str(parameters[0].dtype).removeprefix("torch."),
        "device": str(parameters[0].device),
    }


def describe_code() -> dict:
    """Versions, and the commit if this is a checkout."""
    root = Path(__file__).resolve().parents[2]
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


def describe_data(lab: Lab, dataset: str) -> dict:
    """Who was searched where, by which rule, and from where the attack knew it."""
    search = lab.search
    return {
        "dataset": dataset,
        "direction": search.name,
        "queries": len(lab.rows),
        "queries of the set": len(search.query_rows),
        "people": len(lab.guides.pids.unique()),
        "gallery": len(search.gallery_rows),
        "metric": search.metric,
        "junk": search.junk,
        "guides": lab.guides.source,
        "attacked side": search.side,
    }


def write_card(card: dict, stem: Path) -> list[Path]:
    """Write ``stem``.json and ``stem``.md; their paths."""
    texts = {".json": json.dumps(card, indent=1, allow_nan=False) + "\n", ".md": markdown(card)}
    paths = []
    for suffix, text in texts.items():
        paths.append(stem.with_name(stem.name + suffix))
        write_text(paths[-1], text)
    return paths


def markdown(card: dict) -> str:
    """The card as a page of Markdown, from the JSON alone."""
    curve = card["curve"]
    points = [(f"{point['eps']:g}", f"{point['Rank-1']:.1f}") for point in curve["points"]]
    lines = [
        f"# {title(card)}",
        f"**{card['stamp']}**",
        subtitle(card),
        "## Figures",
        "Percent, with 95 % bootstrap intervals over people.",
        table(figure_rows(card), FIGURE_COLUMNS),
        "## Checks",
        table(check_rows(card), CHECK_COLUMNS),
        "## Rank-1 by budget",
        f"{curve['attack']} on {curve['queries']} queries; mean up to the threat's budget "
        f"{curve['area']:.1f} %.",
        table(points, ("eps", "Rank-1")),
        "## What was measured",
        table(fact_rows(card), ("setting", "value")),
    ]
    return "\n\n".join(lines) + "\n"


def title(card: dict) -> str:
    """What was attacked."""
    data = card["data"]
    return f"Robustness of {card['model']['architecture']}: {data['dataset']} {data['direction']}"


def subtitle(card: dict) -> str:
    """The threat in one line."""
    data, threat = card["data"], card["threat"]
    return (
        f"{data['queries']} queries of {data['people']} people attacked within {threat['norm']} "
        f"eps {threat['eps']:g} grey levels of 255, guides from the {data['guides']}; level "
        f"{card['level']['name']}, {card['bill']['seconds']:g} s of attacks."
    )


FIGURE_COLUMNS = ("attack", "Rank-1", "mAP", "unique wins", "moved", "steps", "backward passes")
CHECK_COLUMNS = ("group", "verdict", "question", "figure", "what it is")


def figure_rows(card: dict) -> list[tuple[str, ...]]:
    """Clean, each attack, worst case."""
    rows = [("clean", *percents(card["clean"]), "", "", "", "")]
    for name, one in card["attacks"].items():
        recipe = one["recipe"]
        steps = f"{recipe['restarts']} x {recipe['steps']} {recipe['optimizer']}"
        numbers = (str(one["unique wins"]), f"{one['moved']:.2f}", steps, str(one["backwards"]))
        rows.append((name, *percents(one), *numbers))
    return [*rows, ("worst case", *percents(card["worst"]), "", "", "", "")]


def percents(block: dict) -> tuple[str, str]:
    """Rank-1 and mAP with their intervals over people."""
    texts = []
    for metric in ("Rank-1", "mAP"):
        low, high = block[metric]["over people"]
        texts.append(f"{block[metric]['value']:.1f} [{low:.1f}, {high:.1f}]")
    return tuple(texts)


def check_rows(card: dict) -> list[tuple[str, ...]]:
    """Group, verdict, question, figure, sentence."""
    return [
        (
            f"{check['group']} {GROUPS[check['group']]}",
            check["state"],
            check["question"],
            "" if check["figure"] is None else f"{check['figure']:.3g} {check['unit']}",
            check["sentence"],
        )
        for check in card["checks"]
    ]


def fact_rows(card: dict) -> list[tuple[str, str]]:
    """Every setting, flat."""
    sections = ("model", "code", "data", "threat", "level", "bill")
    rows = [(f"{part} {key}", str(value)) for part in sections for key, value in card[part].items()]
    return [*rows, ("seed", str(card["seed"]))]


def table(rows: list[tuple[str, ...]], columns: tuple[str, ...]) -> str:
    """A pipe table of strings."""
    return tabulate(rows, columns, tablefmt="pipe", disable_numparse=True)
