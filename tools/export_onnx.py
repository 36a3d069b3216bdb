r"""Write a trained model as ONNX: the earlier name of `export`, with float32 pixels.

python tools/export_onnx.py --config-file logs/VVI/sadstrm/config.yaml --out sadstrm.onnx \
    MODEL.WEIGHTS logs/VVI/sadstrm/model_final.pth

Use `python tools/export.py logs/VVI/sadstrm --out sadstrm.onnx` instead, whose file takes uint8.
"""

import argparse
import logging
import sys
from pathlib import Path

if not __package__:  # run as a file: the folder above comes first, before a foreign `plugins`
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    __package__ = Path(__file__).resolve().parent.name

from .export import FAILED
from .head import add_config, command, new_parser, parse


def parse_arguments() -> argparse.Namespace:
    """Parse the command line."""
    parser = new_parser(__doc__, failed=FAILED)
    add_config(parser, "config of the run, such as logs/run/config.yaml", required=True)
    parser.add_argument("--out", type=Path, required=True, help="an .onnx file")
    return parse(parser)


@command(parse_arguments, kept="nothing was written; the same command starts anew")
def main(args: argparse.Namespace) -> None:
    """Load, export, compare, write."""
    import torch

    from plugins.config import setup_cfg
    from plugins.errors import InputError, require_output
    from plugins.inference import Embedder
    from plugins.inference.export import export, require_packages
    from plugins.utils.io import write_bytes

    require_packages()
    # No pretrained weights are loaded, and none is exported that has cameras to count.
    opts = [*args.opts, "MODEL.BACKBONE.PRETRAIN", False, "MODEL.SELF_ATTACK.CAM_WEIGHT", 0.0]
    cfg = setup_cfg(args.config_file, opts, args.plugins)
    if not cfg.MODEL.WEIGHTS:
        raise InputError("MODEL.WEIGHTS: expected a checkpoint, found nothing")
    require_output("--out", args.out, ".onnx")
    embedder = Embedder(
        cfg.MODEL.WEIGHTS,
        config=args.config_file,
        opts=[*opts, "MODEL.DEVICE", "cpu"],
        plugins=args.plugins,
    )
    exported = export(embedder, dtype=torch.float32)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(args.out, content := exported.files[".onnx"])
    print(f"{args.out}: {len(content) / 2**20:.1f} MiB")
    print(exported.summary())
    logging.getLogger(__name__).warning(
        "export-onnx is deprecated: use export, whose file takes uint8 pixels"
    )


if __name__ == "__main__":
    main()
