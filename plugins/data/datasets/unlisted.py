"""Pictures that lie in a data set's folders and are in none of its lists.

A reader that takes what fits a pattern passes over the rest without a word: ``*.jpg`` passes over
half of the people if their files end in ``.png``. A set says where its pictures are and what it
leaves out by its own rules; what else lies there is found here.
"""

import os
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

from plugins.data.datasets.tracklet import as_tracklet
from plugins.errors import InputError
from plugins.utils.images import ENDINGS, OTHER_ENDINGS

# An ending anywhere in the name: "0001.jpg.part" was to be a picture as well.
PICTURE = re.compile(
    rf"(?:{'|'.join(map(re.escape, ENDINGS + OTHER_ENDINGS))})(?![a-z0-9])", re.IGNORECASE
)


class Folders(NamedTuple):
    """Where a data set's pictures are.

    Attributes:
        roots: folders to look into.
        listed: files of the set, used or not.
        known: whether the set leaves a file out by its own rules, by the file's path.
        deep: whether to look into the folders below the roots as well.
        by_pattern: whether the reader lists the folders itself and takes what fits a pattern. Then
            a run looks too. Otherwise lists name the files, up to half a million of them in
            thousands of folders, and only ``tools/check_data.py`` looks.
    """

    roots: tuple[str, ...]
    listed: Iterable[str]
    known: Callable[[str], bool] = lambda path: False
    deep: bool = True
    by_pattern: bool = True


def folders_of(data: Any) -> Folders:
    """Where a data set's pictures are, as it says; of one that does not, around its files."""
    if hasattr(data, "folders"):
        return data.folders()
    items = map(as_tracklet, (*data.train, *data.query, *data.gallery))
    return folders_around(path for item in items for path in item.img_paths)


def folders_around(files: Iterable[str]) -> Folders:
    """The folders that hold ``files``, without those below."""
    files = list(files)
    roots = dict.fromkeys(os.path.dirname(file) for file in files)
    return Folders(tuple(roots), files, deep=False, by_pattern=False)


def find_unlisted(folders: Folders) -> list[str]:
    """Find pictures and videos that no list holds; names that start with a dot are passed over.

    Returns:
        Their paths, sorted.

    Raises:
        InputError: a folder cannot be read.
    """
    listed: dict[str, set[str]] = defaultdict(set)
    for file in folders.listed:
        folder, name = os.path.split(file)
        listed[folder].add(name)
    held: dict[str, set[str]] = defaultdict(set)
    for folder, names in listed.items():
        held[os.path.realpath(folder)] |= names
    unlisted = []
    # One that is missing holds nothing; whoever reads the listed files will say that they are gone.
    roots = filter(os.path.isdir, map(os.path.abspath, folders.roots))
    for folder, names in _walk(roots, folders.deep):
        for name in set(names) - held[os.path.realpath(folder)]:
            path = os.path.join(folder, name)
            if PICTURE.search(name) and not name.startswith(".") and not folders.known(path):
                unlisted.append(path)
    return sorted(unlisted)


def _walk(roots: Iterable[str], deep: bool) -> Iterator[tuple[str, list[str]]]:
    """Folders with the names of their files, each once; links to folders are followed."""
    seen = set()

    def fail(error: OSError) -> None:
        raise InputError(f"{error.filename}: cannot be listed: {error.strerror}") from error

    for root in roots:
        for folder, below, names in os.walk(root, onerror=fail, followlinks=True):
            real = os.path.realpath(folder)
            if real in seen:
                below.clear()
                continue
            seen.add(real)
            yield folder, names
            below[:] = sorted(name for name in below if deep and not name.startswith("."))


def describe_unlisted(files: list[str]) -> str:
    """Say how many pictures are unlisted, how their names end, and which is the first.

    >>> describe_unlisted(["a/1.JPG", "a/1.png", "a/2.png"])
    'no list holds 3 of the pictures in its folders (2 *.png, 1 *.JPG), such as a/1.JPG'
    """
    endings = Counter(os.path.splitext(file)[1] for file in files)
    counts = ", ".join(f"{count} *{ending}" for ending, count in endings.most_common())
    return (
        f"no list holds {len(files)} of the pictures in its folders ({counts}), such as {files[0]}"
    )
