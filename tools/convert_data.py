"""Write a data set in the layout of another, or the crops of a tracker as a data set.

python tools/convert_data.py --from HITSZVCM --to manifest --out datasets/mine
python tools/convert_data.py --from RegDB --to manifest --out regdb-3 DATASETS.REGDB.TRIAL 3
python tools/convert_data.py --tracks sequences.csv --out datasets/mine --every 5

Layouts are hitsz-vcm, bupt-campus and manifest. Frames are copied or linked byte by byte. What the
layout cannot keep is told, a line each. --tracks takes a table with the columns of the manifest, a
row for each sequence: a folder as MOTChallenge has them, a video with its boxes in a .txt file
beside it, or a folder of crops, as BoxMOT saves them. {track} in the column person stands for the
number of the track.
"""

import argparse
import os
import sys
from pathlib import Path

if not __package__:  # run as a file: the folder above comes first, before a foreign `plugins`
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    __package__ = Path(__file__).resolve().parent.name

from .head import add_config, command, new_parser, parse

TARGETS = ("hitsz-vcm", "bupt-campus", "manifest")
PLACEMENTS = ("copy", "hardlink", "symlink")


def parse_arguments() -> argparse.Namespace:
    """Parse the command line."""
    parser = new_parser(__doc__)
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--from", dest="name", help="a name as in DATASETS.NAMES")
    source.add_argument("--tracks", metavar="TABLE", help="CSV or Parquet file of sequences")
    parser.add_argument(
        "--to", choices=TARGETS, default="manifest", help="layout; default: manifest"
    )
    parser.add_argument("--out", type=Path, required=True, help="new folder of the data set")
    parser.add_argument("--root", help="folder of all data sets; default: FASTREID_DATASETS")
    parser.add_argument("--frames", choices=PLACEMENTS, default="copy", help="how frames get there")
    parser.add_argument(
        "--every", type=int, default=1, help="of --tracks, keep one of so many frames of each track"
    )
    add_config(parser, "config that holds the data set's options")
    return parse(parser)


@command(parse_arguments, kept="nothing was written; the same command starts anew")
def main(args: argparse.Namespace) -> int:
    """Convert, print what was lost and what was written."""
    from plugins.config import setup_cfg
    from plugins.data.conversion import convert
    from plugins.data.datasets.build import check_root
    from plugins.errors import require_output

    require_output("--out", args.out)
    if args.tracks:
        return convert_tracks(args)
    if args.root:
        os.environ["FASTREID_DATASETS"] = args.root
        check_root("--root")
    cfg = setup_cfg(args.config_file, args.opts, args.plugins)
    done = convert(args.name, args.to, args.out, cfg, args.frames)
    for loss in done.losses:
        print(f"not kept: {loss}")
    print(f"{args.out}: {done.tracklets} tracklets, {done.frames} frames")
    return 0


def convert_tracks(args: argparse.Namespace) -> int:
    """Crop the tracks, print what was left out and what was written."""
    from plugins.data.conversion.tracks import crop_tracks
    from plugins.errors import InputError

    if args.to != "manifest":
        raise InputError(f"--to {args.to}: --tracks writes a manifest; convert that afterwards")
    if args.every < 1:
        raise InputError(f"--every {args.every}: expected 1 or more")
    done = crop_tracks(args.tracks, args.out, args.every)
    for loss in done.losses:
        print(f"left out: {loss}")
    print(f"{args.out}: {done.tracklets} tracklets, {done.frames} frames")
    return 0


if __name__ == "__main__":
    sys.exit(main())
