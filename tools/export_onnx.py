r"""Write a trained model as ONNX, pixels in and features out, and compare both.

python tools/export_onnx.py --config-file logs/VVI/sadstrm/config.yaml --out sadstrm.onnx \
    MODEL.WEIGHTS logs/VVI/sadstrm/model_final.pth

The file holds the normalisation, and nothing that only training needs.
"""

import argparse
import sys
from pathlib import Path

if not __package__:  # run as a file: the folder above comes first, before a foreign `plugins`
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    __package__ = Path(__file__).resolve().parent.name

from .head import add_config, command, new_parser, parse


def parse_arguments() -> argparse.Namespace:
    """Parse the command line."""
    parser = new_parser(__doc__, failed="the features of the file are not those of the model")
    add_config(parser, "config of the run, such as logs/run/config.yaml", required=True)
    parser.add_argument("--out", type=Path, required=True, help="an .onnx file")
    return parse(parser)


@command(parse_arguments, kept="nothing was written; the same command starts anew")
def main(args: argparse.Namespace) -> int:
    """Load, export, compare; 1 if the file's features are not the model's."""
    from plugins.config import setup_cfg
    from plugins.engine.onnx_export import (
        TOLERANCE,
        export_onnx,
        largest_difference,
        load_deployed,
        require_onnx,
    )
    from plugins.errors import InputError, require_output

    require_onnx()
    here = ["MODEL.BACKBONE.PRETRAIN", False, "MODEL.DEVICE", "cpu"]
    attacker = ["MODEL.SELF_ATTACK.CAM_WEIGHT", 0.0]  # none is exported: no cameras to count
    cfg = setup_cfg(args.config_file, [*args.opts, *here, *attacker], args.plugins)
    if not cfg.MODEL.WEIGHTS:
        raise InputError("MODEL.WEIGHTS: expected a checkpoint, found nothing")
    require_output("--out", args.out, ".onnx")
    model = load_deployed(cfg)
    export_onnx(model, cfg, args.out)
    size = args.out.stat().st_size / 2**20
    difference = largest_difference(model, cfg, args.out)
    print(f"{args.out}: {size:.1f} MiB, largest difference of a feature {difference:.1e}")
    # Not "> TOLERANCE": a NaN must fail.
    if not difference <= TOLERANCE:
        print(
            f"{args.out}: not the model's features: they differ by {difference:.1e}; expected "
            f"{TOLERANCE:g} at most",
            file=sys.stderr,
        )
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
