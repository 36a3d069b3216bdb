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

# In an uninstalled checkout; in front, or a foreign `plugins` in site-packages would win.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch

from plugins.engine import parse_with_overrides
from plugins.errors import user_errors
from plugins.experiments.temporal_grid import grid_table, read_grid, run_grid
from plugins.utils.io import write_json


def parse_arguments() -> argparse.Namespace:
    """Options."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("file", type=Path, help="such as projects/sadstrm/ward.yml")
    parser.add_argument("--folder", type=Path, required=True, help="of the sequences")
    parser.add_argument("--out", type=Path, help="instead of results/NAME.json")
    return parse_with_overrides(parser)


@user_errors(kept="nothing was written; the same command starts anew")
def main() -> int:
    """Compute maps, train and test, write and print."""
    arguments = parse_arguments()
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    grid = read_grid(arguments.file, arguments.opts)
    out = arguments.out or grid.file.parent / "results" / f"{grid.file.stem}.json"
    start = time.monotonic()
    results = run_grid(grid, arguments.folder)
    results |= {"seconds": round(time.monotonic() - start), "torch": torch.__version__}
    out.parent.mkdir(parents=True, exist_ok=True)
    write_json(out, results)
    print(f"{grid_table(results)}\nwritten: {out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
