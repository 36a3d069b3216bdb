"""Features with the names of what they are of, and the files that hold them.

Legend: N items, D feature length.

An ``.npz`` file holds the arrays ``features``, ``name``, ``path``, ``person``, ``camera``,
``modality`` and ``about``, which is JSON in UTF-8 with the schema and its version; it holds no
pickled object. A ``.parquet`` file holds them as columns, and ``about`` as metadata.
"""

import io
import json
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from plugins.data.datasets import MODALITIES
from plugins.engine.evaluation_settings import SETTINGS, changed_settings
from plugins.errors import InputError
from plugins.utils.io import read_bytes, write_atomically
from plugins.utils.names import list_names
from plugins.utils.values import json_value, shortened

SCHEMA, VERSION = "fastreid-plugins/features", 1
NAMES = ("name", "path", "person", "camera", "modality")
ENDINGS = (".npz", ".parquet")
PYARROW = "Parquet needs pyarrow: pip install pyarrow"


@dataclass(frozen=True, eq=False)
class Features:
    """Hold the features of items, with their own names; an empty name is not known.

    Attributes:
        features: (N, D) float32.
        name: (N,) str, of each item alone.
        path: (N,) str, the item's first file, or its folder or video.
        person: (N,) str.
        camera: (N,) str.
        modality: (N,) str, "visible" or "infrared".
        about: plain values; "network" describes what made the features, see
            ``plugins.inference.run.describe_network``.
    """

    features: np.ndarray
    name: np.ndarray
    path: np.ndarray
    person: np.ndarray
    camera: np.ndarray
    modality: np.ndarray
    about: Mapping[str, Any] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.features)

    @property
    def metric(self) -> str:
        """The distance that the network was tested with."""
        return self.about.get("network", {}).get("metric", "cosine")

    def select(self, rows: np.ndarray | Sequence[int]) -> "Features":
        """Return the items of these rows, whole numbers or a bool mask, in their order."""
        rows = np.asarray(rows)
        rows = rows if rows.dtype == bool else rows.astype(np.int64)
        columns = {name: getattr(self, name)[rows] for name in ("features", *NAMES)}
        return Features(**columns, about=self.about)

    def of(self, modality: str) -> "Features":
        """Return the items of a modality, "visible" or "infrared"."""
        return self.select(self.modality == modality)

    def row_of(self, name: str) -> int:
        """Return the row of the item of that name, or whose path is that.

        Raises:
            InputError: no item, or more than one, has it.
        """
        rows = np.flatnonzero(self.name == name)
        rows = rows if len(rows) else np.flatnonzero(self.path == name)
        if len(rows) != 1:
            known = list_names(self.name.tolist())
            raise InputError(f"{name}: {len(rows)} items have that name; expected one of {known}")
        return int(rows[0])

    def save(self, path: str | Path) -> None:
        """Write an ``.npz`` or a ``.parquet`` file, whole or not at all.

        Raises:
            InputError: the name ends otherwise, pyarrow is missing, or nothing can be written.
        """
        path = Path(path)
        contents = {".npz": to_npz, ".parquet": to_parquet}[ending_of(path)](self)
        write_atomically(path, lambda file: file.write(contents))

    @classmethod
    def load(cls, *paths: str | Path) -> "Features":
        """Read files and join them, as the shards of one extraction.

        Raises:
            InputError: a file is missing, damaged or of another kind, or they do not fit together.
        """
        return join([read(Path(path)) for path in paths], [str(path) for path in paths])


def ending_of(path: Path, option: str = "") -> str:
    """Return the ending of a file of features; raise InputError for another one."""
    if path.suffix.lower() not in ENDINGS:
        said = f"{option} {path}".strip()
        raise InputError(f"{said}: expected a file *.npz or *.parquet")
    return path.suffix.lower()


def join(parts: Sequence[Features], names: Sequence[str]) -> Features:
    """Join features in their order.

    Args:
        parts: one or more.
        names: of the parts, for messages.

    Raises:
        InputError: two parts are of different networks, or hold an item of the same name.
    """
    first = parts[0]
    for part, name in zip(parts, names, strict=True):
        require_same_network(first, part, names[0], name)
    columns = {
        column: np.concatenate([getattr(part, column) for part in parts])
        for column in ("features", *NAMES)
    }
    values, counts = np.unique(columns["name"], return_counts=True)
    if len(double := values[counts > 1]):
        raise InputError(
            f"{', '.join(names)}: {len(double)} names come twice, the first {double[0]}; expected "
            "each item once, or names that differ: extract both from a folder above them, or with "
            "--list, which names items by their paths"
        )
    about = {key: value for key, value in first.about.items() if key != "shard"}
    return Features(**columns, about=about if len(parts) > 1 else first.about)


def require_same_network(first: Features, other: Features, name: str, other_name: str) -> None:
    """Raise InputError unless two lots of features can be compared."""
    if first.features.shape[1:] != other.features.shape[1:]:
        raise InputError(
            f"{other_name}: features of length {other.features.shape[1]}; expected "
            f"{first.features.shape[1]}, as in {name}"
        )
    ours, theirs = first.about.get("network", {}), other.about.get("network", {})
    for key, (mine, yours) in network_differences(ours, theirs).items():
        raise InputError(
            f"{other_name}: its network has {key} {yours}, that of {name} {mine}; expected "
            "features of one network, tested in one way"
        )


def network_differences(
    ours: Mapping[str, Any], theirs: Mapping[str, Any]
) -> dict[str, tuple[Any, Any]]:
    """Return what two descriptions of networks differ in: (ours, theirs) by entry or config key.

    What only one of them tells is no difference: older files tell less.

    Args:
        ours: from ``plugins.inference.run.describe_network``.
        theirs: likewise.
    """
    both = sorted((ours.keys() & theirs.keys()) - {SETTINGS})
    found = {key: (ours[key], theirs[key]) for key in both if ours[key] != theirs[key]}
    if SETTINGS in ours and SETTINGS in theirs:
        found |= changed_settings(ours[SETTINGS], theirs[SETTINGS])
    return found


def to_npz(items: Features) -> bytes:
    """Make the contents of an ``.npz`` file."""
    file = io.BytesIO()
    arrays = {name: getattr(items, name) for name in ("features", *NAMES)}
    np.savez(file, about=np.frombuffer(about_text(items), np.uint8), **arrays)
    return file.getvalue()


def to_parquet(items: Features) -> bytes:
    """Make the contents of a ``.parquet`` file."""
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError:
        raise InputError(PYARROW) from None
    length = items.features.shape[1]
    flat = pyarrow.array(items.features.reshape(-1), pyarrow.float32())
    columns = {name: pyarrow.array(getattr(items, name).tolist()) for name in NAMES}
    columns["features"] = pyarrow.FixedSizeListArray.from_arrays(flat, length)
    table = pyarrow.table(columns).replace_schema_metadata({"about": about_text(items)})
    file = io.BytesIO()
    parquet.write_table(table, file, write_page_checksum=True)
    return file.getvalue()


def about_text(items: Features) -> bytes:
    """Write ``about`` as JSON, with the schema and its version."""
    about = {"schema": SCHEMA, "version": VERSION, **items.about}
    return json.dumps(about, ensure_ascii=False).encode()


def read(path: Path) -> Features:
    """Read one file.

    Raises:
        InputError: there is no such file, it is damaged, or it holds something else.
    """
    ending, contents = ending_of(path), read_bytes(path)
    try:
        columns, about = {".npz": from_npz, ".parquet": from_parquet}[ending](contents)
    except ImportError:
        raise InputError(f"{path}: reading {PYARROW}") from None
    # A damaged file makes zipfile, numpy and pyarrow raise nearly anything.
    except Exception as error:
        raise InputError(
            f"{path}: expected features, found a damaged file or one of another kind "
            f"({type(error).__name__})"
        ) from error
    require_about(path, about)
    kind, version = about.pop("schema", None), about.pop("version", None)
    if (kind, version) != (SCHEMA, VERSION):
        raise InputError(
            f"{path}: schema {kind!r}, version {version!r}; expected {SCHEMA!r}, {VERSION}"
        )
    require_columns(path, columns)
    if not np.isfinite(columns["features"]).all():
        raise InputError(f"{path}: a feature is NaN or infinite")
    return Features(**columns, about=about)


def require_about(path: Path, about: object) -> None:
    """Raise InputError unless what a file tells of its features is as ``Features.about`` is."""
    value = about
    for name, inside in (("about", "network"), ("network", SETTINGS), (SETTINGS, "")):
        if not isinstance(value, dict):
            raise InputError(f"{path}: {name}: found {json_value(value)}; expected a mapping")
        value = value.get(inside, {})


def require_columns(path: Path, columns: Mapping[str, np.ndarray]) -> None:
    """Raise InputError unless the columns of a file are those of :class:`Features`."""
    if columns.keys() != {"features", *NAMES}:
        raise InputError(f"{path}: has the columns {sorted(columns)}; expected features, {NAMES}")
    features = columns["features"]
    if features.dtype != np.float32 or features.ndim != 2:
        raise InputError(
            f"{path}: features of type {features.dtype} and shape {features.shape}; expected "
            "float32 of N rows, and N names"
        )
    for name in NAMES:
        if columns[name].dtype.kind != "U" or columns[name].shape != (len(features),):
            raise InputError(
                f"{path}: {name} of type {columns[name].dtype} and shape {columns[name].shape}; "
                f"expected text of {len(features)} items"
            )
    unknown = np.flatnonzero(~np.isin(columns["modality"], MODALITIES))
    if len(unknown):
        row = int(unknown[0])
        raise InputError(
            f"{path}: row {row} ({columns['name'][row]}): modality "
            f"{shortened(str(columns['modality'][row]))}; expected {' or '.join(MODALITIES)}"
        )


def from_npz(contents: bytes) -> tuple[dict[str, np.ndarray], dict]:
    """Read the columns and ``about`` of an ``.npz`` file, verified by its checksums."""
    with zipfile.ZipFile(io.BytesIO(contents)) as archive:
        if damaged := archive.testzip():
            raise zipfile.BadZipFile(damaged)
    with np.load(io.BytesIO(contents), allow_pickle=False) as file:
        columns = {name: file[name] for name in file.files}
    return columns, json.loads(columns.pop("about").tobytes())


def from_parquet(contents: bytes) -> tuple[dict[str, np.ndarray], dict]:
    """Read the columns and ``about`` of a ``.parquet`` file."""
    from pyarrow import parquet

    source = io.BytesIO(contents)
    table = parquet.read_table(source, page_checksum_verification=True)
    about = json.loads(table.schema.metadata[b"about"])
    lists = table.column("features").combine_chunks()
    length = lists.type.list_size
    features = lists.flatten().to_numpy(zero_copy_only=False).reshape(-1, length)
    columns = {name: np.array(table.column(name).to_pylist(), dtype=str) for name in NAMES}
    return {"features": features, **columns}, about
