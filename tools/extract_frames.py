"""Turn videos into frames: a table that lists videos into a folder that ManifestDataset reads.

python tools/extract_frames.py datasets/videos.csv --out datasets/frames --every 5
python tools/check_data.py ManifestDataset DATASETS.MANIFEST.FILE frames/manifest.csv

The table has the columns of the manifest (see docs/data.md); a row's path is a video of one person,
its tracklet and frame are left empty. A video that is damaged or ends early is refused by its row;
frames that are missing from a steady rate are warned of.
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
    parser.add_argument("table", help="CSV or Parquet")
    parser.add_argument("--out", type=Path, required=True, help="new folder")
    parser.add_argument("--every", type=int, default=1, help="keep one of so many frames")
    return parser.parse_args()


@command(parse_arguments, kept="nothing was written; the same command starts anew")
def main(args: argparse.Namespace) -> None:
    """Extract the frames and print how many there are."""
    from plugins.data.conversion.videos import extract_frames
    from plugins.errors import InputError, require_output

    if args.every < 1:
        raise InputError(f"--every {args.every}: expected 1 or more")
    require_output("--out", args.out)
    tracklets, frames = extract_frames(args.table, args.out, args.every)
    print(f"{args.out}: {tracklets} tracklets, {frames} frames")


if __name__ == "__main__":
    main()
