"""Find the distance below which two items are taken for one person, at a false accept rate.

python tools/threshold.py features.npz --rate 0.001 --direction I2V
python tools/threshold.py --query query.npz --gallery gallery.npz --rate 0.01 --out threshold.json

Files are those that extract writes, of known people. An interval holds 95 % of the
values that draws of as many of these people, with replacement, give.
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
    parser.add_argument("files", nargs="*", help="files that hold queries and gallery together")
    parser.add_argument(
        "--query", action="append", metavar="FILE", help="features of the queries; may be repeated"
    )
    parser.add_argument(
        "--gallery",
        action="append",
        metavar="FILE",
        help="features of the gallery; may be repeated",
    )
    parser.add_argument("--rate", type=float, default=1e-3, help="wanted false accept rate")
    parser.add_argument("--direction", default="Q2G", help="I2V, V2I or Q2G (default)")
    parser.add_argument(
        "--junk", default="camera", help="pairs that do not count: camera (default), none or sysu"
    )
    parser.add_argument(
        "--metric", default="", help="cosine or euclidean; default: that of the run's test"
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of the draws of people")
    parser.add_argument("--out", type=Path, help="write the numbers here too, as JSON")
    return parser.parse_args()


@command(parse_arguments)
def main(args: argparse.Namespace) -> None:
    """Measure, print, and write where --out asks for it."""
    from plugins.errors import InputError, require_output
    from plugins.inference import Features, find_threshold
    from plugins.inference.threshold import sides
    from plugins.utils.io import write_json

    if args.out:
        require_output("--out", args.out, ".json")
    if bool(args.files) == bool(args.query and args.gallery):
        raise InputError("expected files of queries and gallery, or --query and --gallery")
    query, gallery = (Features.load(*(args.files or each)) for each in (args.query, args.gallery))
    query, gallery = sides(query, gallery, args.direction)
    found = find_threshold(
        query, gallery, args.rate, junk=args.junk, metric=args.metric, seed=args.seed
    )
    low, high = found.threshold_interval
    print(f"threshold: distance below {found.threshold:.6f} [{low:.6f}, {high:.6f}]")
    for what, value, interval in (
        ("true accept rate", found.true_accept_rate, found.true_accept_interval),
        ("false accept rate", found.false_accept_rate, found.false_accept_interval),
    ):
        low, high = interval
        print(f"{what}: {100 * value:.3f} % [{100 * low:.3f}, {100 * high:.3f}]")
    print(
        f"{found.genuine} pairs of one person, {found.impostors} of two, {found.people} people; "
        "95 % intervals over people"
    )
    if args.out:
        about = {"direction": args.direction, "junk": args.junk, "wanted_rate": args.rate}
        args.out.parent.mkdir(parents=True, exist_ok=True)
        write_json(args.out, {**about, "metric": args.metric or query.metric, **found._asdict()})
        print(f"numbers: {args.out}")


if __name__ == "__main__":
    main()
