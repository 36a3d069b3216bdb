r"""Compare temporal parts on real sequences: the trunk stays as it is, its maps are computed once.

python tools/compare_temporal.py projects/sadstrm/ward.yml --folder datasets/ward \
    MODEL.BACKBONE.PRETRAIN_PATH mobilenet_v2-b0353104.pth

The folder holds <person>/<camera>/<frame>.jpg. Half of the people train, the other half is searched
for, and the other way round; each camera in turn has the queries. The file has a config, seeds and
rows of config overrides, the first of which the others are compared with; "against" in a row names
another one. Printed and written to results/NAME.json beside the file: Rank-1 and mAP of each row,
and paired differences with 95 % intervals over people and seeds.
"""

import argparse
import logging
import sys
import time
from pathlib import Path

if not __package__:  # run as a file: the folder above comes first, before a foreign `plugins`
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    __package__ = Path(__file__).resolve().parent.name

from .head import add_overrides, add_plugins, command, new_parser, parse


def parse_arguments() -> argparse.Namespace:
    """Parse the command line."""
    parser = new_parser(__doc__)
    parser.add_argument("file", type=Path, help="such as projects/sadstrm/ward.yml")
    parser.add_argument("--folder", type=Path, required=True, help="folder of the sequences")
    parser.add_argument("--out", type=Path, help="file to write; default: results/NAME.json")
    add_plugins(parser)
    add_overrides(parser)
    return parse(parser)


@command(parse_arguments, kept="nothing was written; the same command starts anew")
def main(arguments: argparse.Namespace) -> None:
    """Compute maps, train and test, write and print."""
    import torch

    from plugins.errors import require_output
    from plugins.experiments.temporal_grid import grid_table, read_grid, run_grid
    from plugins.utils.io import write_json

    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    out = arguments.out or arguments.file.parent / "results" / f"{arguments.file.stem}.json"
    require_output("--out", out, ".json")
    grid = read_grid(arguments.file, arguments.opts, arguments.plugins)
    start = time.monotonic()
    results = run_grid(grid, arguments.folder)
    results |= {"seconds": round(time.monotonic() - start), "torch": torch.__version__}
    out.parent.mkdir(parents=True, exist_ok=True)
    write_json(out, results)
    print(f"{grid_table(results)}\nwritten: {out}")


if __name__ == "__main__":
    main()
