"""The card as a page of Markdown, and the rows that Markdown and HTML share."""

from collections.abc import Mapping, Sequence

from tabulate import tabulate

from plugins.robustness.checks import GROUPS

RESULT_COLUMNS = (
    "attack",
    "Rank-1",
    "mAP",
    "unique wins",
    "mean perturbation",
    "steps",
    "backward passes",
)
CHECK_COLUMNS = ("group", "verdict", "question", "explanation")
SETTING_COLUMNS = ("setting", "value")

Rows = Sequence[tuple[str, ...]]


def markdown(card: Mapping) -> str:
    """Write the card as a page of Markdown, from the JSON alone."""
    curve = card["curve"]
    points = [(f"{point['eps']:g}", f"{point['Rank-1']:.1f}") for point in curve["points"]]
    lines = [
        f"# {title(card)}",
        f"**{card['headline']}**",
        subtitle(card),
        "## Results",
        "Percent, with 95 % bootstrap intervals over people; mean perturbation in eps.",
        table(result_rows(card), RESULT_COLUMNS),
        "## Checks",
        table(check_rows(card), CHECK_COLUMNS),
        "## Rank-1 by budget",
        f"{curve['attack']} on {curve['queries']} queries; the mean Rank-1 up to the budget of the "
        f"threat model is {curve['area']:.1f} %.",
        table(points, ("eps", "Rank-1")),
        "## Settings",
        table(setting_rows(card), SETTING_COLUMNS),
    ]
    return "\n\n".join(lines) + "\n"


def title(card: Mapping) -> str:
    """Name model, data set and direction."""
    data = card["data"]
    return f"Robustness of {card['model']['architecture']}: {data['dataset']} {data['direction']}"


def subtitle(card: Mapping) -> str:
    """Describe the threat in one line."""
    data, threat = card["data"], card["threat"]
    return (
        f"{data['queries']} queries of {data['people']} people are attacked within "
        f"{threat['norm']} eps {threat['eps']:g} (gray levels, 0 to 255), with guides from the "
        f"{data['guides']}; "
        f"level {card['level']['name']}, {card['cost']['seconds']:g} s of attacks."
    )


def result_rows(card: Mapping) -> Rows:
    """List the results: clean, each attack, worst case."""
    rows = [("clean", *percents(card["clean"]), "", "", "", "")]
    for name, attack in card["attacks"].items():
        recipe = attack["recipe"]
        rows.append(
            (
                name,
                *percents(attack),
                str(attack["unique_wins"]),
                f"{attack['mean_perturbation']:.2f}",
                f"{recipe['restarts']} x {recipe['steps']} {recipe['optimizer']}",
                str(attack["backwards"]),
            )
        )
    return [*rows, ("worst case", *percents(card["worst"]), "", "", "", "")]


def percents(block: Mapping) -> tuple[str, str]:
    """Format Rank-1 and mAP with their intervals over people."""
    return percent(block["Rank-1"]), percent(block["mAP"])


def percent(metric: Mapping) -> str:
    """Format a value with its interval over people."""
    low, high = metric["interval_over_people"]
    return f"{metric['value']:.1f} [{low:.1f}, {high:.1f}]"


def check_rows(card: Mapping) -> Rows:
    """List group, verdict, question and explanation of each check."""
    return [
        (
            f"{check['group']} {GROUPS[check['group']]}",
            check["state"],
            check["question"],
            check["explanation"],
        )
        for check in card["checks"]
    ]


def setting_rows(card: Mapping) -> Rows:
    """List every setting."""
    sections = ("model", "code", "data", "threat", "level", "cost")
    rows = [(f"{part} {key}", str(value)) for part in sections for key, value in card[part].items()]
    return [*rows, ("seed", str(card["seed"]))]


def table(rows: Rows, columns: Sequence[str]) -> str:
    """Format a pipe table of strings."""
    return tabulate(rows, columns, tablefmt="pipe", disable_numparse=True)
