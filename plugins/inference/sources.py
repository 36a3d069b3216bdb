"""Find the user's own items: pictures, folders of frames, videos."""

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from plugins.data.datasets.folder import names_in
from plugins.data.datasets.unlisted import (
    Folders,
    describe_unlisted,
    find_unlisted,
    walk_folders,
)
from plugins.errors import InputError
from plugins.inference.items import Clip
from plugins.inference.readers import is_video, open_video
from plugins.utils.images import ENDINGS
from plugins.utils.io import read_text
from plugins.utils.names import natural_order


def find_pictures(folder: str | os.PathLike) -> list[Clip]:
    """List each picture below a folder as an item, whose name is its path from there.

    Raises:
        InputError: no such folder, or no picture in it, or one whose path is not UTF-8.
    """
    root = require_folder(folder)
    clips = [Clip(_name(path, root), path, (path,)) for path in pictures_below(root)]
    if not clips:
        raise InputError(f"{root}: no pictures there{_others(root)}")
    return clips


def find_clips(folder: str | os.PathLike) -> list[Clip]:
    """List each folder that holds pictures, and each video, as an item.

    Frames stand in the order of their names, in which 2.jpg comes before 10.jpg.

    Raises:
        InputError: no such folder, no picture and no video below it, one whose path is not UTF-8,
            or from :func:`open_video`.
    """
    root = require_folder(folder)
    videos = [path for path in files_below(root) if is_video(path)]
    require_text(videos)
    clips: dict[str, list[str]] = {}
    for path in pictures_below(root):
        clips.setdefault(os.path.dirname(path), []).append(path)
    found = [Clip(_name(path, root), path, tuple(frames)) for path, frames in clips.items()]
    found += [open_video(path, _name(path, root)) for path in videos]
    if not found:
        raise InputError(f"{root}: no folders of frames and no videos there{_others(root)}")
    return sorted(found, key=lambda clip: natural_order(clip.name))


def find_files(paths: Iterable[str | os.PathLike]) -> list[Clip]:
    """List files: a picture is an item of one frame, a folder of pictures or a video a clip.

    Raises:
        InputError: a path leads nowhere, to no picture or video, is not UTF-8, or comes twice; or
            there is none.
    """
    clips = [find_file(os.fspath(path)) for path in paths]
    if not clips:
        raise InputError("no files; expected one or more pictures, folders of frames or videos")
    seen: set[str] = set()
    for clip in clips:
        if clip.name in seen:
            raise InputError(f"{clip.name}: listed twice; expected each file once")
        seen.add(clip.name)
    return clips


def find_file(path: str) -> Clip:
    """List one file, see :func:`find_files`."""
    require_text([path])
    if os.path.isdir(path):
        frames = [os.path.join(path, name) for name in names_in(path)]
        frames = sorted((f for f in frames if f.lower().endswith(ENDINGS)), key=natural_order)
        if not frames:
            raise InputError(f"{path}: no pictures in that folder{_others(path)}")
        require_text(frames)
        return Clip(path, path, tuple(frames))
    if not os.path.exists(path):
        raise InputError(f"{path}: no such file")
    if is_video(path):
        return open_video(path, path)
    if not path.lower().endswith(ENDINGS):
        raise InputError(f"{path}: expected a picture, a folder of frames or a video")
    return Clip(path, path, (path,))


def require_text(paths: Iterable[str]) -> None:
    """Raise InputError for a path that is not UTF-8, which features could not name."""
    for path in paths:
        if not is_text(path):
            raise InputError(
                f"{path!r}: its name is not UTF-8, so that features cannot name it; rename it"
            )


def is_text(path: str) -> bool:
    """Tell whether a path is Unicode: bytes of a name that are no UTF-8 become surrogates."""
    try:
        path.encode()
    except UnicodeEncodeError:
        return False
    return True


def read_list(path: str | os.PathLike) -> list[str]:
    """Read a text file with a path on each line, from the file's folder on or absolute.

    Raises:
        InputError: the file cannot be read.
    """
    folder = os.path.dirname(os.fspath(path))
    lines = (line.strip() for line in read_text(path).splitlines())
    return [os.path.join(folder, line) for line in lines if line]


def require_folder(folder: str | os.PathLike) -> str:
    """Return the path of a folder; raise InputError if there is none."""
    if not os.path.isdir(folder):
        what = "a file" if os.path.exists(folder) else "no such folder"
        raise InputError(f"{folder}: {what}; expected a folder")
    return os.fspath(folder)


def pictures_below(root: str) -> list[str]:
    """List the pictures below a folder, in the order of their names.

    Raises:
        InputError: a folder cannot be read, or the path of a picture is not UTF-8.
    """
    found = [path for path in files_below(root) if path.lower().endswith(ENDINGS)]
    require_text(found)
    return found


def files_below(root: str) -> list[str]:
    """List the files below a folder without those whose name, or folder's name, begins with a dot.

    Raises:
        InputError: a folder cannot be read.
    """
    files = [
        os.path.join(folder, name)
        for folder, names in walk_folders([root], deep=True)
        for name in names
        if not name.startswith(".")
    ]
    return sorted(files, key=lambda path: natural_order(os.path.relpath(path, root)))


def describe_passed_over(folder: str | os.PathLike, clips: Sequence[Clip]) -> str:
    """Say which pictures and videos below a folder are in no item; empty if none."""
    read = [frame.rpartition("#")[0] or frame for clip in clips for frame in clip.frames]
    unlisted = find_unlisted(Folders((os.fspath(folder),), [*read, *(c.path for c in clips)]))
    return describe_unlisted(unlisted) if unlisted else ""


def _others(folder: str) -> str:
    text = describe_passed_over(folder, [])
    return f"; {text}" if text else ""


def _name(path: str, root: str) -> str:
    return Path(os.path.relpath(path, root)).as_posix()
