"""Tell files apart by what they are, not by how their paths are spelled."""

import os
from collections.abc import Hashable, Iterable, Iterator, Sequence


def first_spellings(paths: Iterable[str]) -> dict[str, str]:
    """Map each path to the first of ``paths`` that names the same file.

    ``a.jpg``, ``./a.jpg``, its absolute path, a symbolic link to it and a hard link are one file. A
    path of no file is compared by its folder and name. Each folder is listed once; a plain file
    costs no system call of its own.
    """
    folders: dict[str, tuple[str, dict[str, int] | None]] = {}
    by_real_path: dict[str, str] = {}
    by_inode: dict[int, str] = {}
    by_identity: dict[Hashable, str] = {}
    spellings: dict[str, str] = {}
    for path in paths:
        if path in spellings:
            continue
        folder, name = os.path.split(path)
        if folder not in folders:
            folders[folder] = _list_folder(folder)
        real_folder, inodes = folders[folder]
        inode = inodes.get(name, 0) if inodes else 0
        real = os.path.join(real_folder, name)
        if inodes is not None and not inode:  # a link, or no entry spelled like this
            real = _real_path(path)
            identity = _identity(real)
            inode = identity[1] if isinstance(identity, tuple) else 0
        first = by_real_path.setdefault(real, path)
        # Numbers of other disks may be equal, so that those of a pair are read with their disks.
        if first is path and inode and (other := by_inode.setdefault(inode, real)) != real:
            by_identity.setdefault(_identity(other), by_real_path[other])
            first = by_real_path[real] = by_identity.setdefault(_identity(real), path)
        spellings[path] = first
    return spellings


def find_repeated(paths: Sequence[str]) -> Iterator[tuple[int, int]]:
    """Yield (place, first place) of each path whose file is in ``paths`` before.

    >>> list(find_repeated(["a.jpg", "b.jpg", "./a.jpg"]))
    [(2, 0)]
    """
    spellings = first_spellings(paths)
    places: dict[str, int] = {}
    for place, path in enumerate(paths):
        first = places.setdefault(spellings[path], place)
        if first != place:
            yield place, first


def find_missing(paths: Iterable[str]) -> list[str]:
    """List the paths, in their order, at which there is no file; each folder is listed once.

    A plain file costs no system call of its own.
    """
    folders: dict[str, dict[str, int] | None] = {}
    missing = []
    for path in dict.fromkeys(paths):
        folder, name = os.path.split(path)
        if folder not in folders:
            folders[folder] = _list_folder(folder)[1]
        if name not in (folders[folder] or ()) and not os.path.exists(path):
            missing.append(path)
    return missing


def _list_folder(folder: str) -> tuple[str, dict[str, int] | None]:
    """Return a folder's real path, and the inodes of its entries that are no links, by name.

    The second is None where the folder cannot be listed.
    """
    real = _real_path(folder or os.curdir)
    try:
        with os.scandir(real) as entries:
            return real, {entry.name: entry.inode() for entry in entries if not entry.is_symlink()}
    except (OSError, ValueError):
        return real, None


def _real_path(path: str) -> str:
    try:
        return os.path.realpath(path)
    except ValueError:  # a NUL character
        return os.path.abspath(path)


def _identity(path: str) -> Hashable:
    """Return (disk, inode) of a file, the path itself where there is none."""
    try:
        state = os.stat(path)
    except (OSError, ValueError):
        return path
    return (state.st_dev, state.st_ino) if state.st_ino else path
