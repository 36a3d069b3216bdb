r"""Attack a model under one or several threat models, and write one table of all attacks.

python tools/compare_attacks.py --config-file logs/run/config.yaml --out comparison \
    --column "eps 4" "ATTACK.EPS 4.0" --column "eps 8" "ATTACK.EPS 8.0" \
    MODEL.WEIGHTS logs/run/model_final.pth TEST.ATTACKS "['SMA','FNA','RankMargin']"

Writes comparison.md and comparison.json; each column has its own folder there, and in
ATTACK.SAVE_IMAGES. The same command resumes an interrupted comparison.
"""

import argparse
import logging
import re
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if not __package__:  # run as a file: the folder above comes first, before a foreign `plugins`
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    __package__ = Path(__file__).resolve().parent.name

from .head import add_config, command, new_parser, parse

if TYPE_CHECKING:
    from plugins.config import CfgNode


def parse_arguments() -> argparse.Namespace:
    """Parse the command line."""
    parser = new_parser(__doc__)
    add_config(parser, "config of the run, such as logs/run/config.yaml", required=True)
    parser.add_argument("--out", type=Path, default=Path("comparison"), help="folder to write")
    parser.add_argument(
        "--column",
        nargs=2,
        action="append",
        metavar=("NAME", "OPTS"),
        help="name of a column, and its config keys and values in one word; may be repeated; "
        "default: one column with the config as it is",
    )
    return parse(parser)


@command(
    parse_arguments, kept="the results of the attacks are kept in --out; the same command resumes"
)
def main(args: argparse.Namespace) -> None:
    """Compare, print the table."""
    from plugins.config import setup_cfg
    from plugins.errors import InputError
    from plugins.robustness.report import compare

    logging.basicConfig(level=logging.INFO, format="%(message)s")
    setup_cfg(args.config_file, args.opts, args.plugins)  # what is wrong here is no column's fault
    columns = {}
    folders: dict[str, str] = {}
    for name, words in args.column or [("attacked", "")]:
        folder = re.sub(r"\W+", "_", name)
        if folder in folders:
            raise InputError(
                f"--column: '{folders[folder]}' and '{name}' share the folder {folder}; expected "
                "names that differ in letters or digits"
            )
        folders[folder] = name
        try:
            columns[name] = read_column(args, words, folder)
        except InputError as error:
            if not args.column:
                raise
            raise InputError(f"--column {name!r} {words!r}: {error}") from error
    table = compare(columns, args.out)
    print(table.read_text())
    print(f"table: {table}")


def read_column(args: argparse.Namespace, words: str, folder: str) -> "CfgNode":
    """Read the config of one column, whose results go into ``folder``.

    Raises:
        InputError: the words are no keys and values, or weights or attacks are missing.
    """
    from plugins.config import setup_cfg
    from plugins.engine.checks import check_evaluation
    from plugins.engine.defaults import take_available_device
    from plugins.errors import InputError

    try:
        overrides = shlex.split(words)
    except ValueError as error:
        raise InputError(f"{error}; expected keys and values") from error
    cfg = setup_cfg(args.config_file, [*args.opts, *overrides], args.plugins)
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
    return cfg


if __name__ == "__main__":
    main()
