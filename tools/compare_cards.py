r"""Put the cards of several reports side by side on one page: a leaderboard.

python tools/compare_cards.py report/*.json --out leaderboard.html
python tools/compare_cards.py baseline=a/HITSZVCM_I2V.json ours=b/HITSZVCM_I2V.json \
    --out leaderboard.html

Only cards that can be compared stand in one table: those of the same data set, direction, protocol
and threat model. The page needs no other file, so it can be hosted as it is; its numbers are
written beside it, as JSON of the same name, which replaces no other document.
"""

import argparse
import sys
from pathlib import Path

if not __package__:  # run as a file: the folder above comes first, before a foreign `plugins`
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    __package__ = Path(__file__).resolve().parent.name

from .head import command, new_parser


def parse_arguments() -> argparse.Namespace:
    """Parse the command line."""
    parser = new_parser(__doc__)
    parser.add_argument(
        "cards",
        nargs="+",
        metavar="CARD",
        help="JSON files of reports, or NAME=FILE; the name is else that of the file's folder",
    )
    parser.add_argument("--out", type=Path, required=True, help="page to write, *.html")
    return parser.parse_args()


def name_and_path(word: str) -> tuple[str, Path]:
    """Split NAME=FILE; a file whose path holds a "=" is no such pair."""
    name, sign, file = word.partition("=")
    if sign and not Path(word).exists():
        return name, Path(file)
    return Path(word).absolute().parent.name, Path(word)


@command(parse_arguments, kept="nothing was written; the same command starts anew")
def main(args: argparse.Namespace) -> None:
    """Read the cards, write page and JSON, print the tables' order."""
    from plugins.errors import require_output
    from plugins.robustness.report import Entry, leaderboard_page, read_card
    from plugins.robustness.report.leaderboard import as_json, require_own_files
    from plugins.utils.io import write_json, write_text

    require_output("--out", args.out, ".html")
    named = [name_and_path(word) for word in args.cards]
    require_own_files(args.out, [path for _, path in named])
    entries = [Entry(name, read_card(path)) for name, path in named]
    page, numbers = leaderboard_page(entries), as_json(entries)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    write_json(args.out.with_suffix(".json"), numbers)
    write_text(args.out, page)
    for title, rows in numbers["groups"].items():
        print(title)
        for row in rows:
            worst = row["worst"]["Rank-1"]["value"]
            print(f"  {row['model']}: {row['status']}, worst-case Rank-1 {worst:.1f} %")
    print(f"page: {args.out}")


if __name__ == "__main__":
    main()
