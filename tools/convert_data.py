"""Write a data set in the layout of another: hitsz-vcm, bupt-campus or manifest.

python tools/convert_data.py --from HITSZVCM --to manifest --out datasets/mine
python tools/convert_data.py --from RegDB --to manifest --out regdb-3 DATASETS.REGDB.TRIAL 3

Frames are copied or linked byte by byte. What the layout cannot keep is told, a line each.
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
    parser.add_argument("--from", dest="name", required=True, help="a name as in DATASETS.NAMES")
    parser.add_argument("--to", choices=TARGETS, required=True, help="layout")
    parser.add_argument("--out", type=Path, required=True, help="new folder of the data set")
    parser.add_argument("--root", help="folder of all data sets; default: FASTREID_DATASETS")
    parser.add_argument("--frames", choices=PLACEMENTS, default="copy", help="how frames get there")
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
    if args.root:
        os.environ["FASTREID_DATASETS"] = args.root
        check_root("--root")
    cfg = setup_cfg(args.config_file, args.opts, args.plugins)
    done = convert(args.name, args.to, args.out, cfg, args.frames)
    for loss in done.losses:
        print(f"not kept: {loss}")
    print(f"{args.out}: {done.tracklets} tracklets, {done.frames} frames")
    return 0


if __name__ == "__main__":
    sys.exit(main())
