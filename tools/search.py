r"""Search a gallery of features, and write ranked lists with names, paths and distances.

python tools/search.py --gallery gallery.npz --query query.npz --top 10 --out lists.csv
python tools/search.py --gallery features.npz --out lists.csv TEST.RERANK.ENABLED True
python tools/search.py --gallery features.npz --compare NAME NAME

Files are those that extract writes; several are joined. Without --query each item of the gallery
searches the others. Overrides are keys of TEST.RERANK, by which lists are ranked again as an
evaluation does.
"""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if not __package__:  # run as a file: the folder above comes first, before a foreign `plugins`
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    __package__ = Path(__file__).resolve().parent.name

from .head import add_overrides, command, new_parser, parse

if TYPE_CHECKING:
    from plugins.inference import Gallery, RankedLists

SHOWN = 10  # queries
BOTH = "both"


def parse_arguments() -> argparse.Namespace:
    """Parse the command line."""
    parser = new_parser(__doc__)
    add_overrides(parser)
    parser.add_argument(
        "--gallery",
        action="append",
        required=True,
        metavar="FILE",
        help="features of the gallery, a file or the folder of a store; may be repeated",
    )
    parser.add_argument(
        "--query", action="append", metavar="FILE", help="features of the queries, likewise"
    )
    parser.add_argument(
        "--direction",
        default="Q2G",
        help="I2V, V2I, both of them, or Q2G for all queries and the whole gallery (default)",
    )
    parser.add_argument(
        "--top", type=int, default=10, help="items of each ranked list (default 10)"
    )
    parser.add_argument(
        "--junk", default="none", help="what a query does not see: none (default), camera or sysu"
    )
    parser.add_argument(
        "--metric", default="", help="cosine or euclidean; default: that of the run's test"
    )
    parser.add_argument(
        "--index",
        default="",
        metavar="KIND",
        help="flat, which is exact, or ivfpq, which compares short codes, for a gallery whose "
        "index is saved, and prints its recall; default: the index saved with the gallery, or flat",
    )
    parser.add_argument(
        "--probes",
        type=int,
        default=32,
        metavar="N",
        help="lists of the index ivfpq that a query is compared with (default 32); more find more",
    )
    parser.add_argument(
        "--threshold", type=float, help="mark in the lists which items lie below this distance"
    )
    parser.add_argument(
        "--remove",
        action="append",
        default=[],
        metavar="PERSON",
        help="remove this person from the gallery before the search; may be repeated",
    )
    parser.add_argument(
        "--save-gallery",
        type=Path,
        metavar="FILE",
        help="write the searched gallery, joined, to this file of features, and its index ivfpq "
        "beside it",
    )
    parser.add_argument(
        "--overwrite", action="store_true", help="replace what is at --save-gallery"
    )
    parser.add_argument(
        "--compare", nargs=2, metavar="NAME", help="print the distance of two items of the gallery"
    )
    parser.add_argument("--out", type=Path, help="write the ranked lists to this .csv file")
    return parse(parser)


@command(parse_arguments, kept="nothing was written; the same command starts anew")
def main(args: argparse.Namespace) -> None:
    """Build the gallery, search, write, show."""
    from plugins.inference import Gallery, compare

    rerank = read_rerank(args.opts)
    check_arguments(args, rerank)
    settings = {"kind": args.index, "probes": args.probes}
    gallery = Gallery.load(*args.gallery, metric=args.metric, **settings)
    for person in args.remove:
        print(f"removed {gallery.remove(person=person)} items of {person}")
    if args.compare:
        one, other = (gallery.items.select([gallery.items.row_of(n)]) for n in args.compare)
        distance = compare(one, other, gallery.metric)
        print(f"{' and '.join(args.compare)}: distance {distance:.6f}")
    lists = search(args, gallery, rerank) if args.out else []
    if args.save_gallery:
        args.save_gallery.parent.mkdir(parents=True, exist_ok=True)
        gallery.save(args.save_gallery)
        print(f"{args.save_gallery}: {len(gallery)} items")
    if args.out:
        write(args, lists)


def check_arguments(args: argparse.Namespace, rerank: dict | None) -> None:
    """Check what can be checked before anything is read; nothing is written yet."""
    from plugins.config import check_value
    from plugins.errors import InputError, require_output
    from plugins.inference.features import ending_of
    from plugins.inference.gallery import index_file
    from plugins.inference.index import check_kind
    from plugins.inference.threshold import DIRECTIONS
    from plugins.protocol import junk_rule
    from plugins.utils.names import join_choices

    if not (args.out or args.compare or args.save_gallery):
        raise InputError("nothing to do: expected --out, --save-gallery or --compare")
    if args.out:
        require_output("--out", args.out, ".csv")
    if save := args.save_gallery:
        require_output("--save-gallery", save, ending_of(save, "--save-gallery"))
        for file in (save, index_file(save)):
            if file.exists() and not args.overwrite:
                raise InputError(
                    f"--save-gallery {save}: {file} is there already; expected --overwrite or "
                    "another name"
                )
    if rerank and args.threshold is not None:
        raise InputError(
            f"--threshold {args.threshold:g}: expected none with TEST.RERANK.ENABLED True, since "
            "re-ranking gives distances of another scale"
        )
    if args.direction not in (choices := (*DIRECTIONS, BOTH)):
        raise InputError(f"--direction {args.direction}: expected {join_choices(choices)}")
    for option, number in (("--top", args.top), ("--probes", args.probes)):
        if number < 1:
            raise InputError(f"{option} {number}: expected 1 or more")
    junk_rule(args.junk)
    if args.metric:
        check_value("TEST.METRIC", args.metric)
    if args.index:
        check_kind(args.index)


def search(
    args: argparse.Namespace, gallery: "Gallery", rerank: dict | None
) -> "list[RankedLists]":
    """Search the gallery in each direction."""
    from plugins.inference import Gallery
    from plugins.inference.junk import warn_without_camera
    from plugins.inference.recall import SAMPLE, measure_recall
    from plugins.inference.store import load_items
    from plugins.inference.threshold import sides

    items = gallery.items
    itself = bool(args.query)
    queries = load_items(*args.query) if args.query else items
    warn_without_camera(queries.camera, items.camera, args.junk)
    lists = []
    for direction in ("I2V", "V2I") if args.direction == BOTH else (args.direction,):
        query, side = sides(queries, items, direction)
        searched = gallery
        if len(side) != len(items):
            searched = Gallery(side, gallery.metric, gallery.kind, args.probes)
        found = searched.search(query, args.top, junk=args.junk, rerank=rerank, itself=itself)
        lists.append(found.named(direction))
        if gallery.kind != "flat":
            share = measure_recall(searched, query, args.top, junk=args.junk, itself=itself)
            print(
                f"{direction}: recall@{args.top} of the index {gallery.kind} beside brute force: "
                f"{100 * share:.1f} % ({min(len(query), SAMPLE)} queries)"
            )
    return lists


def write(args: argparse.Namespace, lists: "list[RankedLists]") -> None:
    """Write the lists, and show the first ones."""
    from plugins.inference.lists import write_lists

    args.out.parent.mkdir(parents=True, exist_ok=True)
    write_lists(args.out, lists, args.threshold)
    for found in lists:
        show(found)
    print(f"ranked lists: {args.out}")


def read_rerank(opts: list[str]) -> dict | None:
    """Read the overrides, which are keys of TEST.RERANK; None where it is not enabled."""
    from plugins.config import setup_cfg
    from plugins.config.load import split_overrides
    from plugins.errors import InputError
    from plugins.evaluation.vvi_evaluator import rerank_parameters

    for key, _ in split_overrides(opts):
        if not key.startswith("TEST.RERANK."):
            raise InputError(f"command line: {key}: expected keys of TEST.RERANK alone")
    cfg = setup_cfg("", opts)
    return rerank_parameters(cfg) if cfg.TEST.RERANK.ENABLED else None


def show(found: "RankedLists") -> None:
    """Print the first queries with what was found first."""
    for number, name in enumerate(found.query.name[:SHOWN].tolist()):
        names = found.names(number)
        first = f"{names[0]}, distance {found.distances[number, 0]:.4f}" if names else "nothing"
        print(f"{name}: {first}")
    if len(found.query) > SHOWN:
        print(f"... and {len(found.query) - SHOWN} more queries")


if __name__ == "__main__":
    main()
