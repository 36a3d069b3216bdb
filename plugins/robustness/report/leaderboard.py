"""Several cards side by side, as one page of HTML: a leaderboard that is a static file.

Only cards that can be compared stand in one table: those of the same data, protocol and threat
model, see ``comparable``.
"""

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any, NamedTuple

from matplotlib.figure import Figure

from plugins.errors import InputError
from plugins.robustness.report.comparable import group_titles
from plugins.robustness.report.entries import require_card
from plugins.robustness.report.html import STYLE, figure, meanings, table
from plugins.robustness.report.markdown import percent
from plugins.robustness.report.pictures import FAINT, WIDTH, bare, budget_axis, png_of
from plugins.robustness.report.status import COLORS
from plugins.utils.io import read_mapping

SCHEMA, VERSION = "fastreid-plugins/leaderboard", 1
COLUMNS = {
    "model": "name of the card, or the one that was given to it",
    "verdict": "what the numbers are worth: upper bound (the worst case is an upper bound of the "
    "robust accuracy), provisional, not established, not robust",
    "worst Rank-1": "Rank-1 in percent under the worst of all attacks of each query, with the 95 % "
    "interval over people; the order of the rows where the verdict is the same",
    "worst mAP": "likewise",
    "clean Rank-1": "without an attack",
    "clean mAP": "likewise",
    "area": "mean Rank-1 over all budgets up to that of the threat model",
    "attacks": "level of the report and number of attacks; stronger attacks find lower worst cases",
    "queries": "attacked queries and their people",
    "checks": "passed, warned, skipped, failed",
}
EXPECTED = "the page and its numbers, *.json, are written; expected another name"
WIDER = "body { max-width: 72rem; }"
ORDER = list(reversed(COLORS))  # upper bound first
# Distinct also in gray and for color-blind readers, with the markers beside them.
LINES = ("#2f6db5", "#c2571a", "#2a8a57", "#8a4fb0", "#8a6d00", "#5f6c7b")
MARKERS = "osD^vP"


class Entry(NamedTuple):
    """A card and its name in the leaderboard."""

    name: str
    card: Mapping[str, Any]


def group_entries(entries: Sequence[Entry]) -> dict[str, list[Entry]]:
    """Group cards that can be compared; within a group the best come first.

    Returns:
        Title of the group -> its entries, first by status, then by worst-case Rank-1 and mAP.

    Raises:
        InputError: two cards of a group have one name, there is no card, or one lacks an entry or
            holds a number that is not finite.
    """
    if not entries:
        raise InputError("no card; expected one or more")
    for entry in entries:
        require_card(entry.card, entry.name)
    groups: dict[str, list[Entry]] = {}
    titles = group_titles([entry.card for entry in entries])
    for title, entry in zip(titles, entries, strict=True):
        group = groups.setdefault(title, [])
        if entry.name in [other.name for other in group]:
            raise InputError(f"{entry.name}: two cards of this name; name them: NAME=card.json")
        group.append(entry)
    return {title: sorted(group, key=_rank) for title, group in groups.items()}


def _rank(entry: Entry) -> tuple:
    worst = entry.card["worst"]
    return (
        ORDER.index(entry.card["status"]),
        -worst["Rank-1"]["value"],
        -worst["mAP"]["value"],
        entry.name,
    )


def require_own_files(page: Path, cards: Sequence[Path]) -> None:
    """Raise InputError if page or JSON of a leaderboard would replace a card or another document.

    Args:
        page: file of the page; the JSON lies beside it.
        cards: files of the cards.
    """
    numbers = page.with_suffix(".json")
    for file in (page, numbers):
        for card in cards:
            if file.exists() and card.exists() and file.samefile(card):
                raise InputError(f"--out {page}: would replace the card {card}; {EXPECTED}")
    if numbers.exists() and not _is_leaderboard(numbers):
        raise InputError(f"--out {page}: would replace {numbers}, no leaderboard; {EXPECTED}")


def _is_leaderboard(path: Path) -> bool:
    try:
        return read_mapping(path, "a leaderboard").get("schema") == SCHEMA
    except InputError:
        return False


def leaderboard_page(entries: Sequence[Entry]) -> str:
    """Write the page.

    Raises:
        InputError: see ``group_entries``.
    """
    groups = group_entries(entries)
    parts = [
        '<!DOCTYPE html><html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>Robustness of {len(entries)} models</title>",
        f"<style>{STYLE}{WIDER}</style></head><body>",
        "<h1>Robust accuracy under attack</h1>",
        "<p>A worst case is an upper bound: a stronger attack may lower it. Reports of different "
        "levels attack with different strength.</p>",
    ]
    for title, group in groups.items():
        rows = [tuple(_cells(entry)) for entry in group]
        parts += [
            f"<h2>{escape(title)}</h2>",
            table(COLUMNS, rows, {entry.card["status"]: _color(entry) for entry in group}),
            figure("Rank-1 by budget", plot_curves(group)),
        ]
    return "\n".join([*parts, "<h2>Columns</h2>", meanings(COLUMNS), "</body></html>"]) + "\n"


def _color(entry: Entry) -> str:
    return COLORS[entry.card["status"]]


def _cells(entry: Entry) -> list[str]:
    card = entry.card
    clean, worst, data = card["clean"], card["worst"], card["data"]
    return [
        entry.name,
        card["status"],
        percent(worst["Rank-1"]),
        percent(worst["mAP"]),
        percent(clean["Rank-1"]),
        percent(clean["mAP"]),
        f"{card['curve']['area']:.1f}",
        f"{card['level']['name']}, {len(card['attacks'])}",
        f"{data['queries']} of {data['people']} people",
        " / ".join(str(number) for number in card["counts"].values()),
    ]


def as_json(entries: Sequence[Entry]) -> dict[str, Any]:
    """Return the tables as plain values: group -> rows, in the order of the page."""
    return {
        "schema": SCHEMA,
        "version": VERSION,
        "groups": {
            title: [
                {
                    "model": entry.name,
                    **{key: entry.card[key] for key in ("status", "worst", "clean", "counts")},
                    "sha256": entry.card["model"]["sha256"],
                }
                for entry in group
            ]
            for title, group in group_entries(entries).items()
        },
    }


def plot_curves(group: Sequence[Entry]) -> bytes:
    """Plot Rank-1 by budget of each card, as a PNG file."""
    picture = Figure(figsize=(WIDTH, 3.6 + 0.2 * len(group)), layout="constrained")
    axes = picture.add_subplot()
    threat = group[0].card["threat"]
    axes.axvline(threat["eps"], color=FAINT, linewidth=1, zorder=0)
    budgets = sorted({point["eps"] for entry in group for point in entry.card["curve"]["points"]})
    for number, entry in enumerate(group):
        points = entry.card["curve"]["points"]
        axes.plot(
            [point["eps"] for point in points],
            [point["Rank-1"] for point in points],
            color=LINES[number % len(LINES)],
            marker=MARKERS[number % len(MARKERS)],
            markersize=4,
            label=entry.name,
        )
    budget_axis(axes, budgets, threat["norm"])
    axes.set(ylabel="Rank-1, %", ylim=(0, 105))
    legend = picture.legend(loc="outside lower left", ncols=2, frameon=False, fontsize=8)
    for text in legend.get_texts():
        text.set_parse_math(False)  # a name may hold a dollar sign
    bare(axes)
    return png_of(picture)
