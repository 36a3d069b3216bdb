"""Write a data set in the layout of another: hitsz-vcm, bupt-campus or manifest.

python tools/convert_data.py --from HITSZVCM --to manifest --out datasets/mine
python tools/convert_data.py --from RegDB --to manifest --out regdb-3 DATASETS.REGDB.TRIAL 3

Frames are copied or linked byte by byte. What the layout cannot keep is told, a line each.
"""

import argparse
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import plugins  # noqa: F401  (registers the data sets)
from plugins.config import setup_cfg
from plugins.data.conversion import PLACEMENTS, TARGETS, convert
from plugins.engine import parse_with_overrides
from plugins.errors import require_output, user_errors


def parse_arguments() -> argparse.Namespace:
    """Options."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--from", dest="name", required=True, help="a name as in DATASETS.NAMES")
    parser.add_argument("--to", choices=TARGETS, required=True, help="layout")
    parser.add_argument("--out", type=Path, required=True, help="new folder of the data set")
    parser.add_argument("--root", help="folder of all data sets; default: FASTREID_DATASETS")
    parser.add_argument("--frames", choices=PLACEMENTS, default="copy", help="how they get there")
    parser.add_argument("--config-file", default="", help="where the data set's options are")
    return parse_with_overrides(parser)


@user_errors(kept="nothing was written; the same command starts anew")
def main() -> int:
    """Convert, tell."""
    args = parse_arguments()
    require_output("--out", args.out)
    if args.root:
        os.environ["FASTREID_DATASETS"] = args.root
    cfg = setup_cfg(args.config_file, args.opts)
    done = convert(args.name, args.to, args.out, cfg, args.frames)
    for loss in done.losses:
        print(f"not kept: {loss}")
    print(f"{args.out}: {done.tracklets} tracklets, {done.frames} frames")
    return 0


if __name__ == "__main__":
    sys.exit(main())
