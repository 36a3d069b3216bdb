"""Decode and resize every frame of a config once, so that its runs need not do it again.

python tools/cache_data.py --config-file configs/VVI/sadstrm.yml --out cache
python tools/cache_data.py --verify cache

A frame takes 3 bytes a pixel: 124 KB at 288 x 144. A cache is that of one config: packing again
replaces the frames of the same size once the new ones are complete. The data sets are looked for in
FASTREID_DATASETS.
"""

import argparse
import sys
from pathlib import Path

if not __package__:  # run as a file: the folder above comes first, before a foreign `plugins`
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    __package__ = Path(__file__).resolve().parent.name

from .head import add_config, add_workers, check_workers, command, new_parser, parse


def parse_arguments() -> argparse.Namespace:
    """Parse the command line."""
    parser = new_parser(__doc__)
    add_config(parser, "config that names the data sets and the sizes")
    task = parser.add_mutually_exclusive_group(required=True)
    task.add_argument("--out", type=Path, help="folder of the cache")
    task.add_argument("--verify", metavar="DIR", help="compare a cache with its digests")
    add_workers(parser)
    return parse(parser)


def pack(args: argparse.Namespace) -> None:
    """Pack the frames; print their size and how to use them."""
    from plugins.config import setup_cfg
    from plugins.data.frame_cache.packing import pack_config
    from plugins.engine.checks import check_dataset_names

    cfg = setup_cfg(args.config_file, args.opts, args.plugins)
    check_dataset_names(cfg, "NAMES", "TESTS")
    for store in pack_config(cfg, str(args.out), args.workers):
        size = sum(file.stat().st_size for file in store.iterdir())
        print(f"{store}: {size / 1e6:,.1f} MB")
    print(f"use it with: DATALOADER.FRAME_CACHE {args.out}")


def verify(folder: str) -> None:
    """Check each store of a cache."""
    from tqdm import tqdm

    from plugins.data import datasets_root
    from plugins.data.frame_cache.store import FrameCache, find_sizes, store_name
    from plugins.errors import InputError

    sizes = find_sizes(folder)
    if not sizes:
        raise InputError(f"--verify {folder}: no frames there, expected folders such as 288x144")
    stores = {store_name(size): FrameCache(folder, size, datasets_root()) for size in sizes}
    total = sum(map(len, stores.values()))
    with tqdm(total=total, unit="frame", desc=f"comparing {folder}") as progress:
        for name, store in stores.items():
            store.verify(progress.update)
            tqdm.write(f"{Path(folder, name)}: {len(store):,} frames as packed")


@command(
    parse_arguments,
    kept="frames of a size are written all or not at all: those that were there before stay until "
    "the new ones are whole; the same command starts anew",
)
def main(args: argparse.Namespace) -> None:
    """Pack or verify."""
    from plugins.errors import InputError, require_output

    check_workers(args.workers, least=0)
    if args.verify:
        if args.opts or args.config_file:
            given = args.config_file or " ".join(args.opts)
            raise InputError(f"--verify {args.verify}: takes no config; found {given}")
        verify(args.verify)
    else:
        require_output("--out", args.out)
        pack(args)


if __name__ == "__main__":
    main()
