"""Cut an extraction into shards and parts, so that an interrupted one goes on where it stopped.

Legend: N items, B items of a batch, M clips of a part, D feature length.
"""

import contextlib
import os
from collections.abc import Iterable, Mapping
from hashlib import blake2b
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from plugins.errors import InputError
from plugins.utils.digests import file_state
from plugins.utils.io import read_mapping, read_tensors, write_json, write_tensors

IDENTITY = "extraction.json"
LABELS = ("person", "camera", "modality")


class Parts:
    """A folder with a file for each part of an extraction, written one after another.

    Attributes:
        folder: the folder, which this process holds.
    """

    def __init__(self, folder: Path, identity: dict) -> None:
        """Go on with the extraction in the folder, or begin where it holds no part.

        Args:
            folder: must exist.
            identity: plain values that decide every feature and its place.

        Raises:
            InputError: the folder holds parts of another extraction.
        """
        self.folder = folder
        about = folder / IDENTITY
        found = None
        if about.is_file():
            found = read_mapping(about, "what an extraction was started with")
        if found is not None and found != identity and self._file(0).is_file():
            keys = [key for key in identity if found.get(key) != identity[key]]
            raise InputError(
                f"{folder}: holds parts of another extraction ({', '.join(keys)} differ); "
                "remove it to begin anew"
            )
        if found != identity:
            write_json(about, identity)

    def read(self) -> list[tuple[Tensor, Tensor]]:
        """Read the features (M, D) and the rows (M,) of each part that was written."""
        parts: list[tuple[Tensor, Tensor]] = []
        while (file := self._file(len(parts))).is_file():
            part = read_tensors(file, "part of an extraction")
            if not isinstance(part, dict) or part.keys() != {"features", "rows"}:
                raise InputError(f"{file}: no part of an extraction; remove it to compute it anew")
            parts.append((part["features"], part["rows"]))
        return parts

    def write(self, number: int, features: Tensor, rows: Tensor) -> None:
        """Write part ``number``, whole or not at all."""
        write_tensors(self._file(number), {"features": features.clone(), "rows": rows.clone()})

    def _file(self, number: int) -> Path:
        return self.folder / f"part_{number:06d}.pth"


def items_digest(names: Iterable[str], files: Iterable[str]) -> str:
    """Digest the names of items and the state of their files, so that a change is noticed.

    Raises:
        InputError: a file is missing.
    """
    digest = blake2b(digest_size=8)
    for name in names:
        digest.update(f"{name}\0".encode())
    for file in sorted(files):
        size, changed = file_state(file)
        digest.update(f"{file}\0{size}\0{changed}\0".encode())
    return digest.hexdigest()


def labels_digest(columns: Mapping[str, np.ndarray]) -> str:
    """Digest what items are labeled with; the modality decides a feature, too.

    Args:
        columns: person, camera and modality, each (N,) str, and others.
    """
    digest = blake2b(digest_size=8)
    for labels in zip(*(columns[name].tolist() for name in LABELS), strict=True):
        digest.update("\0".join((*labels, "")).encode())
    return digest.hexdigest()


def joined(parts: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    """Join parts to the features and the rows of all clips."""
    features, rows = zip(*parts, strict=True)
    return torch.cat(features), torch.cat(rows)


def shard_rows(number: int, shard: tuple[int, int], batch: int) -> tuple[int, int]:
    """Return the first item of a shard and that behind its last; shards are cut between batches.

    Args:
        number: N.
        shard: (i, n), i from 0.
        batch: B.

    Raises:
        InputError: there is no such shard, or it would be empty.

    >>> shard_rows(100, (1, 3), 16)
    (32, 64)
    """
    index, shards = shard
    if not 0 <= index < shards:
        raise InputError(f"shard {index}/{shards}: expected I/N with I from 0 to N - 1")
    batches = -(-number // batch)
    if shards > batches:
        raise InputError(
            f"shard {index}/{shards}: {number} items are {batches} batches of {batch} "
            f"(TEST.IMS_PER_BATCH); expected at most {batches} shards"
        )
    first, last = (batch * (batches * edge // shards) for edge in (index, index + 1))
    return first, min(last, number)


def remove_parts(folder: str | os.PathLike) -> None:
    """Remove the folder of an extraction whose features are saved."""
    folder = Path(folder)
    for file in folder.iterdir() if folder.is_dir() else ():
        file.unlink()
    with contextlib.suppress(OSError):
        folder.rmdir()
