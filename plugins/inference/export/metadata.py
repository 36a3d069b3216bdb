"""Say in a file what its model takes, gives and is of."""

import importlib.metadata
import math
import os
import platform
from collections.abc import Mapping
from typing import Any

from plugins.data.datasets.tracklet import MODALITIES
from plugins.engine.evaluation_settings import SETTINGS
from plugins.engine.logs import own_version
from plugins.errors import InputError
from plugins.inference.embedder import Embedder
from plugins.inference.run import describe_network
from plugins.utils.io import read_json

SCHEMA, VERSION = "fastreid-plugins/export", 1
COLORS = ("RGB", "BGR")
RESIZE = "bicubic, antialiased"  # plugins.data.frames.resize_frame
# Of threshold.json, what a user of the file needs.
OF_THRESHOLD = ("threshold", "direction", "metric", "junk", "wanted_rate")


def describe_export(
    embedder: Embedder,
    *,
    color: str = "RGB",
    free_frames: bool = True,
    dtype: str = "uint8",
    length: int = 0,
    threshold: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Describe an exported model: what stands in the file's metadata.

    Args:
        embedder: has the model.
        color: order of the channels of the pixels, one of COLORS.
        free_frames: whether the file takes clips of any length.
        dtype: type of the pixels.
        length: D.
        threshold: from :func:`read_threshold`; None if there is none.

    Returns:
        Values that JSON has, by name. ``frames`` is the number of frames that the run was tested
        with, ``frames_free`` whether the file takes any other.
    """
    cfg, clips = embedder.cfg, embedder.takes_clips
    crop = list(embedder.size) if cfg.INPUT.CROP.ENABLED else None
    network = describe_network(cfg)
    del network[SETTINGS]  # the file holds what they decide
    return {
        "schema": SCHEMA,
        "version": VERSION,
        **network,
        "color": color,
        "dtype": dtype,
        "range": [0, 255],
        "layout": ["batch", *(["frames"] if clips else []), "channels", "height", "width"],
        "resize": {"size": list(cfg.INPUT.SIZE_TEST), "by": RESIZE, "center_crop": crop},
        "frames": embedder.clip_length,
        "frames_free": clips and free_frames,
        "modalities": {name: code for code, name in enumerate(MODALITIES)} if clips else {},
        "feature_length": length,
        "unit_length": cfg.TEST.METRIC == "cosine",
        "datasets": list(cfg.DATASETS.NAMES),
        "threshold": dict(threshold) if threshold else None,
        "versions": versions(),
    }


def require_color(color: str) -> None:
    """Raise InputError for an order of channels that there is not."""
    if color not in COLORS:
        raise InputError(f"--color {color}: expected {' or '.join(COLORS)}")


def versions() -> dict[str, str]:
    """Return the versions of what wrote the file."""
    found = {"fastreid-plugins": own_version(), "python": platform.python_version()}
    for name in ("fastreid", "torch", "onnx", "onnxscript"):
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def read_threshold(path: str | os.PathLike, metric: str) -> dict[str, Any]:
    """Read the file of the command ``threshold``.

    Args:
        path: a JSON file.
        metric: distance that the model's features are compared by.

    Raises:
        InputError: it cannot be read, holds no threshold, or one of another distance.
    """
    found = read_json(path, expected="a file of the command threshold")
    value = found.get("threshold") if isinstance(found, dict) else None
    if not isinstance(value, int | float) or isinstance(value, bool) or not math.isfinite(value):
        raise InputError(f"{path}: no number 'threshold'; expected a file of the command threshold")
    if (other := found.get("metric", metric)) != metric:
        raise InputError(f"{path}: a threshold of distance {other}, but the run's is {metric}")
    return {name: found[name] for name in OF_THRESHOLD if name in found}
