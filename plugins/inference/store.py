"""Features of very many items in a folder on disk, written part by part and read as they lie there.

Legend: N items, D feature length.

The folder holds ``store.json`` (schema, version, N, D, type, and what made the features),
``features.bin`` (N rows of D numbers), ``items.npz`` (the names of the items) and, for each shard,
where its rows begin, how many are written, and their CRC-32, which is compared when the features
are read. Processes that write different shards share the folder.
"""

import json
import os
import zlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from plugins.errors import InputError
from plugins.evaluation import RankingResult, Side, evaluate_ranking
from plugins.inference.features import NAMES, Features, join, network_differences, require_about
from plugins.inference.junk import number_cameras, number_names, warn_without_camera
from plugins.inference.parts import LABELS
from plugins.utils.io import (
    require_fields,
    require_file,
    write_atomically,
    write_errors,
    write_json,
)

SCHEMA, VERSION = "fastreid-plugins/feature-store", 1
DTYPES = {"float16": torch.float16, "float32": torch.float32}
ABOUT, FEATURES, ITEMS = "store.json", "features.bin", "items.npz"
PART = 1 << 24  # bytes that are compared at a time


class FeatureStore:
    """Features with the names of their items, on disk.

    Attributes:
        folder: where they lie.
        number: N.
        length: D.
        dtype: "float16" or "float32".
        about: plain values; "network" describes what made the features.
    """

    def __init__(self, folder: str | os.PathLike) -> None:
        """Open a store, whether or not all rows are written.

        Raises:
            InputError: there is none, or it is of another kind or damaged.
        """
        self.folder = Path(folder)
        found = require_fields(
            self.folder / ABOUT,
            schema=str,
            version=int,
            number=int,
            length=int,
            dtype=str,
            about=dict,
        )
        kind = found["schema"], found["version"]
        if kind != (SCHEMA, VERSION) or found["dtype"] not in DTYPES:
            raise InputError(
                f"{self.folder / ABOUT}: schema, version and type {(*kind, found['dtype'])}; "
                f"expected {SCHEMA}, {VERSION} and {' or '.join(DTYPES)}"
            )
        self.number, self.length = found["number"], found["length"]
        self.dtype, self.about = found["dtype"], found["about"]
        require_about(self.folder / ABOUT, self.about)
        self._verified = False
        file = self.folder / FEATURES
        require_file(file, "features")
        expected = self.number * self.length * DTYPES[self.dtype].itemsize
        if file.stat().st_size != expected:
            raise InputError(f"{file}: {file.stat().st_size} bytes; expected {expected}")

    @classmethod
    def create(
        cls,
        folder: str | os.PathLike,
        names: Mapping[str, np.ndarray],
        length: int,
        dtype: str,
        about: Mapping[str, Any],
    ) -> "FeatureStore":
        """Make a store, or open the one that was begun in the folder.

        Args:
            folder: the folder; made if need be.
            names: name, path, person, camera and modality, each (N,) str.
            length: D.
            dtype: "float16" or "float32".
            about: plain values; "network" describes what makes the features.

        Raises:
            InputError: the folder holds a store of other features.
        """
        if dtype not in DTYPES:
            raise InputError(f"type {dtype}: expected {' or '.join(DTYPES)}")
        folder, number = Path(folder), len(names["name"])
        shape = {"number": number, "length": length, "dtype": dtype}
        whole = {"schema": SCHEMA, "version": VERSION, **shape, "about": dict(about)}
        whole = json.loads(json.dumps(whole))
        if holds_store(folder):
            store = cls(folder)
            if changed := store._changed({**shape, **whole["about"]}, names):
                raise InputError(
                    f"{folder}: holds other features ({', '.join(changed)} differ); remove it to "
                    "begin anew"
                )
            return store
        folder.mkdir(parents=True, exist_ok=True)
        with write_errors(folder / FEATURES), open(folder / FEATURES, "ab") as file:
            file.truncate(number * length * DTYPES[dtype].itemsize)
        columns: dict[str, Any] = {name: np.asarray(names[name]) for name in NAMES}
        write_atomically(folder / ITEMS, lambda file: np.savez(file, **columns))
        write_json(folder / ABOUT, whole)
        return cls(folder)

    def __len__(self) -> int:
        return self.number

    def _changed(self, about: Mapping[str, Any], names: Mapping[str, np.ndarray]) -> list[str]:
        """Name what other features with these names differ in; empty for those of this store."""
        shape = {"number": self.number, "length": self.length, "dtype": self.dtype}
        ours = {**shape, **self.about}
        changed = [key for key in {**about, **ours} if about.get(key) != ours.get(key)]
        if len(names["name"]) == self.number:
            for what, columns in (("items", ("name", "path")), ("labels", LABELS)):
                same = all(np.array_equal(self.column(name), names[name]) for name in columns)
                if not same and what not in changed:
                    changed.append(what)
        return changed

    @property
    def features(self) -> Tensor:
        """The features (N, D) as they lie on disk; reading a row brings it into memory.

        Raises:
            InputError: a shard is not complete, or the rows are not those that were written.
        """
        if not self._verified:
            self._verify()
            self._verified = True
        flat = torch.from_file(
            str(self.folder / FEATURES),
            shared=False,
            size=self.number * self.length,
            dtype=DTYPES[self.dtype],
        )
        return flat.view(self.number, self.length)

    def _verify(self) -> None:
        shards = [Written.read(file) for file in self.folder.glob("shard_*.json")]
        shards.sort(key=lambda shard: shard.first)
        written = sum(shard.rows for shard in shards)
        if written != self.number:
            raise InputError(
                f"{self.folder}: {written} of {self.number} rows are written; give the command "
                "that writes them again, for each shard with the same TEST.IMS_PER_BATCH"
            )
        end = 0
        for shard in shards:
            if shard.first != end:
                raise InputError(
                    f"{self.folder}: row {min(end, shard.first)} is written "
                    f"{'by no shard' if shard.first > end else 'twice'}; expected shards cut with "
                    "the same TEST.IMS_PER_BATCH; remove the folder and extract again"
                )
            end += shard.rows
        row_bytes = self.length * DTYPES[self.dtype].itemsize
        with open(self.folder / FEATURES, "rb") as file:
            for shard in shards:
                file.seek(shard.first * row_bytes)
                left, crc32 = shard.rows * row_bytes, 0
                while left and (part := file.read(min(left, PART))):
                    left, crc32 = left - len(part), zlib.crc32(part, crc32)
                if crc32 != shard.crc32:
                    raise InputError(
                        f"{self.folder / FEATURES}: damaged: the checksum of the rows from "
                        f"{shard.first} to {shard.first + shard.rows} is wrong; remove the folder "
                        "and extract again"
                    )

    def as_features(self) -> Features:
        """Return the items with their names; features in float32 stay on disk.

        Raises:
            InputError: a shard is not complete.
        """
        columns = {name: self.column(name) for name in NAMES}
        return Features(self.features.float().numpy(), **columns, about=self.about)

    def column(self, name: str) -> np.ndarray:
        """Read a column of names, (N,) str: name, path, person, camera or modality."""
        file = self.folder / ITEMS
        require_file(file, "names")
        try:
            with np.load(file, allow_pickle=False) as columns:  # verifies the checksum
                column = np.asarray(columns[name])
            if column.shape != (self.number,) or column.dtype.kind != "U":
                raise ValueError(column.shape)
            return column
        except Exception as error:  # a damaged file makes zipfile and numpy raise nearly anything
            raise InputError(
                f"{file}: expected {self.number} names in {name!r}, found a damaged "
                f"file or one of another kind ({type(error).__name__})"
            ) from error

    def written(self, shard: tuple[int, int]) -> int:
        """Tell how many rows of shard (i, n) are written; they are its first ones."""
        return written_rows(self.folder, shard)

    def write(self, shard: tuple[int, int], first: int, features: Tensor) -> None:
        """Write the next rows of a shard; after a kill those are kept that were written whole.

        Args:
            shard: (i, n), i from 0.
            first: row of the shard's first item.
            features: (M, D), finite in the type of the store.

        Raises:
            InputError: a feature is NaN, infinite or too large for the type.
        """
        before = Written.of(self.folder, shard, first)
        start = before.rows
        rows = features.detach().cpu().to(DTYPES[self.dtype])
        if not rows.isfinite().all():
            raise InputError(
                f"{self.folder}: features of rows {first + start} to {first + start + len(rows)} "
                f"are NaN, infinite or too large for {self.dtype}"
            )
        file = self.folder / FEATURES
        with write_errors(file), open(file, "r+b") as out:
            out.seek((first + start) * self.length * rows.itemsize)
            out.write(content := rows.numpy().tobytes())
            out.flush()
            os.fsync(out.fileno())
        after = Written(first, start + len(rows), zlib.crc32(content, before.crc32))
        write_json(shard_file(self.folder, shard), asdict(after))


@dataclass(frozen=True)
class Written:
    """The rows of a shard that are written.

    Attributes:
        first: row of its first item.
        rows: how many are written; they are its first ones.
        crc32: of their bytes.
    """

    first: int
    rows: int
    crc32: int

    @classmethod
    def of(cls, folder: str | os.PathLike, shard: tuple[int, int], first: int) -> "Written":
        """Read what is written of shard (i, n), which begins at row ``first``."""
        file = shard_file(folder, shard)
        return cls.read(file) if file.is_file() else cls(first, 0, 0)

    @classmethod
    def read(cls, file: Path) -> "Written":
        """Read a shard's file.

        Raises:
            InputError: it is damaged.
        """
        found = cls(**require_fields(file, first=int, rows=int, crc32=int))
        if min(found.first, found.rows) < 0:
            raise InputError(f"{file}: first {found.first}, rows {found.rows}; expected 0 or more")
        return found


def holds_store(folder: str | os.PathLike) -> bool:
    """Tell whether a store was begun in a folder."""
    return Path(folder, ABOUT).is_file()


def load_items(*paths: str | os.PathLike) -> Features:
    """Read files of features and folders of them, and join them, see ``Features.load``.

    Raises:
        InputError: one is missing, damaged or of another kind, or they do not fit together.
    """
    parts = [
        FeatureStore(path).as_features() if Path(path).is_dir() else Features.load(Path(path))
        for path in paths
    ]
    return join(parts, [str(path) for path in paths]) if len(parts) > 1 else parts[0]


def shard_file(folder: str | os.PathLike, shard: tuple[int, int]) -> Path:
    """Name the file that says how far a shard (i, n) of a store is."""
    return Path(folder, f"shard_{shard[0]}-of-{shard[1]}.json")


def written_rows(folder: str | os.PathLike, shard: tuple[int, int]) -> int:
    """Tell how many rows of shard (i, n) are written; they are its first ones.

    Raises:
        InputError: the folder holds shards of another number.
    """
    for file in Path(folder).glob("shard_*.json"):
        if not file.stem.endswith(f"-of-{shard[1]}"):
            raise InputError(
                f"{file}: a shard of another number than {shard[1]}; go on with that number, or "
                "remove the folder"
            )
    return Written.of(folder, shard, 0).rows


def score_stores(
    query: FeatureStore,
    gallery: FeatureStore,
    *,
    metric: str = "",
    junk: str = "camera",
    cmc: str = "item",
    max_rank: int = 20,
) -> RankingResult:
    """Rank a gallery on disk for each query, exactly, and score the lists.

    Args:
        query: Q items.
        gallery: G items of the same network; only some of them are in memory at a time.
        metric: "cosine" or "euclidean"; empty for that of the network's test.
        junk: name of a rule in ``plugins.protocol.JUNK``.
        cmc: "item" or "identity", see ``plugins.protocol.CMC``.
        max_rank: length of the CMC.

    Raises:
        InputError: the two are of different networks, a store is not complete, or from
            ``evaluate_ranking``.
    """
    networks = [each.about.get("network", {}) for each in (query, gallery)]
    for key, (ours, theirs) in network_differences(*networks).items():
        raise InputError(
            f"{query.folder} and {gallery.folder}: {key} is {ours} and {theirs}; expected features "
            "of one network, tested in one way"
        )
    metric = metric or networks[0].get("metric", "cosine")
    pids = number_names(query.column("person"), gallery.column("person"))
    seen_by, others_seen_by = query.column("camera"), gallery.column("camera")
    camids = number_cameras(seen_by, others_seen_by, junk)
    warn_without_camera(seen_by, others_seen_by, junk)
    sides = [
        Side(each.features, torch.from_numpy(people), torch.from_numpy(cameras))
        for each, people, cameras in zip((query, gallery), pids, camids, strict=True)
    ]
    return evaluate_ranking(*sides, metric=metric, junk=junk, cmc=cmc, max_rank=max_rank)
