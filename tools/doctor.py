"""Examine this machine: versions, devices, one training step, data, disk, memory, threads.

python tools/doctor.py --out logs
FASTREID_DATASETS=/data python tools/doctor.py

A line is OK, or says after an arrow what to do. Nothing stays written.
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
    parser = new_parser(__doc__, failed="at least one line says what to do")
    parser.add_argument(
        "--out", default=".", metavar="FOLDER", help="folder that runs will write to; default: here"
    )
    return parser.parse_args()


@command(parse_arguments, kept="nothing was changed")
def main(args: argparse.Namespace) -> int:
    """Print a line for each finding; return 1 if there is something to do."""
    from plugins.engine.doctor import examine

    advised = 0
    for finding in examine(args.out):
        advised += bool(finding.advice)
        print(f"{'DO' if finding.advice else 'OK'}  {finding.subject}: {finding.fact}", flush=True)
        if finding.advice:
            print(f"    -> {finding.advice}")
    print(f"{advised} to do" if advised else "this machine is ready")
    return int(bool(advised))


if __name__ == "__main__":
    sys.exit(main())
