"""Indexes of faiss that find candidates for a search, and the files that hold trained ones.

Legend: G gallery items, D feature length.

``flat`` compares a query with every item. ``ivfpq`` sorts the items into lists about trained
centers, keeps a code of some bytes for each item, and compares a query with the codes of the
nearest lists alone: Jegou et al., "Product Quantization for Nearest Neighbor Search", TPAMI 2011.
"""

import io
import json
import math
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import faiss
import numpy as np

from plugins.errors import InputError
from plugins.utils.io import read_bytes, write_atomically

SCHEMA, VERSION = "fastreid-plugins/index", 1
FLAT, IVFPQ = "flat", "ivfpq"
KINDS = (FLAT, IVFPQ)
PROBES = 32  # lists that a query is compared with
CODE, CENTERS = (
    64,
    256,
)  # at most so many bytes of a code, each the number of one of so many centers
OF_A_LIST = 40  # items of a list that its center is trained with
ROUNDS = 10  # of the training of the lists' centers
BLOCK = 65_536  # rows in memory at a time


def check_kind(kind: str) -> None:
    """Raise InputError for a name that is not in ``KINDS``."""
    if kind not in KINDS:
        raise InputError(f"index {kind!r}: expected {' or '.join(KINDS)}")


def build_index(features: np.ndarray, metric: str, kind: str) -> faiss.Index:
    """Build an index of features.

    Args:
        features: (G, D) float32, which may lie on disk.
        metric: "cosine" for the inner product of features of length 1, or "euclidean".
        kind: a name in ``KINDS``.

    Raises:
        InputError: there is no such kind, or too few items to train the codes with.
    """
    check_kind(kind)
    number, length = features.shape
    measure = faiss.METRIC_INNER_PRODUCT if metric == "cosine" else faiss.METRIC_L2
    index: Any = faiss.IndexFlat(length, measure)
    if kind == IVFPQ:
        if number < CENTERS:
            raise InputError(
                f"index {IVFPQ}: {number} items; expected {CENTERS} or more to train its codes "
                f"with, or the index {FLAT}, which is exact"
            )
        lists = max(1, min(int(4 * math.sqrt(number)), number // OF_A_LIST))
        index = faiss.index_factory(length, f"IVF{lists},PQ{code_length(length)}", measure)
        index.cp.niter = ROUNDS
        index.do_polysemous_training = False  # for a search by Hamming distances; 30 times as long
        for training in (index.cp, index.pq.cp):
            training.min_points_per_centroid = 1  # else a warning on stderr
        rows = np.linspace(0, number - 1, max(CENTERS, lists * OF_A_LIST)).astype(np.int64)
        index.train(comparable(features[np.unique(rows)], metric))
    add_to(index, features, metric)
    return index


def code_length(length: int) -> int:
    """Return the bytes of a code: the largest number up to CODE that divides D.

    >>> code_length(2048), code_length(96), code_length(13)
    (64, 48, 13)
    """
    return next(each for each in range(min(CODE, length), 0, -1) if length % each == 0)


def add_to(index: faiss.Index, features: np.ndarray, metric: str) -> None:
    """Append features (M, D) to an index, block by block."""
    for block in blocks(features):
        index.add(comparable(block, metric))


def blocks(features: np.ndarray) -> Iterator[np.ndarray]:
    """Cut features into blocks of rows."""
    for start in range(0, len(features), BLOCK):
        yield features[start : start + BLOCK]


def comparable(features: np.ndarray, metric: str) -> np.ndarray:
    """Return features (M, D) float32 as an index compares them, for the cosine of length 1."""
    features = np.ascontiguousarray(features, dtype=np.float32)
    if metric == "cosine":
        features = features / np.linalg.norm(features, axis=1, keepdims=True).clip(1e-12)
    return features


def set_probes(index: faiss.Index, probes: int) -> None:
    """Choose the number of lists that a query is compared with, where there are lists.

    Raises:
        InputError: it is below 1.
    """
    if probes < 1:
        raise InputError(f"probes {probes}: expected 1 or more")
    if isinstance(index, faiss.IndexIVF):
        index.nprobe = min(probes, index.nlist)


def candidates(
    index: faiss.Index, features: np.ndarray, count: int
) -> tuple[np.ndarray, np.ndarray]:
    """Find the nearest rows by an index; all lists are compared where all rows are wanted.

    Args:
        index: of G rows.
        features: (Q, D) as it compares them.
        count: C, the number of rows.

    Returns:
        Scores (Q, C) and rows (Q, C), the nearest first; -1 for none.
    """
    if isinstance(index, faiss.IndexIVF) and count >= index.ntotal:
        every: Any = faiss.SearchParametersIVF
        return index.search(features, count, params=every(nprobe=index.nlist))
    return index.search(features, count)


def write_index(path: str | Path, index: faiss.Index, metric: str, of: str) -> None:
    """Write a trained index.

    Args:
        path: the file, an archive of numpy.
        index: the index.
        metric: "cosine" or "euclidean".
        of: digest of the features that it was built of.
    """
    about = {"schema": SCHEMA, "version": VERSION, "metric": metric, "features": of}
    file = io.BytesIO()
    text = np.frombuffer(json.dumps(about).encode(), np.uint8)
    np.savez(file, about=text, index=faiss.serialize_index(index))
    write_atomically(path, lambda out: out.write(file.getvalue()))


def is_index(path: str | Path) -> bool:
    """Tell whether a file is one that ``write_index`` wrote."""
    try:
        with np.load(path, allow_pickle=False) as file:
            return bool(json.loads(file["about"].tobytes())["schema"] == SCHEMA)
    except Exception:  # numpy and zipfile raise nearly anything for another file
        return False


def read_index(path: str | Path, metric: str, of: str) -> faiss.Index:
    """Read what ``write_index`` wrote.

    Args:
        path: the file.
        metric: that the index is to have.
        of: digest of the features that it is to be of.

    Raises:
        InputError: the file is damaged or of another kind, or its index has another metric or is
            of other features.
    """
    contents = read_bytes(Path(path))
    try:
        with zipfile.ZipFile(io.BytesIO(contents)) as archive:
            if damaged := archive.testzip():  # faiss may end the process at damaged contents
                raise zipfile.BadZipFile(damaged)
        with np.load(io.BytesIO(contents), allow_pickle=False) as file:
            about, stored = json.loads(file["about"].tobytes()), file["index"]
        kind = about["schema"], about["version"], about["metric"], about["features"]
    except Exception as error:  # zipfile and numpy raise nearly anything
        raise InputError(
            f"{path}: expected an index, found a damaged file or one of another kind "
            f"({type(error).__name__})"
        ) from error
    if kind[:2] != (SCHEMA, VERSION):
        raise InputError(f"{path}: schema {kind[0]!r}, version {kind[1]!r}; expected {SCHEMA!r}, 1")
    if kind[2] != metric:
        raise InputError(f"{path}: an index of the metric {kind[2]}; expected {metric}")
    if kind[3] != of:
        raise InputError(
            f"{path}: an index of other features than those beside it; remove it, or save the "
            "gallery again"
        )
    return faiss.deserialize_index(stored)
