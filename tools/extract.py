r"""Compute features with a trained model, from the folder of its run.

python tools/extract.py logs/run --dataset HITSZVCM --out features.npz
python tools/extract.py logs/run --clips recordings --names "(?P<person>[^/]+)/" --out gallery.npz

Items are those of a data set; the pictures below a folder; the clips below a folder, which are
folders of frames and videos of one person each; or files. An interrupted command goes on where it
stopped when it is given again. Of several shards, or under torchrun, each writes a file of its own.
With --store they write to one folder as they go, and nothing is kept in memory: score reads it.
"""

import argparse
import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

if not __package__:  # run as a file: the folder above comes first, before a foreign `plugins`
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    __package__ = Path(__file__).resolve().parent.name

from .head import command, new_parser, parse
from .trained import add_run, add_run_options, open_run

if TYPE_CHECKING:
    from plugins.inference import Labels

MODALITY = "visible"
KEPT = "parts that were written are kept; the same command goes on"


def parse_arguments() -> argparse.Namespace:
    """Parse the command line."""
    parser = new_parser(__doc__)
    add_run(parser)
    add_run_options(parser)
    items = parser.add_mutually_exclusive_group(required=True)
    items.add_argument("--dataset", metavar="NAME", help="a registered name, as in DATASETS.TESTS")
    items.add_argument("--pictures", type=Path, metavar="FOLDER", help="each picture is an item")
    items.add_argument(
        "--clips", type=Path, metavar="FOLDER", help="each folder of frames or video is an item"
    )
    items.add_argument("--list", type=Path, metavar="FILE", help="a text file, a path on each line")
    items.add_argument(
        "--file",
        action="append",
        metavar="PATH",
        help="a picture, a video or a folder of frames; may be repeated",
    )
    parser.add_argument(
        "--split",
        default="test",
        help="split of the data set: train, query, gallery, or test for both",
    )
    parser.add_argument(
        "--names",
        default="",
        metavar="PATTERN",
        help="regular expression with groups person, camera or modality, found in an item's name",
    )
    parser.add_argument(
        "--modality", help="modality of items whose names tell none: visible (default) or infrared"
    )
    parser.add_argument(
        "--shard", default="", metavar="I/N", help="extract part I of N, from 0, alone"
    )
    out = parser.add_mutually_exclusive_group(required=True)
    out.add_argument("--out", type=Path, help="write the features to this .npz or .parquet file")
    out.add_argument(
        "--store", type=Path, metavar="FOLDER", help="write them to this folder, part by part"
    )
    parser.add_argument(
        "--dtype", default="float32", help="type of the numbers in the store: float16 or float32"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace what is at --out")
    return parse(parser)


def shard_of(text: str) -> tuple[int, int]:
    """Read I/N; without it torchrun's rank, if there is one."""
    from plugins.errors import InputError

    if not text:
        return int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
    index, _, shards = text.partition("/")
    if not (index.isdecimal() and shards.isdecimal()):
        raise InputError(f"--shard {text}: expected I/N, such as 0/4")
    return int(index), int(shards)


def labels_of(args: argparse.Namespace) -> "Labels":
    """Return what tells person, camera and modality."""
    from plugins.inference import Labels

    return Labels(args.names, args.modality or MODALITY)


def by_default(args: argparse.Namespace, names: Iterable[str]) -> str:
    """Say how many items neither their names nor --modality give a modality; empty for none."""
    labels = labels_of(args)
    if args.dataset or args.modality:
        return ""
    number = sum(not labels.tells_modality(name) for name in names)
    return f"; {number} of them {MODALITY} by default, see --modality" if number else ""


def write_store(args: argparse.Namespace, shard: tuple[int, int]) -> None:
    """Load the model, and write features to a folder as they are computed."""
    from plugins.errors import InputError
    from plugins.inference.sources import read_list
    from plugins.inference.store import DTYPES

    if args.dtype not in DTYPES:
        raise InputError(f"--dtype {args.dtype}: expected {' or '.join(DTYPES)}")
    if args.overwrite:
        raise InputError("--overwrite: a store goes on; remove its folder to begin anew")
    embedder = open_run(args)
    store = embedder.store(
        args.store,
        dataset=args.dataset or "",
        split=args.split,
        pictures=args.pictures or "",
        clips=args.clips or "",
        files=read_list(args.list) if args.list else args.file or (),
        labels=None if args.dataset else labels_of(args),
        dtype=args.dtype,
        shard=shard,
    )
    part = f", shard {shard[0]}/{shard[1]}" if shard[1] > 1 else ""
    default = by_default(args, store.column("name").tolist())
    print(f"{args.store}: {len(store)} items, features of length {store.length}{part}{default}")


@command(parse_arguments, kept=KEPT)
def main(args: argparse.Namespace) -> None:
    """Load the model, compute, save."""
    from plugins.errors import InputError, require_output
    from plugins.inference.features import ending_of
    from plugins.inference.parts import remove_parts
    from plugins.inference.sources import read_list

    shard = shard_of(args.shard)
    if args.dataset is None and args.split != "test":
        raise InputError(f"--split {args.split}: expected it with --dataset alone")
    if args.dataset and args.names:
        raise InputError(f"--names {args.names}: a data set has names of its own")
    if args.dataset and args.modality:
        raise InputError(f"--modality {args.modality}: a data set has modalities of its own")
    if args.store:
        return write_store(args, shard)
    index, shards = shard
    out = args.out
    require_output("--out", out, ending_of(out, "--out"))
    if shards > 1:
        out = out.with_name(f"{out.stem}.{index}-of-{shards}{out.suffix}")
    if out.exists() and not args.overwrite:
        raise InputError(f"--out {out}: it is there already; expected --overwrite or another name")
    labels = labels_of(args)
    out.parent.mkdir(parents=True, exist_ok=True)
    parts = out.with_name(f"{out.name}.parts")
    embedder = open_run(args)
    more = {"shard": shard, "resume": parts}
    if args.dataset:
        features = embedder.dataset(args.dataset, args.split, **more)
    elif args.pictures:
        features = embedder.pictures(args.pictures, labels, **more)
    elif args.clips:
        features = embedder.clips(args.clips, labels, **more)
    else:
        files = read_list(args.list) if args.list else args.file
        features = embedder.files(files, labels, **more)
    features.save(out)
    remove_parts(parts)
    length, default = features.features.shape[1], by_default(args, features.name.tolist())
    print(f"{out}: {len(features)} items, features of length {length}{default}")


if __name__ == "__main__":
    main()
