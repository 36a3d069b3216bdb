"""Packing the frames of a config into a cache."""

import json
import os
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import torch
from fastreid.config import CfgNode
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from plugins.data.build import build_dataset, datasets_root, frame_decoder, training_items
from plugins.data.conversion.draft import draft_of
from plugins.data.datasets.tracklet import as_tracklet
from plugins.data.frame_cache.store import (
    FRAMES,
    HEADER,
    INDEX,
    Size,
    digest,
    frame_name,
    made_with,
    make_header,
    stamp,
    store_name,
)
from plugins.data.frames import read_frame, resize_frame
from plugins.data.transforms import build_clip_transforms
from plugins.errors import InputError
from plugins.interrupts import shielded_workers

BATCH = 8  # frames that a worker hands over at once; they lie in shared memory, which may be small

Record = tuple[int, int, int]  # size, mtime_ns, digest
Read = Callable[[str], Tensor]


def pack_config(cfg: CfgNode, folder: str, workers: int) -> list[Path]:
    """Pack what a config trains and tests on; see :func:`pack_frames`.

    Returns:
        The stores: one, or two if training and testing have different sizes.
    """
    root, read = datasets_root(), frame_decoder(cfg)
    return [
        pack_frames(folder, size, paths, root, workers, read)
        for size, paths in find_frames(cfg).items()
    ]


def find_frames(cfg: CfgNode) -> dict[Size, set[str]]:
    """Image files of the training items of DATASETS.NAMES and the test items of TESTS, by size.

    Raises:
        InputError: from the data sets; or INPUT asks for what a loader would refuse.
    """
    tests = [build_dataset(name, "DATASETS.TESTS", cfg=cfg) for name in cfg.DATASETS.TESTS]
    tested = [item for data in tests for item in [*data.query, *data.gallery]]
    found: dict[Size, set[str]] = {}
    for is_train, items in ((True, training_items(cfg)), (False, tested)):
        build_clip_transforms(cfg, is_train)  # checks the size
        size = tuple(cfg.INPUT.SIZE_TRAIN if is_train else cfg.INPUT.SIZE_TEST)
        paths = (path for item in items for path in as_tracklet(item).img_paths)
        found.setdefault(size, set()).update(paths)
    return {size: paths for size, paths in found.items() if paths}


def pack_frames(
    folder: str,
    size: Size,
    paths: Iterable[str],
    root: str,
    workers: int,
    read: Read = read_frame,
) -> Path:
    """Decode, resize and write frames; the store appears, or replaces an older one, when all is in.

    Args:
        folder: of the cache.
        size: H, W.
        paths: image files, one or more.
        root: folder of all data sets.
        workers: processes that decode; 0 for none but this one.
        read: image file -> (3, h, w) uint8.

    Returns:
        The store's folder.

    Raises:
        InputError: names a frame that cannot be read, the room that the disk lacks, or what
            another packing is filling, or a killed one left.
    """
    names = {frame_name(path, root): path for path in paths}
    order = sorted(names)
    os.makedirs(folder, exist_ok=True)
    needed, free = len(order) * size[0] * size[1] * 3, shutil.disk_usage(folder).free
    if needed > free:
        raise InputError(
            f"{folder}: {len(order)} frames of {store_name(size)} take {needed / 1e9:.1f} GB, but "
            f"the disk has {free / 1e9:.1f} GB left"
        )
    store = Path(folder, store_name(size))
    old = store.with_name(f"{store.name}.old")
    with draft_of(store, "--out", "packing") as draft:
        files = SourceFrames([names[name] for name in order], size, read)
        records = _write_frames(draft / FRAMES, files, store.name, workers)
        _write_index(draft, size, order, records)
        if store.exists():  # moved aside at once; removing it takes a while
            shutil.rmtree(old, ignore_errors=True)  # of a packing that was killed
            store.rename(old)
    shutil.rmtree(old, ignore_errors=True)
    return store


class SourceFrames(Dataset):
    """Image files as a store holds them, each with its record."""

    def __init__(self, paths: list[str], size: Size, read: Read) -> None:
        """Take the files, in the order of the store."""
        self._paths = paths
        self._size = size
        self._read = read

    def __len__(self) -> int:
        return len(self._paths)

    def __getitem__(self, row: int) -> tuple[Tensor, Record]:
        """(H, W, 3) uint8 and the record."""
        path = self._paths[row]
        stamped = stamp(path)  # before it is read: a change in between will be noticed
        frame = resize_frame(self._read(path), self._size).permute(1, 2, 0).contiguous()
        return frame, (*stamped, digest(frame.numpy()))


def _collate(samples: list[tuple[Tensor, Record]]) -> tuple[Tensor, list[Record]]:
    frames, records = zip(*samples, strict=True)
    return torch.stack(frames), list(records)


def _write_frames(file: Path, frames: SourceFrames, store: str, workers: int) -> list[Record]:
    loader = DataLoader(frames, BATCH, collate_fn=_collate, **shielded_workers(workers))
    records: list[Record] = []
    with (
        open(file, "wb") as output,
        tqdm(total=len(frames), unit="frame", desc=f"packing {store}") as progress,
    ):
        for batch, some in loader:
            output.write(batch.numpy())
            records += some
            progress.update(len(some))
        output.flush()
        os.fsync(output.fileno())  # or a crash could leave a whole store with empty frames
    return records


def _write_index(folder: Path, size: Size, names: list[bytes], records: list[Record]) -> None:
    longest = max(map(len, names))
    fields = [("path", f"S{longest}"), ("size", "<i8"), ("mtime_ns", "<i8"), ("digest", "<u8")]
    rows = [(name, *record) for name, record in zip(names, records, strict=True)]
    np.save(folder / INDEX, np.array(rows, dtype=fields))
    header = make_header(size) | {
        "frames": len(rows),
        "index": digest(np.fromfile(folder / INDEX, np.uint8)),
        "made_with": made_with(),
    }
    (folder / HEADER).write_text(json.dumps(header, indent=2) + "\n", encoding="utf-8")
