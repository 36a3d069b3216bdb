"""Count a data set, read every frame of it, and name what would break or bias a run.

python tools/check_data.py HITSZVCM --sheet samples.png
python tools/check_data.py BUPTCampus DATASETS.BUPT.AUXILIARY True

It is looked for in FASTREID_DATASETS, and its folders are searched for pictures that no list holds.
Exit status: 0 fit to use, or to train or test alone; 1 not; 2 unreadable.
"""

import argparse
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tabulate import tabulate

import plugins  # noqa: F401  (registers the data sets)
from plugins.config import setup_cfg
from plugins.data import build_dataset
from plugins.data.checks import (
    Complaint,
    bin_names,
    check_frames,
    check_labels,
    check_searches,
    check_unlisted,
    count_cells,
    count_lengths,
    read_splits,
    remarks,
    verdict,
)
from plugins.data.frames import frame_decoder
from plugins.data.sample_sheet import save_sample_sheet
from plugins.engine import parse_with_overrides
from plugins.errors import InputError, require_output, user_errors

SHOWN = 20  # complaints of a kind


def parse_arguments() -> argparse.Namespace:
    """Options."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("dataset", help="a registered name, as in DATASETS.NAMES")
    parser.add_argument("--config-file", default="", help="where the data set's options are")
    parser.add_argument("--labels-only", action="store_true", help="do not open the frames")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="processes")
    parser.add_argument("--sheet", type=Path, help="also save a picture of samples, a PNG file")
    return parse_with_overrides(parser)


def print_complaints(title: str, complaints: list[Complaint]) -> None:
    """A heading and the first complaints; nothing if there are none."""
    if complaints:
        print(f"\n{title}: {len(complaints)}")
        for complaint in complaints[:SHOWN]:
            print(f"  {complaint.where}: {complaint.text}")
        if len(complaints) > SHOWN:
            print(f"  ... and {len(complaints) - SHOWN} more")


@user_errors(kept="nothing was changed; the same command starts anew")
def main() -> int:
    """Count, check, show."""
    args = parse_arguments()
    if args.workers < 1:
        raise InputError(f"--workers {args.workers}: expected 1 or more")
    if args.sheet:
        require_output("--sheet", args.sheet, ".png")
    cfg = setup_cfg(args.config_file, args.opts)
    data = build_dataset(args.dataset, "the data set", cfg=cfg)
    splits = read_splits(data)

    columns = ["split", "modality", "camera", "people", "tracklets", "frames"]
    print(tabulate(count_cells(splits), columns))
    print("\ntracklets by length, frames")
    print(tabulate(count_lengths(splits), ["split", *bin_names()]))

    complaints = check_labels(splits) + check_searches(data) + remarks(data) + check_unlisted(data)
    read = frame_decoder(cfg)
    if not args.labels_only:
        complaints += check_frames(splits, args.workers, read)
    fatal = [complaint for complaint in complaints if complaint.fatal]
    print_complaints("would break or bias a run", fatal)
    print_complaints("worth knowing", [c for c in complaints if not c.fatal])
    if args.sheet:
        save_sample_sheet(args.sheet, splits, read)
        print(f"\nsamples: {args.sheet}")
    print(f"\n{args.dataset}: {verdict(data, complaints)}")
    return int(bool(fatal))


if __name__ == "__main__":
    sys.exit(main())
