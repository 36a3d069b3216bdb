"""Compare two ways of training, query by query: the difference with its 95 % interval.

python tools/compare_runs.py logs/mine logs/theirs
python tools/compare_runs.py logs/mine0 logs/mine1 --against logs/theirs0 logs/theirs1

The first line takes two OUTPUT_DIRs. The second takes several seeds of each and pairs them in their
order; the interval then also says what other seeds would change. A file, such as
logs/mine/evaluation_queries.npz, stands for one evaluation.
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
    parser.add_argument("runs", type=Path, nargs="+", help="OUTPUT_DIRs or files: A, or A and B")
    parser.add_argument("--against", type=Path, nargs="+", help="B, as many as A")
    parser.add_argument(
        "--metric",
        nargs="+",
        default=[],
        help="such as I2V/Rank-5, or mAP for the mean over the directions; default: mAP and Rank-1",
    )
    parser.add_argument("--out", type=Path, help="write the differences here too, as JSON")
    return parser.parse_args()


@command(parse_arguments)
def main(arguments: argparse.Namespace) -> None:
    """Compare, print, and write the differences where --out asks for it."""
    from plugins.errors import InputError, require_output
    from plugins.experiments import compare_runs, comparison_table
    from plugins.utils.io import write_json

    if arguments.against is None:
        if len(arguments.runs) != 2:
            raise InputError(
                f"{len(arguments.runs)} runs; expected two, or several seeds: A1 A2 --against B1 B2"
            )
        arguments.runs, arguments.against = arguments.runs[:1], arguments.runs[1:]
    if arguments.out:
        require_output("--out", arguments.out, ".json")
    entries, remarks = compare_runs(arguments.runs, arguments.against, arguments.metric)
    for remark in remarks:
        print(remark)
    print(comparison_table(entries))
    if len(arguments.runs) == 1:
        print("One run each: another seed may differ by more than the interval says.")
    if arguments.out:
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        write_json(arguments.out, entries)
        print(f"differences: {arguments.out}")


if __name__ == "__main__":
    main()
