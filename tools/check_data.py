"""Count a data set, read every frame of it, and name what would break or bias a run.

python tools/check_data.py HITSZVCM --sheet samples.png
python tools/check_data.py BUPTCampus DATASETS.BUPT.AUXILIARY True

It is looked for in FASTREID_DATASETS, and its folders are searched for pictures that no list holds.
"""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if not __package__:  # run as a file: the folder above comes first, before a foreign `plugins`
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    __package__ = Path(__file__).resolve().parent.name

from .head import add_config, add_workers, check_workers, command, new_parser, parse

if TYPE_CHECKING:
    from plugins.data.checks import Complaint

SHOWN = 20  # complaints of a kind


def parse_arguments() -> argparse.Namespace:
    """Parse the command line."""
    parser = new_parser(__doc__, failed="the data set is not fit to train or to test on")
    parser.add_argument("dataset", help="a registered name, as in DATASETS.NAMES")
    add_config(parser, "config that holds the data set's options")
    parser.add_argument("--labels-only", action="store_true", help="do not open the frames")
    add_workers(parser)
    parser.add_argument("--sheet", type=Path, help="also save a picture of samples, a PNG file")
    return parse(parser)


def print_complaints(title: str, complaints: "list[Complaint]") -> None:
    """Print a heading and the first complaints; nothing if there are none."""
    if complaints:
        print(f"\n{title}: {len(complaints)}")
        for complaint in complaints[:SHOWN]:
            print(f"  {complaint.where}: {complaint.text}")
        if len(complaints) > SHOWN:
            print(f"  ... and {len(complaints) - SHOWN} more")


@command(parse_arguments, kept="nothing was changed; the same command starts anew")
def main(args: argparse.Namespace) -> int:
    """Count, check, show."""
    from functools import partial

    from tabulate import tabulate

    from plugins.config import setup_cfg
    from plugins.data import build_dataset, checks
    from plugins.data.datasets.own_names import line_of
    from plugins.data.datasets.splits import read_splits
    from plugins.data.frames import frame_decoder
    from plugins.data.outside import require_outside
    from plugins.data.sample_sheet import save_sample_sheet
    from plugins.errors import require_output

    check_workers(args.workers)
    if args.sheet:
        require_output("--sheet", args.sheet, ".png")
    cfg = setup_cfg(args.config_file, args.opts, args.plugins)
    data = build_dataset(args.dataset, "the data set", cfg=cfg)
    if args.sheet:
        require_outside("--sheet", args.sheet, [*data.train, *data.query, *data.gallery])
    splits, lines = read_splits(data), partial(line_of, data)

    columns = ["split", "modality", "camera", "people", "tracklets", "frames"]
    print(tabulate(checks.count_cells(splits), columns))
    print("\ntracklets by length, frames")
    print(tabulate(checks.count_lengths(splits), ["split", *checks.bin_names()]))

    complaints = [
        *checks.check_labels(splits, lines),
        *checks.check_searches(data),
        *checks.remarks(data),
        *checks.check_unlisted(data),
    ]
    read = frame_decoder(cfg)
    if not args.labels_only:
        complaints += checks.check_frames(splits, args.workers, read, lines)
    fatal = [complaint for complaint in complaints if complaint.fatal]
    print_complaints("would break or bias a run", fatal)
    print_complaints("worth knowing", [c for c in complaints if not c.fatal])
    if args.sheet:
        save_sample_sheet(args.sheet, splits, read)
        print(f"\nsamples: {args.sheet}")
    print(f"\n{args.dataset}: {checks.verdict(data, complaints)}")
    return int(bool(fatal))


if __name__ == "__main__":
    sys.exit(main())
