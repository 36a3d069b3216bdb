"""Keep what a command writes out of the folders that it reads a data set from."""

import os
from collections.abc import Iterable
from pathlib import Path

from plugins.data.datasets.build import datasets_root
from plugins.data.datasets.tracklet import as_tracklet
from plugins.errors import InputError


def require_outside(option: str, path: str | os.PathLike, items: Iterable[tuple]) -> None:
    """Raise InputError if ``path`` lies in the folder of a data set that holds the ``items``.

    A reader that takes what fits a pattern would take the new files for a part of the set.

    Args:
        option: names the path, such as "--out", for the message.
        path: file or folder to write; it may be missing.
        items: tracklets, or fastreid's images.
    """
    target = Path(path).resolve()
    files = (file for item in items for file in as_tracklet(item).img_paths)
    for folder in sorted(set_folders(files)):
        if folder == target or folder in target.parents:
            raise InputError(
                f"{option} {path}: in {folder}, the folder of the data set itself; expected a "
                "place outside of it"
            )


def set_folders(files: Iterable[str]) -> set[Path]:
    """Find the folders of the data sets that hold some files.

    A data set is a folder in FASTREID_DATASETS. For files elsewhere it is the folder that holds all
    of them, unless it holds FASTREID_DATASETS as well.
    """
    root = os.path.abspath(datasets_root())
    parents = {os.path.abspath(os.path.dirname(file)) for file in files}
    inside = {parent for parent in parents if parent.startswith(root + os.sep)}
    folders = {os.path.join(root, os.path.relpath(p, root).split(os.sep)[0]) for p in inside}
    if elsewhere := parents - inside - {root}:
        common = os.path.commonpath(elsewhere)
        if os.path.commonpath([common, root]) != common:
            folders.add(common)
    return {Path(folder).resolve() for folder in folders}
