r"""Draw pictures of what a trained model does, from the folder of its run.

python tools/visualize.py logs/run ranked --out ranked.png
python tools/visualize.py logs/run ranked --pick worst --direction V2I --out worst.pdf
python tools/visualize.py logs/run page --out page.html

The ending of --out decides the format: .png, .pdf or .svg. KIND is one of
  ranked     queries with the clips that the model finds, right, wrong and junk
  distances  histograms of distances of one person and of two, within and across modalities
  tsne       features in two dimensions, by person and modality
  cameras    Rank-1 and mAP of each camera's queries in the gallery of each camera
  weights    weights of STIG or TemporalAttention over frames and cells of clips
  gradcam    Grad-CAM over the frames of clips; needs captum
  attack     an adversarial perturbation, and the self-attack of the training, as heat maps
  page       all of these on one page of HTML, which works offline
"""

import argparse
import sys
from pathlib import Path

if not __package__:  # run as a file: the folder above comes first, before a foreign `plugins`
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    __package__ = Path(__file__).resolve().parent.name

from .head import command, new_parser, parse
from .trained import add_run, add_run_options, open_run

PAGE = "page"
KINDS = ("ranked", "distances", "tsne", "cameras", "weights", "gradcam", "attack", PAGE)


def parse_arguments() -> argparse.Namespace:
    """Parse the command line."""
    parser = new_parser(__doc__)
    add_run(parser)
    parser.add_argument("kind", metavar="KIND", help=", ".join(KINDS))
    add_run_options(parser)
    parser.add_argument("--out", type=Path, required=True, help="write the picture to this file")
    parser.add_argument(
        "--dataset", default="", metavar="NAME", help="default: the first of DATASETS.TESTS"
    )
    parser.add_argument(
        "--features",
        default="",
        metavar="FILE",
        help="read the features of the data set from this file, which extract wrote",
    )
    parser.add_argument(
        "--direction", default="", help="I2V, V2I or another of the data set; default: its first"
    )
    parser.add_argument(
        "--pick",
        action="append",
        metavar="WHICH",
        help="queries to show: spread, best, worst or random; or the name, first file or folder "
        "of one; may be repeated; default: spread if ranked, else a person in each modality",
    )
    parser.add_argument(
        "--queries", type=int, help="number of queries; default: 5 ranked, 2 of other kinds"
    )
    parser.add_argument("--top", type=int, default=6, help="clips of each ranked list")
    parser.add_argument("--frames", type=int, default=3, help="frames shown of each clip")
    parser.add_argument("--people", type=int, default=8, help="people of t-SNE")
    parser.add_argument(
        "--attack",
        default="FNA",
        metavar="NAME",
        help="attack of kind attack, within the run's ATTACK section (default: FNA)",
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of what is drawn at random")
    return parse(parser)


@command(parse_arguments, kept="nothing was written; the same command starts anew")
def main(args: argparse.Namespace) -> None:
    """Check, load the model, draw, save."""
    from plugins.errors import InputError
    from plugins.utils.io import write_text
    from plugins.visualization import evaluate_set, make_page, save_picture
    from plugins.visualization.kinds import KINDS as KINDS_OF_RUN
    from plugins.visualization.kinds import Options, kind_named
    from plugins.visualization.picture import ENDINGS, require_file_ending
    from plugins.visualization.ranked import PICKS

    kind = kind_named(args.kind, (PAGE,))
    for name in ("queries", "top", "frames", "people"):
        if getattr(args, name) is not None and getattr(args, name) < 1:
            raise InputError(f"--{name} {getattr(args, name)}: expected 1 or more")
    require_file_ending("--out", args.out, ENDINGS if kind else (".html",))
    embedder = open_run(args)
    options = Options(
        direction=args.direction,
        picks=tuple(args.pick or ()),
        queries=args.queries or 0,
        top=args.top,
        frames=args.frames,
        people=args.people,
        attack=args.attack,
        seed=args.seed,
    )
    # A page leaves out what a run cannot have drawn, but no mistake of the command line.
    (kind or KINDS_OF_RUN["attack"]).check(embedder, options)
    data = evaluate_set(
        embedder,
        args.dataset,
        args.features,
        direction=args.direction,
        items=[pick for pick in options.picks if pick not in PICKS],
    )
    if kind:
        picture = kind.draw(embedder, data, options)
        save_picture(args.out, picture)
        print(f"{args.out}: {picture.title}")
    else:
        text = make_page(embedder, data, options, str(args.run))
        args.out.parent.mkdir(parents=True, exist_ok=True)
        write_text(args.out, text)
        print(f"{args.out}: all pictures of {data.name}")


if __name__ == "__main__":
    main()
