"""A user's reader of a data set: its arguments and its lists, before anything works with them."""

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from numbers import Integral
from typing import Any

from plugins.data.datasets.base import ReidDataset
from plugins.data.datasets.tracklet import MODALITIES, SPLITS, Tracklet, is_image
from plugins.errors import InputError
from plugins.protocol import Direction
from plugins.utils.own_code import call_mistake, described, is_users
from plugins.utils.values import shortened


def check_arguments(reader: Callable, label: str, options: Iterable[str]) -> None:
    """Raise InputError if a user's reader takes other arguments than it will be called with.

    Args:
        reader: as it is registered.
        label: key and name of the set, for the message.
        options: names of its options.
    """
    if not is_users(reader):
        return
    named = ["root", *options]
    if mistake := call_mistake(reader, **dict.fromkeys(named)):
        raise InputError(
            f"{described(label, reader)}: {mistake}; expected "
            f"__init__(self, {', '.join(f'{name}=...' for name in named)})"
        )


def check_lists(data: Any, label: str) -> None:
    """Raise InputError if a user's data set lacks a list, or an item of one is no tracklet.

    Args:
        data: the data set.
        label: key and name of the set, for the message.
    """
    if not is_users(type(data)):
        return
    label = described(label, data)
    began = all(hasattr(data, split) for split in SPLITS)
    if not began or (isinstance(data, ReidDataset) and not hasattr(data, "remarks")):
        raise InputError(
            f"{label}: its __init__ does not call super().__init__(train, query, gallery); "
            "expected that call"
        )
    for split in SPLITS:
        items = getattr(data, split)
        if not isinstance(items, Sequence) or isinstance(items, str):
            raise InputError(
                f"{label}: {split} is {shortened(items)}; expected a list of tracklets"
            )
        for row, item in enumerate(items):
            if mistake := item_mistake(item):
                raise InputError(f"{label}: {split} row {row}: {mistake}")
        if empty := [row for row, item in enumerate(items) if not len(item[0])]:
            where = described_item(items[empty[0]])
            raise InputError(
                f"{label}: {len(empty)} of {len(items)} tracklets of {split} have no frames, such "
                f"as row {empty[0]}, {where}; expected one file or more in img_paths; check the "
                "folder and the suffix that the reader searches for"
            )
    if is_users(type(data).directions):
        check_directions(data.directions(), label)


def check_directions(directions: object, label: str) -> None:
    """Raise InputError unless a reader's ``directions`` returned directions by name."""
    values = directions.values() if isinstance(directions, Mapping) else [directions]
    if not all(isinstance(each, Direction) for each in values):
        raise InputError(
            f"{label}: directions returned {shortened(directions)}; expected "
            "{'I2V': Direction(...), ...}"
        )


def item_mistake(item: Any) -> str:
    """Say why an item is neither a tracklet nor fastreid's image; "" where it is one."""
    if not isinstance(item, tuple | list) or len(item) < 3:
        return f"{shortened(item)}; expected a Tracklet"
    files, pid, camid = item[:3]
    if is_image(item) and not isinstance(item, Tracklet):
        return ""
    if not isinstance(files, tuple | list) or not all(map(is_path, files)):
        return f"img_paths is {shortened(files)}; expected a tuple of files, one for each frame"
    for field, value in (("pid", pid), ("camid", camid)):
        if not isinstance(value, Integral | str):
            return f"{field} is {shortened(value)}; expected a number or a name"
    if len(item) < len(Tracklet._fields) - 1:
        return f"{len(item)} entries; expected a Tracklet"
    modality = item[Tracklet._fields.index("modality")]
    if not (isinstance(modality, Integral) and 0 <= int(modality) < len(MODALITIES)):
        return f"modality is {shortened(modality)}; expected VISIBLE (0) or INFRARED (1)"
    return ""


def is_path(value: object) -> bool:
    """Tell whether a value names a file."""
    return isinstance(value, str | os.PathLike)


def described_item(item: Sequence) -> str:
    """Describe a tracklet, for a message."""
    _, pid, camid, modality = item[:4]
    return f"person {pid}, camera {camid}, {MODALITIES[modality]}"
