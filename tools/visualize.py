r"""Draw pictures of what a trained model does, from the folder of its run.

python tools/visualize.py logs/run ranked --out ranked.png
python tools/visualize.py logs/run ranked --pick worst --direction V2I --out worst.pdf

The ending of --out decides the format: .png, .pdf or .svg. KIND is one of
  ranked     queries with the clips that the model finds, right, wrong and junk
  distances  histograms of distances of one person and of two, within and across modalities
  tsne       features in two dimensions, by person and modality
  cameras    Rank-1 and mAP of each camera's queries in the gallery of each camera
"""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

if not __package__:  # run as a file: the folder above comes first, before a foreign `plugins`
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    __package__ = Path(__file__).resolve().parent.name

from .head import add_config, command, new_parser, parse

if TYPE_CHECKING:
    from plugins.inference import Embedder
    from plugins.visualization import Picture

KINDS = ("ranked", "distances", "tsne", "cameras")


def parse_arguments() -> argparse.Namespace:
    """Parse the command line."""
    parser = new_parser(__doc__)
    parser.add_argument("run", type=Path, help="folder of a run, or a file of weights")
    parser.add_argument("kind", metavar="KIND", help=", ".join(KINDS))
    add_config(parser, "config to use; default: config.yaml in the folder of the run")
    parser.add_argument("--weights", default="", help="default: the newest checkpoint of the run")
    parser.add_argument("--out", type=Path, required=True, help="write the picture to this file")
    parser.add_argument(
        "--dataset", default="", metavar="NAME", help="default: the first of DATASETS.TESTS"
    )
    parser.add_argument(
        "--features",
        default="",
        metavar="FILE",
        help="read the features of the data set from this file of tools/extract.py",
    )
    parser.add_argument(
        "--direction", default="", help="I2V, V2I or another of the data set; default: its first"
    )
    parser.add_argument(
        "--pick",
        action="append",
        metavar="WHICH",
        help="queries to show: spread (default), best, worst or random; or the name, first file "
        "or folder of one; may be repeated",
    )
    parser.add_argument("--queries", type=int, default=5, help="number of queries")
    parser.add_argument("--top", type=int, default=6, help="clips of each ranked list")
    parser.add_argument("--frames", type=int, default=3, help="frames shown of each clip")
    parser.add_argument("--people", type=int, default=8, help="people of t-SNE")
    parser.add_argument("--seed", type=int, default=0, help="seed of what is drawn at random")
    return parse(parser)


@command(parse_arguments, kept="nothing was written; the same command starts anew")
def main(args: argparse.Namespace) -> None:
    """Check, load the model, draw, save."""
    from plugins.errors import InputError
    from plugins.inference import Embedder
    from plugins.utils.names import closest_names, join_choices
    from plugins.visualization import require_picture, save_picture

    if args.kind not in KINDS:
        raise InputError(
            f"KIND {args.kind!r}: expected {join_choices(KINDS)}; "
            f"nearest: {closest_names(args.kind, KINDS)[0]}"
        )
    for name in ("queries", "top", "frames", "people"):
        if getattr(args, name) < 1:
            raise InputError(f"--{name} {getattr(args, name)}: expected 1 or more")
    require_picture("--out", args.out)
    embedder = Embedder(
        args.run,
        config=args.config_file,
        weights=args.weights,
        opts=args.opts,
        plugins=args.plugins,
    )
    picture = draw(args, embedder)
    save_picture(args.out, picture)
    print(f"{args.out}: {picture.title}")


def draw(args: argparse.Namespace, embedder: "Embedder") -> "Picture":
    """Draw a picture of one kind."""
    from plugins import visualization as pictures

    data = pictures.evaluate_set(embedder, args.dataset, args.features)
    kinds: dict[str, Callable[[], Picture]] = {
        "ranked": lambda: pictures.picture_of_ranked(
            data,
            args.direction,
            picks=args.pick or ["spread"],
            count=args.queries,
            top=args.top,
            frames=args.frames,
            seed=args.seed,
        ),
        "distances": lambda: pictures.picture_of_distances(data),
        "tsne": lambda: pictures.picture_of_tsne(data, args.people, args.seed),
        "cameras": lambda: pictures.picture_of_cameras(data, args.direction),
    }
    return kinds[args.kind]()


if __name__ == "__main__":
    main()
