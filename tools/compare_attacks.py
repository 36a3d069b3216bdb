"""Attack a model under several threat models, and write one table of all attacks.

python tools/compare_attacks.py --config-file logs/run/config.yaml --out comparison \
    --column "eps 4" "ATTACK.EPS 4.0" --column "eps 8" "ATTACK.EPS 8.0" \
    MODEL.WEIGHTS logs/run/model_final.pth TEST.ATTACKS "['SMA','FNA','RankMargin']"

Writes comparison.md and comparison.json; each column has its own folder there, and in
ATTACK.SAVE_IMAGES. The same command goes on after a stop.
"""

import argparse
import logging
import re
import shlex
import sys
from pathlib import Path

# In an uninstalled checkout; in front, or a foreign `plugins` in site-packages would win.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from plugins.config import setup_cfg
from plugins.engine import parse_with_overrides
from plugins.engine.checks import check_evaluation
from plugins.engine.defaults import take_available_device
from plugins.errors import InputError, user_errors
from plugins.robustness.comparison import compare


def parse_arguments() -> argparse.Namespace:
    """Options."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--config-file", required=True, help="of the run: logs/run/config.yaml")
    parser.add_argument("--out", type=Path, default=Path("comparison"), help="folder to write")
    parser.add_argument(
        "--column",
        nargs=2,
        action="append",
        required=True,
        metavar=("NAME", "OPTS"),
        help="its name, another for each, and config keys and values in one word; may be repeated",
    )
    return parse_with_overrides(parser)


@user_errors(kept="what the attacks found is kept in --out; the same command goes on")
def main() -> None:
    """Compare, print the table."""
    args = parse_arguments()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    columns, folders = {}, {}
    for name, words in args.column:
        folder = re.sub(r"\W+", "_", name)
        if folder in folders:
            raise InputError(
                f"--column: '{folders[folder]}' and '{name}' share the folder {folder}; expected "
                "names that differ in letters or digits"
            )
        folders[folder] = name
        try:
            own = shlex.split(words)
        except ValueError as error:
            raise InputError(f"--column: {words}: {error}; expected keys and values") from error
        cfg = setup_cfg(args.config_file, [*args.opts, *own])
        cfg.OUTPUT_DIR = str(args.out / folder)
        if cfg.ATTACK.SAVE_IMAGES:
            cfg.ATTACK.SAVE_IMAGES = str(Path(cfg.ATTACK.SAVE_IMAGES, folder))
        take_available_device(cfg)
        if not (cfg.MODEL.WEIGHTS and cfg.TEST.ATTACKS):
            raise InputError(
                "a comparison needs weights and attacks: add MODEL.WEIGHTS "
                "logs/run/model_final.pth TEST.ATTACKS \"['FNA']\""
            )
        cfg.MODEL.BACKBONE.PRETRAIN = False
        check_evaluation(cfg)
        cfg.freeze()
        columns[name] = cfg
    table = compare(columns, args.out)
    print(table.read_text())
    print(f"table: {table}")


if __name__ == "__main__":
    main()
