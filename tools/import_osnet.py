r"""Turn an OSNet that was exported to ONNX into weights that fine-tuning can start from.

python tools/import_osnet.py osnet_x0_25_msmt17.onnx --images datasets/people --out osnet.pth
python tools/train_net.py --config-file configs/VVI/baseline.yml \
    MODEL.BACKBONE.TRUNK build_osnet_backbone MODEL.BACKBONE.DEPTH x0_25 \
    MODEL.BACKBONE.FEAT_DIM 128 MODEL.BACKBONE.PRETRAIN_PATH osnet.pth

The exporter folded every BatchNorm into a convolution. Here they are unfolded with the statistics
of your training images, of which 256 suffice: the features stay the same, and the network trains.
"""

import argparse
import importlib.util
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if not __package__:  # run as a file: the folder above comes first, before a foreign `plugins`
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    __package__ = Path(__file__).resolve().parent.name

from .head import command, new_parser

if TYPE_CHECKING:
    import torch

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp")


def parse_arguments() -> argparse.Namespace:
    """Parse the command line."""
    parser = new_parser(__doc__)
    parser.add_argument("onnx", type=Path, help="file of deep-person-reid's export")
    parser.add_argument("--images", type=Path, required=True, help="folder of training images")
    parser.add_argument("--out", type=Path, required=True, help="a .pth file")
    parser.add_argument("--number", type=int, default=256, help="images to take from the folder")
    parser.add_argument(
        "--size",
        type=int,
        nargs=2,
        default=[256, 128],
        metavar=("H", "W"),
        help="height and width of the images, pixels",
    )
    return parser.parse_args()


def read_images(folder: Path, number: int, size: list[int]) -> "torch.Tensor":
    """Read images spread over a folder, (N, 3, H, W), normalized as ImageNet's.

    Raises:
        InputError: the folder has fewer than two images.
    """
    import torch

    from plugins.config import default_cfg
    from plugins.data.frames import read_frame, resize_frame
    from plugins.errors import InputError

    files = sorted(file for file in folder.rglob("*") if file.suffix.lower() in SUFFIXES)
    if len(files) < 2 or number < 2:
        raise InputError(
            f"--images {folder}: {min(len(files), number)} images; expected 2 or more, to have "
            "a variance"
        )
    chosen = [files[i * len(files) // number] for i in range(min(number, len(files)))]
    if number >= len(files):
        chosen = files
    images = torch.stack([resize_frame(read_frame(str(file)), size) for file in chosen]).float()
    model = default_cfg().MODEL
    mean, std = (torch.tensor(row).view(3, 1, 1) for row in (model.PIXEL_MEAN, model.PIXEL_STD))
    return (images - mean) / std


@command(parse_arguments)
def main(args: argparse.Namespace) -> None:
    """Read, renormalize, compare, write."""
    import torch

    from plugins.errors import InputError, require_output
    from plugins.modeling.backbones.folded import read_osnet, renormalize
    from plugins.utils.io import write_tensors

    if importlib.util.find_spec("onnx") is None:
        raise InputError("reading ONNX needs onnx: pip install onnx")
    require_output("--out", args.out, ".pth")
    network = read_osnet(args.onnx)
    images = read_images(args.images, args.number, args.size)
    with torch.no_grad():
        before = network(images[:8])
        renormalize(network, images)
        difference = (network(images[:8]) - before).abs().max() / before.abs().max()
    write_tensors(args.out, network.state_dict())
    print(
        f"{args.out}: {len(images)} images measured; the largest change of a feature is "
        f"{float(difference):.0e} of the largest feature"
    )


if __name__ == "__main__":
    main()
