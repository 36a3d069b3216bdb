"""Write differences as Markdown."""

from collections.abc import Iterable

from tabulate import tabulate

NUMBER_HEADERS = (
    "difference",
    "95 % interval",
    "resampled",
    "p",
    "people",
    "seeds",
    "80 % power",
)
LEGEND = (
    "Percent points, query by query. Intervals are over people and seeds, of one seed over people "
    "alone; the second one is by resampling both. The last column is the true difference that such "
    "an experiment shows 4 times in 5."
)


def differences_table(entries: Iterable[dict]) -> str:
    """Write a Markdown table with a line for each difference, and its legend."""
    names = ("kind", "row", "against", "dataset", "metric")
    lines = [[*(entry[name] for name in names), *number_cells(entry)] for entry in entries]
    headers = ["", "row", "against", "data set", "metric", *NUMBER_HEADERS]
    grid = tabulate(lines, headers, tablefmt="pipe", disable_numparse=True)
    return (
        f"{grid}\n\nRow minus against. {LEGEND} Primary comparisons were named beforehand, and "
        "their p-values are corrected for their number after Holm; every other one is exploratory, "
        "and null compares seeds of one row, where nothing is to be found.\n"
    )


def number_cells(entry: dict) -> list[str]:
    """Write the cells under ``NUMBER_HEADERS``."""
    interval = _interval(entry["low"], entry["high"])
    if entry.get("sites"):
        over = _interval(entry["sites_low"], entry["sites_high"])
        interval += f"; over {entry['sites']} sites {over}"
    p = f"{entry['p']:.3f}" if entry["p"] is not None else "-"
    return [
        f"{entry['difference']:+.2f}",
        interval,
        _interval(entry["resampled_low"], entry["resampled_high"]),
        f"{p}, Holm {entry['holm']:.3f}" if "holm" in entry else p,
        f"{entry['people']}{'' if entry['crossed'] else ', each seed its own'}",
        str(entry["seeds"]),
        "-" if entry["detectable"] is None else f"{entry['detectable']:.1f}",
    ]


def _interval(low: float | None, high: float | None) -> str:
    return "-" if low is None else f"[{low:+.2f}, {high:+.2f}]"
