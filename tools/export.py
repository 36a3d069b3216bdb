r"""Write a trained model as a file that runs without this package.

python tools/export.py logs/run --out logs/run/model.onnx
python tools/export.py logs/run --out logs/run/model.onnx --out logs/run/model.pt2

An .onnx file runs with onnxruntime and numpy alone, a .pt2 file with torch alone (torch.export). It
takes uint8 pixels at the model's size, (batch, frames, 3, height, width), or (batch, 3, height,
width) of a model of images, and modalities, 0 visible and 1 infrared. It gives the features of
`extract`. The file holds the normalization, too, and says what the model takes.
"""

import argparse
import sys
from pathlib import Path

if not __package__:  # run as a file: the folder above comes first, before a foreign `plugins`
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    __package__ = Path(__file__).resolve().parent.name

from .head import add_config, command, new_parser, parse

FAILED = "the features of the file are not those of the model; nothing was written"


def parse_arguments() -> argparse.Namespace:
    """Parse the command line."""
    parser = new_parser(__doc__, failed=FAILED)
    parser.add_argument("run", type=Path, help="folder of a run, or a file of weights")
    add_config(parser, "config to use; default: config.yaml in the folder of the run")
    parser.add_argument("--weights", default="", help="default: the newest checkpoint of the run")
    parser.add_argument(
        "--out",
        type=Path,
        action="append",
        required=True,
        metavar="FILE",
        help="an .onnx or a .pt2 file; twice for both",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace what is at --out")
    parser.add_argument(
        "--color", default="RGB", help="order of the channels that the file takes: RGB, or BGR"
    )
    parser.add_argument("--opset", type=int, help="version of the ONNX operators")
    parser.add_argument(
        "--threshold", type=Path, metavar="FILE", help="put this JSON file of `threshold` in"
    )
    return parse(parser)


@command(parse_arguments, kept="nothing was written; the same command starts anew")
def main(args: argparse.Namespace) -> None:
    """Check the arguments, load, export, compare, write."""
    from plugins.errors import InputError, require_output
    from plugins.inference import Embedder
    from plugins.inference.export import export, read_threshold, require_packages
    from plugins.inference.export.build import by_ending
    from plugins.inference.export.metadata import require_color
    from plugins.inference.export.onnx_file import OPSET, require_opset
    from plugins.utils.io import require_file, write_bytes

    outputs = by_ending(args.out)
    if ".onnx" in outputs:
        require_packages()
    elif args.opset is not None:
        raise InputError(f"--opset {args.opset}: expected it with an .onnx file alone")
    require_opset(opset := OPSET if args.opset is None else args.opset)
    require_color(args.color)
    for ending, path in outputs.items():
        require_output("--out", path, ending)
        if path.exists() and not args.overwrite:
            raise InputError(
                f"--out {path}: it is there already; expected --overwrite or another name"
            )
    if args.threshold:
        require_file(args.threshold, "--threshold")
    embedder = Embedder(
        args.run,
        config=args.config_file,
        weights=args.weights,
        opts=[*args.opts, "MODEL.DEVICE", "cpu"],
        plugins=args.plugins,
    )
    metric = embedder.cfg.TEST.METRIC
    threshold = read_threshold(args.threshold, metric) if args.threshold else None
    exported = export(embedder, outputs, opset=opset, color=args.color, threshold=threshold)
    for ending, path in outputs.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        content = exported.files[ending]
        write_bytes(path, content)
        print(f"{path}: {len(content) / 2**20:.1f} MiB")
    print(exported.summary())


if __name__ == "__main__":
    main()
