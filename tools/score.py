r"""Score features on disk: rank a gallery for each query, exactly, and write Rank-1 to mINP.

python tools/score.py --gallery gallery.store --query query.store --out scores.json

Both are folders that extract writes with --store. A gallery of a million items stays on disk: only
a part of it is in memory at a time.
"""

import argparse
import sys
from pathlib import Path

if not __package__:  # run as a file: the folder above comes first, before a foreign `plugins`
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    __package__ = Path(__file__).resolve().parent.name

from .head import command, new_parser, parse


def parse_arguments() -> argparse.Namespace:
    """Parse the command line."""
    parser = new_parser(__doc__)
    parser.add_argument(
        "--gallery", type=Path, required=True, metavar="FOLDER", help="store of the gallery"
    )
    parser.add_argument(
        "--query", type=Path, required=True, metavar="FOLDER", help="store of the queries"
    )
    parser.add_argument(
        "--junk",
        default="camera",
        help="what a query does not see: camera (default), none or sysu; with none a query that "
        "lies in the gallery finds itself",
    )
    parser.add_argument("--cmc", default="item", help="unit of a rank: item (default) or identity")
    parser.add_argument(
        "--metric", default="", help="cosine or euclidean; default: that of the run's test"
    )
    parser.add_argument("--out", type=Path, help="write the scores to this .json file")
    return parse(parser)


@command(parse_arguments, kept="nothing was written; the same command starts anew")
def main(args: argparse.Namespace) -> None:
    """Rank, score, print and write."""
    from plugins.errors import require_output
    from plugins.evaluation.scores import scores
    from plugins.inference.store import FeatureStore, score_stores
    from plugins.utils.io import write_json

    if args.out:
        require_output("--out", args.out, ".json")
    query, gallery = FeatureStore(args.query), FeatureStore(args.gallery)
    found = scores(score_stores(query, gallery, metric=args.metric, junk=args.junk, cmc=args.cmc))
    sizes = f"{len(query)} queries, {len(gallery)} items in the gallery"
    lines = (
        f"{name} {value}" if isinstance(value, int) else f"{name} {value:.2f}"
        for name, value in found.items()
    )
    print(sizes, *lines, sep="\n")
    if args.out:
        args.out.parent.mkdir(parents=True, exist_ok=True)
        write_json(args.out, found)
        print(f"written: {args.out}")


if __name__ == "__main__":
    main()
