"""The layout of BUPTCampus: ``DATA/``, ``data_paths.json`` and files of rows.

``DATA/<person>/<IR|RGB>/<camera>/<person>_<IR|RGB>_<camera>_<tracklet>_<frame>.jpg``
"""

import os
from collections import Counter
from pathlib import Path

from plugins.data.conversion.item import Item, Plan, number_names, require_splits
from plugins.data.datasets.bupt_campus import CAMERAS, MODALITY_CODES, PAIR, BUPTCampus
from plugins.data.datasets.tracklet import VISIBLE
from plugins.errors import InputError
from plugins.utils.io import write_json, write_text

NAME = "bupt-campus"
CAMERA_NAMES = {str(code): name for name, code in CAMERAS.items()}
KINDS = {modality: kind for kind, modality in MODALITY_CODES.items()}


def open_set(folder: Path) -> BUPTCampus:
    """Read the data set in ``folder``."""
    return BUPTCampus(root=str(folder.parent), dataset_dir=folder.name)


def plan(items: list[Item]) -> Plan:
    """Order tracklets by person and camera, the k-th visible one beside the k-th infrared one.

    Such partners share a tracklet number, counted from 1 through the whole set.

    Raises:
        InputError: there are more than six cameras, or nothing is left of a split.
    """
    people, losses = number_names((item.person for item in items), "people")
    cameras, renamed = number_names((item.camera for item in items), "cameras", CAMERAS.values())
    losses += renamed
    if len(cameras) > len(CAMERAS):
        raise InputError(
            f"{NAME}: found {len(cameras)} cameras, {', '.join(cameras)}; expected at most "
            f"{len(CAMERAS)}"
        )
    seen: Counter[tuple] = Counter()
    partners: dict[tuple, list[Item]] = {}
    for item in items:
        view = (item.split != "train", people[item.person], cameras[item.camera])
        seen[view, item.modality] += 1
        partners.setdefault((*view, seen[view, item.modality]), []).append(item)
    alone = [key for key, group in partners.items() if not key[0] and len(group) == 1]
    for key in alone:
        del partners[key]
    if alone:
        losses.append(
            f"{len(alone)} training tracklets are left out: they have no partner in the other "
            "modality, by the same person and camera"
        )
    planned, sources = [], []
    for number, key in enumerate(sorted(partners), start=1):
        _, pid, code, _ = key
        for item in sorted(partners[key], key=lambda item: item.modality):
            stem = frame_stem(pid, item.modality, str(code), number)
            files = tuple(
                f"{stem}_{frame}{os.path.splitext(file)[1]}"
                for frame, file in enumerate(item.files, start=1)
            )
            planned.append(item._replace(person=str(pid), camera=str(code), files=files))
            sources.append(item.files)
    require_splits(NAME, planned, losses)
    return Plan(planned, sources, losses)


def frame_stem(pid: int, modality: int, code: str, number: int) -> str:
    """Name a tracklet's frames, up to their numbers.

    >>> frame_stem(1, 1, "3", 8535)
    'DATA/1/IR/CQ1/1_IR_CQ1_8535'
    """
    kind, camera = KINDS[modality], CAMERA_NAMES[code]
    return f"DATA/{pid}/{kind}/{camera}/{pid}_{kind}_{camera}_{number}"


def write_index(root: Path, items: list[Item]) -> None:
    """Write ``data_paths.json`` and, for each split that occurs, its file of rows.

    Args:
        root: folder of the data set.
        items: named as :func:`frame_stem` says. In train and train_auxiliary every visible item
            has an infrared partner of the same tracklet number.
    """
    index: dict = {}
    rows: dict[str, list[str]] = {}
    for item in items:
        kind, camera = KINDS[item.modality], CAMERA_NAMES[item.camera]
        number = item.files[0].split("_")[-2]
        tracklets = index.setdefault(item.person, {}).setdefault(kind, {}).setdefault(camera, {})
        tracklets[number] = [file.removeprefix("DATA/") for file in item.files]
        if item.split.startswith("train"):
            if item.modality != VISIBLE:
                continue
            kind = PAIR
        rows.setdefault(item.split, []).append(f"{item.person} {kind} {camera} {number}")
    write_json(root / "data_paths.json", index, indent=0)
    for split, lines in rows.items():
        write_text(root / f"{split}.txt", "\n".join(lines) + "\n")
