r"""Attack a model in many ways, and check whether its robust accuracy can be trusted.

python tools/robust_report.py --config-file logs/run/config.yaml --level quick --out report \
    MODEL.WEIGHTS logs/run/model_final.pth ATTACK.EPS 8.0

Writes a card (JSON), its Markdown and one page of HTML for each direction of each test set.
The same command resumes an interrupted report. The exit status does not depend on the verdict.
"""

import argparse
import logging
import sys
from pathlib import Path

if not __package__:  # run as a file: the folder above comes first, before a foreign `plugins`
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    __package__ = Path(__file__).resolve().parent.name

from .head import add_config, command, new_parser, parse


def parse_arguments() -> argparse.Namespace:
    """Parse the command line."""
    parser = new_parser(__doc__)
    add_config(parser, "config of the run, such as logs/run/config.yaml", required=True)
    parser.add_argument("--level", default="quick", help="quick, standard or full")
    parser.add_argument("--out", type=Path, default=Path("report"), help="folder to write")
    parser.add_argument(
        "--undefended",
        default="",
        metavar="WEIGHTS",
        help="weights of the same model without its defense",
    )
    parser.add_argument(
        "--other-seeds",
        default=[],
        action="append",
        metavar="WEIGHTS",
        help="weights of the same config trained with another seed; may be repeated",
    )
    return parse(parser)


@command(
    parse_arguments, kept="the results of the attacks are kept in --out; the same command resumes"
)
def main(args: argparse.Namespace) -> None:
    """Write the reports; print the path and the headline of each."""
    from plugins.config import setup_cfg
    from plugins.engine.checks import check_evaluation
    from plugins.engine.defaults import take_available_device
    from plugins.errors import InputError
    from plugins.robustness.report import write_reports
    from plugins.robustness.report.write import check_level

    logging.basicConfig(level=logging.INFO, format="%(message)s")
    check_level(args.level)
    cfg = setup_cfg(args.config_file, args.opts, args.plugins)
    take_available_device(cfg)
    if not cfg.MODEL.WEIGHTS:
        raise InputError("a report needs weights: add MODEL.WEIGHTS logs/run/model_final.pth")
    cfg.MODEL.BACKBONE.PRETRAIN = False
    check_evaluation(cfg)
    cfg.freeze()
    for path, card in write_reports(cfg, args.level, args.out, args.undefended, args.other_seeds):
        print(f"{path}: {card['headline']}")


if __name__ == "__main__":
    main()
