"""The card as a page of Markdown, and the rows that Markdown and HTML share."""

from collections.abc import Mapping, Sequence

from tabulate import tabulate

from plugins.robustness.checks import GROUPS

# Column -> its meaning.
RESULT_COLUMNS = {
    "attack": "clean is no attack; worst case takes, query by query, the worst of all rows above",
    "Rank-1": "share of queries whose nearest item shows the same person, in percent, with the "
    "95 % interval over people",
    "mAP": "mean average precision, likewise",
    "unique wins": "number of queries whose Rank-1 only this attack breaks",
    "mean perturbation": "mean share of the budget that the attack uses, in eps",
    "steps": "restarts x steps, and the optimizer",
    "backward passes": "gradients of a query, summed over all queries",
}
CHECK_COLUMNS = {
    "group": "A: the attack is run as it should be; B: it is strong; C: no gradient is masked; D: "
    "what the numbers hold for",
    "check": "its name in the JSON file",
    "verdict": "PASS; WARN, a person should look; FAIL, the robust accuracy means nothing; "
    "SKIPPED; ERROR, the code of the check is faulty",
    "question": "yes is the good answer",
    "explanation": "what was measured",
}
SETTING_COLUMNS = {
    "setting": "section and name of the entry in the JSON file",
    "value": "as it was in this report",
}
POINT_COLUMNS = {
    "eps": "budget in gray levels; 0 is no attack",
    "Rank-1": "in percent, of the subset of the queries",
}

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
        table(result_rows(card), RESULT_COLUMNS),
        chance(card),
        "## Checks",
        table(check_rows(card), CHECK_COLUMNS),
        "## Rank-1 by budget",
        f"{curve['attack']} on {curve['queries']} queries; the mean Rank-1 up to the budget of the "
        f"threat model is {curve['area']:.1f} %.",
        table(points, POINT_COLUMNS),
        "## Settings",
        table(setting_rows(card), SETTING_COLUMNS),
    ]
    return "\n\n".join(line for line in lines if line) + "\n"


def chance(card: Mapping) -> str:
    """Say what a random list reaches; nothing where the card does not know."""
    return f"A random list reaches Rank-1 {card['chance']:.1f} %." if card["chance"] else ""


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
    """List group, id, verdict, question and explanation of each check."""
    return [
        (
            f"{check['group']} {GROUPS[check['group']]}",
            check["id"],
            check["state"],
            check["question"],
            check["explanation"],
        )
        for check in card["checks"]
    ]


def setting_rows(card: Mapping) -> Rows:
    """List every setting."""
    sections = ("model", "code", "data", "threat", "level", "cost")
    rows = [
        (f"{part} {key}", plain(value)) for part in sections for key, value in card[part].items()
    ]
    return [*rows, ("seed", str(card["seed"]))]


def plain(value: object) -> str:
    """Write a setting as a reader does.

    >>> plain(["SMA", "FNA"]), plain(()), plain(None), plain(8.0)
    ('SMA, FNA', 'none', 'unknown', '8.0')
    """
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value)) or "none"
    return "unknown" if value is None else str(value)


def table(rows: Rows, columns: Mapping[str, str]) -> str:
    """Format a pipe table of strings, and the meanings of its columns below."""
    meanings = "\n".join(f"- {column}: {meaning}" for column, meaning in columns.items())
    grid = tabulate(rows, list(columns), tablefmt="pipe", disable_numparse=True)
    return f"{grid}\n\n{meanings}"
