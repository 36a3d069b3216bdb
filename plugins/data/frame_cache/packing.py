"""Pack the frames of a config into a cache."""

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

from plugins.data.datasets.build import build_dataset, datasets_root, training_items
from plugins.data.datasets.tracklet import as_tracklet
from plugins.data.frame_cache.store import (
    FRAMES,
    HEADER,
    INDEX,
    Advance,
    Size,
    frame_name,
    made_with,
    make_header,
    store_name,
)
from plugins.data.frames import frame_decoder, read_frame, resize_frame
from plugins.data.outside import require_outside
from plugins.data.transforms import build_clip_transforms
from plugins.errors import InputError
from plugins.interrupts import shield_loader_worker, start_workers
from plugins.utils.digests import digest, file_state
from plugins.utils.drafts import draft_of
from plugins.utils.io import make_folder, write_atomically, write_errors, write_json

BATCH = 8  # frames that a worker hands over together, in shared memory, which may be small

Record = tuple[int, int, int]  # size, mtime_ns, digest
Read = Callable[[str], Tensor]


def pack_config(cfg: CfgNode, folder: str, workers: int) -> list[Path]:
    """Pack the frames that a config trains and tests on; see :func:`pack_frames`.

    Returns:
        The stores: one, or two if training and testing have different sizes.
    """
    root, read = datasets_root(), frame_decoder(cfg)
    files = find_frames(cfg, folder)
    total = sum(map(len, files.values()))
    with tqdm(total=total, unit="frame", desc=f"packing {folder}") as progress:
        return [
            pack_frames(folder, size, paths, root, workers, read, progress.update)
            for size, paths in files.items()
        ]


def find_frames(cfg: CfgNode, folder: str = "") -> dict[Size, set[str]]:
    """List the image files of DATASETS.NAMES (training) and TESTS (test items), by input size.

    Args:
        cfg: of the run.
        folder: where the cache will be; empty for none.

    Raises:
        InputError: from the data sets; INPUT has a value that a loader would refuse; or ``folder``
            lies in a data set.
    """
    tests = [build_dataset(name, "DATASETS.TESTS", cfg=cfg) for name in cfg.DATASETS.TESTS]
    tested = [item for data in tests for item in [*data.query, *data.gallery]]
    trained = training_items(cfg)
    if folder:
        require_outside("--out", folder, [*trained, *tested])
    files: dict[Size, set[str]] = {}
    for is_train, items in ((True, trained), (False, tested)):
        build_clip_transforms(cfg, is_train)  # checks the size
        height, width = cfg.INPUT.SIZE_TRAIN if is_train else cfg.INPUT.SIZE_TEST
        paths = (path for item in items for path in as_tracklet(item).img_paths)
        files.setdefault((height, width), set()).update(paths)
    return {size: paths for size, paths in files.items() if paths}


def pack_frames(
    folder: str,
    size: Size,
    paths: Iterable[str],
    root: str,
    workers: int,
    read: Read = read_frame,
    advance: Advance = lambda frames: None,
) -> Path:
    """Decode, resize and write frames; the store appears, or replaces an older one, when complete.

    Args:
        folder: folder of the cache.
        size: H, W.
        paths: image files, one or more.
        root: folder of all data sets.
        workers: number of further processes that decode.
        read: image file -> (3, h, w) uint8.
        advance: receives the number of frames whenever some are written.

    Returns:
        The store's folder.

    Raises:
        InputError: a frame cannot be read, the disk lacks room, another packing is filling the
            store, or a killed one left it.
    """
    store = Path(folder, store_name(size))
    old = store.with_name(f"{store.name}.old")
    for replaced in (store, old):
        require_store(replaced)
    names = {frame_name(path, root): path for path in paths}
    order = sorted(names)
    make_folder(folder, "--out")
    needed, free = len(order) * size[0] * size[1] * 3, shutil.disk_usage(folder).free
    if needed > free:
        raise InputError(
            f"{folder}: {len(order)} frames of {store_name(size)} take {needed / 1e9:.1f} GB, but "
            f"the disk has {free / 1e9:.1f} GB left"
        )
    with draft_of(store, "--out", "packing") as draft:
        files = SourceFrames([names[name] for name in order], size, read)
        records = _write_frames(draft / FRAMES, files, workers, advance)
        _write_index(draft, size, order, records)
        if store.exists():  # moved aside at once; removing it takes a while
            shutil.rmtree(old, ignore_errors=True)  # of a packing that was killed
            store.rename(old)
    shutil.rmtree(old, ignore_errors=True)
    return store


def require_store(path: Path) -> None:
    """Raise InputError if there is anything at ``path`` but files of a store, damaged or not."""
    if not os.path.lexists(path):
        return
    folder = path.is_dir() and not path.is_symlink()
    others = sorted({*os.listdir(path)} - {FRAMES, HEADER, INDEX}) if folder else [path.name]
    if others:
        raise InputError(
            f"--out {path}: {others[0]} is there, which is no part of packed frames, and packing "
            "would replace it; move it away, or name another folder"
        )


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
        """Return the frame, (H, W, 3) uint8, and its record."""
        path = self._paths[row]
        state = file_state(path)  # before the file is read, so that a later change is noticed
        frame = resize_frame(self._read(path), self._size).permute(1, 2, 0).contiguous()
        return frame, (*state, digest(frame.numpy()))


def _collate(samples: list[tuple[Tensor, Record]]) -> tuple[Tensor, list[Record]]:
    frames, records = zip(*samples, strict=True)
    return torch.stack(frames), list(records)


def _write_frames(file: Path, frames: SourceFrames, workers: int, advance: Advance) -> list[Record]:
    loader = DataLoader(
        frames,
        BATCH,
        num_workers=workers,
        collate_fn=_collate,
        worker_init_fn=shield_loader_worker,
    )
    records: list[Record] = []
    with write_errors(file), open(file, "wb") as output:
        for batch, batch_records in start_workers(loader):
            output.write(batch.numpy())
            records += batch_records
            advance(len(batch_records))
        output.flush()
        os.fsync(output.fileno())  # a crash could leave a complete store with empty frames
    return records


def _write_index(folder: Path, size: Size, names: list[bytes], records: list[Record]) -> None:
    longest = max(map(len, names))
    fields = [("path", f"S{longest}"), ("size", "<i8"), ("mtime_ns", "<i8"), ("digest", "<u8")]
    rows = [(name, *record) for name, record in zip(names, records, strict=True)]
    index = np.array(rows, dtype=fields)
    write_atomically(folder / INDEX, lambda file: np.save(file, index))
    header = make_header(size) | {
        "frames": len(rows),
        "index": digest(np.fromfile(folder / INDEX, np.uint8)),
        "made_with": made_with(),
    }
    write_json(folder / HEADER, header)
