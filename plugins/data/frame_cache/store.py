"""Read a store of frames on disk, which every reading process maps into memory.

A cache is a folder with one store for each input size::

    288x144/frames.bin   (N, H, W, 3) uint8, C order
    288x144/index.npy    (N,) records: path, size, mtime_ns, digest
    288x144/header.json  format, height, width, resize, frames, index (a digest), made_with

Paths are relative to the folder of all data sets, and sorted: bisection finds a path, the index of
the path is that of its frame, and nothing is unpacked into Python objects. The header vouches for
the index, the index for the frames and for the files from which they were made.

Legend: N frames, H x W size of the input.
"""

import json
import logging
import os
import re
from bisect import bisect_left
from collections.abc import Callable
from pathlib import Path

import numpy as np
import PIL
import simplejpeg
import torch
import torchvision
from torch import Tensor

from plugins.data.frames import channels_first
from plugins.errors import InputError
from plugins.utils.commands import command_line
from plugins.utils.digests import digest, file_state

logger = logging.getLogger(__name__)

FORMAT = "fastreid-plugins frames 1"
RESIZE = "bicubic, antialiased"  # what resize_frame does
FRAMES, INDEX, HEADER = "frames.bin", "index.npy", "header.json"

Size = tuple[int, int]  # H, W
Advance = Callable[[int], object]  # receives the number of frames that are done


class FrameCache:
    """Reads frames of one size.

    A file is compared with its record when its frame is read: one stat, which is cheap compared
    with decoding, and which also notices a file that changes during a run. A frame is compared with
    its digest when the process reads it for the first time. Opening checks neither.
    """

    def __init__(self, folder: str, size: Size, root: str) -> None:
        """Open a store, read-only.

        Args:
            folder: folder of the cache.
            size: H, W.
            root: folder of all data sets.

        Raises:
            InputError: there is no store of that size, it was packed in another way, or one of its
                files is missing, cut off or damaged.
        """
        self._arguments = folder, size, root
        self._root = root
        self._store = Path(folder, store_name(size))
        self._remedy = remedy(folder)
        require_store(folder, size)
        header = self._read_header(size)
        self._index = self._open_index(header)
        self._paths = self._index["path"]
        self._frames = self._open_frames((len(self._index), *size, 3))
        self._compared = bytearray(len(self._index))  # whether a frame was, with its digest
        if header.get("made_with") != (here := made_with()):
            logger.warning(
                "%s was packed with %s, here is %s: frames may differ from decoded ones by a gray "
                "level",
                self._store,
                header.get("made_with"),
                here,
            )

    def __len__(self) -> int:
        return len(self._index)

    def __reduce__(self) -> tuple:
        """Let a spawned worker open the store; a map would be pickled with all its bytes."""
        return FrameCache, self._arguments

    def read(self, path: str) -> Tensor:
        """Read the frame of an image file.

        Returns:
            (3, H, W) uint8, RGB, as ``resize_frame(read_frame(path), size)`` gives it.

        Raises:
            InputError: the file was not packed, is gone or has changed since; or the frame is not
                as it was packed.
        """
        row = self._find(path)
        record, (size, mtime_ns) = self._index[row], file_state(path)
        if (size, mtime_ns) != (record["size"], record["mtime_ns"]):
            raise InputError(
                f"{path}: changed since it was packed into {self._store} ({size} bytes, "
                f"modified at {mtime_ns} ns; packed: {record['size']}, {record['mtime_ns']}); "
                f"{self._remedy}"
            )
        frame = self._frames[row]
        if not self._compared[row]:
            if digest(frame) != record["digest"]:
                raise InputError(
                    f"{self._store / FRAMES}: the frame of {path} is not as packed; {self._remedy}"
                )
            self._compared[row] = True
        return channels_first(frame)

    def verify(self, advance: Advance = lambda frames: None) -> None:
        """Read every frame and compare it with its digest.

        Args:
            advance: receives the number of frames whenever some are compared.

        Raises:
            InputError: frames differ; the message says how many, and names the first.
        """
        damaged = []
        for row in range(len(self)):
            if digest(self._frames[row]) != self._index["digest"][row]:
                damaged.append(row)
            advance(1)
        if damaged:
            raise InputError(
                f"{self._store / FRAMES}: {len(damaged)} of {len(self)} frames are not as packed, "
                f"the first is that of {os.fsdecode(self._paths[damaged[0]])}; {self._remedy}"
            )

    def _find(self, path: str) -> int:
        name = frame_name(path, self._root)
        row = bisect_left(self._paths, name)
        if row == len(self) or self._paths[row] != name:
            raise InputError(
                f"{path}: not among the {len(self)} frames of {self._store}, which was packed for "
                f"other data sets; {self._remedy}"
            )
        return row

    def _read_header(self, size: Size) -> dict:
        path = self._store / HEADER
        try:
            header = json.loads(path.read_text(encoding="utf-8"))
            if not isinstance(header, dict):
                raise ValueError("no JSON object")
        except (OSError, ValueError, RecursionError) as error:
            raise InputError(f"{path}: not a header of frames: {error}; {self._remedy}") from error
        for key, expected in make_header(size).items():
            if header.get(key) != expected:
                raise InputError(
                    f"{path}: {key} is {header.get(key)!r}, expected {expected!r}; {self._remedy}"
                )
        return header

    def _open_index(self, header: dict) -> np.ndarray:
        path = self._store / INDEX
        try:
            if digest(np.memmap(path, np.uint8, mode="r")) != header.get("index"):
                raise ValueError("its digest is not the header's")
            index = np.load(path, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError) as error:
            raise InputError(f"{path}: not the packed index: {error}; {self._remedy}") from error
        return np.asarray(index)  # without memmap's own, slower indexing

    def _open_frames(self, shape: tuple[int, ...]) -> np.ndarray:
        path, expected = self._store / FRAMES, int(np.prod(shape))
        size = path.stat().st_size if path.is_file() else 0
        if size != expected:
            raise InputError(
                f"{path}: {size} bytes, expected {expected} for {shape[0]} frames; {self._remedy}"
            )
        return np.asarray(np.memmap(path, np.uint8, mode="r", shape=shape))


def require_store(folder: str, size: Size) -> None:
    """Raise InputError unless a cache has a store of a size; no frame is read."""
    if not Path(folder, store_name(size)).is_dir():
        others = ", ".join(map(store_name, find_sizes(folder))) or "nothing"
        raise InputError(
            f"DATALOADER.FRAME_CACHE {folder}: no frames of {store_name(size)} there, found "
            f"{others}; {remedy(folder)}"
        )


def remedy(folder: str) -> str:
    """Say how to make a cache again, for the end of a message."""
    return f"pack it again: {command_line('cache_data')} --config-file ... --out {folder}"


def store_name(size: Size) -> str:
    """Name the store's folder.

    >>> store_name((288, 144))
    '288x144'
    """
    return "x".join(map(str, size))


def find_sizes(folder: str) -> list[Size]:
    """List the sizes that a cache holds, ascending."""
    names = os.listdir(folder) if os.path.isdir(folder) else []
    matches = (re.fullmatch(r"(\d+)x(\d+)", name) for name in names)
    return sorted((int(size[1]), int(size[2])) for size in matches if size)


def frame_name(path: str, root: str) -> bytes:
    """Name an image file as an index does."""
    return os.fsencode(os.path.relpath(path, root))


def make_header(size: Size) -> dict:
    """Make the part of a header that a reader requires."""
    return {"format": FORMAT, "height": size[0], "width": size[1], "resize": RESIZE}


def made_with() -> dict[str, str]:
    """Name what may move a gray level: decoders, resize, and the CPU's kernel for it."""
    return {
        "pillow": PIL.__version__,
        "simplejpeg": simplejpeg.__version__,
        "torch": torch.__version__,
        "torchvision": torchvision.__version__,
        "cpu": torch.backends.cpu.get_cpu_capability(),
    }
