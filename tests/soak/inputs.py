"""Configs, tables and image files that nobody meant: read, or refused in one line."""

import contextlib
import io
import os
import random
import struct
from collections.abc import Callable
from pathlib import Path

import hypothesis
import numpy as np
import yaml
from hypothesis import HealthCheck
from hypothesis import strategies as st
from PIL import Image

from plugins.config import default_cfg, flatten, setup_cfg
from plugins.data.datasets.build import build_dataset
from plugins.data.frames import read_frame
from plugins.errors import InputError

COLUMNS = ["path", "person", "camera", "modality", "tracklet", "frame", "split"]
FORMATS = ("JPEG", "PNG", "BMP", "TIFF", "WEBP", "GIF", "EPS", "PDF", "ICO", "PPM")


def scalars() -> st.SearchStrategy:
    """Values as YAML may hold them."""
    numbers = st.integers() | st.floats() | st.booleans()
    return numbers | st.none() | st.text(max_size=12) | st.binary(max_size=4)


def trees() -> st.SearchStrategy:
    """Configs: real keys with values of any kind, and keys that do not exist."""
    keys = [key for key, _ in flatten(default_cfg())]
    values = st.recursive(scalars(), lambda inner: st.lists(inner, max_size=3), max_leaves=4)
    names = st.sampled_from([*keys, "_BASE_", "MODEL", "SOLVER.STEPP", "PLUGINS"])
    return st.dictionaries(names, values, max_size=4).map(nested)


def nested(flat: dict[str, object]) -> dict:
    """Dotted keys as a tree, where they fit into one."""
    tree: dict = {}
    for key, value in flat.items():
        *sections, name = key.split(".")
        node = tree
        for section in sections:
            node = node.setdefault(section, {})
            if not isinstance(node, dict):
                break
        else:
            node[name] = value
    return tree


def configs(victim: Path) -> st.SearchStrategy:
    """Bytes of config files."""
    texts = trees().map(lambda tree: yaml.safe_dump(tree, allow_unicode=True))
    harm = f"OUTPUT_DIR: !!python/object/apply:os.mkdir ['{victim}']\n"
    odd = st.sampled_from([harm, "_BASE_: config.yml\n", "[" * 1500, "- a\n", "a: b: c\n", "%\n"])
    return (texts | odd | st.text()).map(str.encode) | st.binary()


def tables() -> st.SearchStrategy:
    """Bytes of manifests: rows that are nearly right, in several encodings, and noise."""
    good = st.tuples(
        st.sampled_from(["a.jpg", "b.jpg", "/c.jpg", ""]),
        st.text(max_size=3),
        st.sampled_from(["1", "2", ""]),
        st.sampled_from(["visible", "infrared", "thermal", ""]),
        st.sampled_from(["", "1", "x"]),
        st.sampled_from(["", "0", "1", "-1", "1e9", "nan"]),
        st.sampled_from(["train", "query", "gallery", "", "test"]),
    )
    rows = st.lists(good.map(list) | st.lists(st.text(max_size=4), max_size=9), max_size=8)
    headers = (
        st.just(COLUMNS) | st.permutations(COLUMNS) | st.lists(st.text(max_size=5), max_size=8)
    )
    texts = st.tuples(headers, rows).map(lambda t: "\n".join(",".join(r) for r in [t[0], *t[1]]))
    encodings = st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "cp1252", "gbk"])
    encoded = st.tuples(texts, encodings).map(lambda t: t[0].encode(t[1], errors="ignore"))
    return encoded | st.binary()


def pictures() -> st.SearchStrategy:
    """Bytes of image files: whole ones in many formats, damaged ones, headers of huge ones."""
    whole = [picture(kind) for kind in FORMATS]
    places = st.tuples(st.sampled_from(whole), st.integers(0, 10**6), st.binary(max_size=9))
    huge = b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR" + struct.pack(">II", 2**30, 2**30) + b"\x08\x02"
    return (
        st.sampled_from([*whole, huge, sixteen_bits()])
        | places.map(lambda t: patched(*t))
        | places.map(lambda t: t[0][: t[1] % (len(t[0]) + 1)])
        | st.binary()
    )


def picture(kind: str) -> bytes:
    """A small image in a format of Pillow's."""
    pixels = np.arange(24 * 12 * 3, dtype=np.uint8).reshape(24, 12, 3)
    data = io.BytesIO()
    Image.fromarray(pixels).save(data, kind)
    return data.getvalue()


def sixteen_bits() -> bytes:
    """A PNG of 16 bits a channel."""
    data = io.BytesIO()
    Image.fromarray(np.full((24, 12), 40000, np.uint16)).save(data, "PNG")
    return data.getvalue()


def patched(data: bytes, place: int, patch: bytes) -> bytes:
    """``data`` with other bytes at ``place``."""
    place %= len(data)
    return data[:place] + patch + data[place + len(patch) :]


def hostile_inputs(folder: Path, count: int, generator: random.Random) -> dict:
    """Read ``count`` configs, as many tables and as many image files.

    Returns:
        ``inputs``, ``read``, ``refused``, ``tracebacks`` (each with the input's kind and error) and
        ``payloads run``.
    """
    victim = folder / "victim"
    root = str(folder)
    kinds: dict[str, tuple[st.SearchStrategy, str, Callable[[str], object]]] = {
        "config": (configs(victim), "config.yml", setup_cfg),
        "table": (tables(), "manifest.csv", lambda _: read_manifest(root)),
        "image": (pictures(), "image.jpg", read_frame),
    }
    found = {"inputs": 0, "read": 0, "refused": 0, "tracebacks": []}
    for kind, (strategy, name, read) in kinds.items():
        look = looking(kind, folder / name, read, found)
        test = hypothesis.given(strategy)(look)
        test = hypothesis.seed(generator.randrange(2**32))(test)
        hypothesis.settings(
            max_examples=count,
            database=None,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        )(test)()
    return found | {"payloads run": int(victim.exists())}


def looking(kind: str, path: Path, read: Callable[[str], object], found: dict) -> Callable:
    """A test that writes an input, has it read and counts what comes of it."""

    def look(data: bytes) -> None:
        path.write_bytes(data)
        found["inputs"] += 1
        try:
            with contextlib.redirect_stderr(io.StringIO()):
                read(str(path))
            found["read"] += 1
        except InputError as error:
            found["refused"] += 1
            if "\n" in str(error):
                found["tracebacks"].append(f"{kind}: a message of several lines: {error}")
        except Exception as error:
            found["tracebacks"].append(f"{kind}: {error!r} of {data[:200]!r}")

    return look


def read_manifest(root: str) -> None:
    """Read ``manifest.csv`` as a run does."""
    before = os.environ.get("FASTREID_DATASETS")
    os.environ["FASTREID_DATASETS"] = root
    try:
        build_dataset("ManifestDataset", cfg=setup_cfg())
    finally:
        if before is None:
            del os.environ["FASTREID_DATASETS"]
        else:
            os.environ["FASTREID_DATASETS"] = before
