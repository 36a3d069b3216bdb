"""Find pictures that lie in a data set's folders and are in none of its lists.

A reader that takes files by a pattern silently passes over the rest: ``*.jpg`` passes over half of
the people if their files end in ``.png``. A set says where it keeps its pictures and which ones its
rules leave out; every other picture there is unlisted.
"""

import logging
import os
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

from plugins.errors import InputError
from plugins.utils.images import ENDINGS, OTHER_ENDINGS

logger = logging.getLogger(__name__)

# An ending anywhere in the name: "0001.jpg.part" was meant to be a picture as well.
PICTURE = re.compile(
    rf"(?:{'|'.join(map(re.escape, ENDINGS + OTHER_ENDINGS))})(?![a-z0-9])", re.IGNORECASE
)
EXAMPLES = 3
# Names and folders of the data sets that this process has searched: a run reads a set often.
_searched: set[tuple[str, tuple[str, ...]]] = set()


class Folders(NamedTuple):
    """Describe where a data set keeps its pictures.

    Attributes:
        roots: folders to search.
        listed: files of the set, used or not.
        known: tells, by a file's path, whether the rules of the set leave the file out.
        deep: whether to search the folders below the roots as well.
        by_pattern: whether the reader lists the folders and takes files by a pattern. A run then
            searches them too. Other sets have lists that name their files, up to half a million in
            thousands of folders; only ``tools/check_data.py`` searches those.
        complete: whether lists that name the files name all pictures of the set, so that an
            unlisted one shows that a list is cut off.
    """

    roots: tuple[str, ...]
    listed: Iterable[str]
    known: Callable[[str], bool] = lambda path: False
    deep: bool = True
    by_pattern: bool = True
    complete: bool = False


def folders_around(files: Iterable[str]) -> Folders:
    """Return the folders that hold ``files``, without folders below them."""
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
    names_by_folder: dict[str, set[str]] = defaultdict(set)
    for file in folders.listed:
        folder, name = os.path.split(file)
        names_by_folder[folder].add(name)
    listed: dict[str, set[str]] = defaultdict(set)
    for folder, listed_names in names_by_folder.items():
        listed[os.path.realpath(folder)] |= listed_names
    unlisted = []
    # A missing folder holds nothing; the reader of the listed files reports that they are gone.
    roots = filter(os.path.isdir, map(os.path.abspath, folders.roots))
    for folder, names in walk_folders(roots, folders.deep):
        for name in set(names) - listed[os.path.realpath(folder)]:
            path = os.path.join(folder, name)
            if PICTURE.search(name) and not name.startswith(".") and not folders.known(path):
                unlisted.append(path)
    return sorted(unlisted)


def walk_folders(roots: Iterable[str], deep: bool) -> Iterator[tuple[str, list[str]]]:
    """Yield each folder once, with the names of its files; links to folders are followed."""
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
    """Say how many pictures are unlisted, how their names end, and give examples.

    >>> describe_unlisted(["a/1.JPG", "a/1.png"])
    'no list holds 2 of the pictures in its folders (1 *.JPG, 1 *.png), such as a/1.JPG, a/1.png'
    """
    endings = Counter(os.path.splitext(file)[1] for file in files)
    counts = ", ".join(f"{count} *{ending}" for ending, count in endings.most_common())
    return (
        f"no list holds {len(files)} of the pictures in its folders ({counts}), such as "
        f"{', '.join(files[:EXAMPLES])}"
    )


def warn_of_unlisted(data: Any, name: str) -> None:
    """Warn, once in a process, of pictures that a reader's pattern passes over.

    Args:
        data: the data set; a set whose lists name the files is not searched.
        name: its registered name.

    Raises:
        InputError: a folder of the set cannot be read.
    """
    folders = data.folders()
    if not folders.by_pattern or (name, folders.roots) in _searched:
        return
    _searched.add((name, folders.roots))
    if unlisted := find_unlisted(folders):
        logger.warning("%s: %s", name, describe_unlisted(unlisted))


def explain_emptiness(data: Any) -> str:
    """Describe, for the end of a message, pictures that an empty set has but does not list."""
    unlisted = find_unlisted(data.folders())
    return f": {describe_unlisted(unlisted)}" if unlisted else ""
