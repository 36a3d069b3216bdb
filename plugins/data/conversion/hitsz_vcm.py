"""The layout of HITSZ-VCM: ``Train|Test/<person>/<ir|rgb>/D<camera>/<frame>.jpg`` and ``info/``."""

import os
from collections import Counter
from pathlib import Path

from plugins.data.conversion.item import Item, Plan, number_names, require_splits
from plugins.data.datasets.hitsz_vcm import HITSZVCM, MODALITY_CODES, MODALITY_FOLDERS
from plugins.data.datasets.tracklet import INFRARED
from plugins.errors import InputError
from plugins.utils.io import write_text

NAME = "hitsz-vcm"
EXTENSIONS = (".jpg", ".jpeg", ".png", ".bmp")
LETTERS = {modality: code for code, modality in MODALITY_CODES.items()}


def open_set(folder: Path) -> HITSZVCM:
    """Read the data set in ``folder``."""
    return HITSZVCM(root=str(folder.parent), dataset_dir=folder.name)


def plan(items: list[Item]) -> Plan:
    """Order tracklets by person, modality and camera; number the frames of a folder through.

    Raises:
        InputError: nothing is left of a split, or a file has an extension of another kind.
    """
    losses = []
    long = [item for item in items if len(item.files) >= HITSZVCM.min_frames]
    if len(long) < len(items):
        losses.append(
            f"{len(items) - len(long)} of {len(items)} tracklets are left out: HITSZVCM passes "
            f"over those of fewer than {HITSZVCM.min_frames} frames"
        )
    kept = [item._replace(split=_split(item)) for item in long]
    moved = sum(old.split != new.split for old, new in zip(long, kept, strict=True))
    if moved:
        losses.append(
            f"{moved} test tracklets change between query and gallery: all infrared ones are "
            "queries, all visible ones the gallery"
        )
    require_splits(NAME, kept, losses)
    people, renamed_people = number_names((item.person for item in kept), "people")
    cameras, renamed_cameras = number_names((item.camera for item in kept), "cameras")

    def view(item: Item) -> tuple:
        return item.split != "train", people[item.person], item.modality, cameras[item.camera]

    kept.sort(key=view)
    taken: Counter[str] = Counter()
    planned = []
    for item in kept:
        pid, camid = people[item.person], cameras[item.camera]
        top = "Train" if item.split == "train" else "Test"
        folder = f"{top}/{pid:04d}/{MODALITY_FOLDERS[item.modality]}/D{camid}"
        files = []
        for file in item.files:
            taken[folder] += 1
            files.append(f"{folder}/{taken[folder]}{_extension(file)}")
        planned.append(item._replace(person=str(pid), camera=str(camid), files=tuple(files)))
    return Plan(planned, [item.files for item in kept], losses + renamed_people + renamed_cameras)


def _split(item: Item) -> str:
    if item.split == "train":
        return "train"
    return "query" if item.modality == INFRARED else "gallery"


def _extension(file: str) -> str:
    extension = os.path.splitext(file)[1]
    if extension.lower() not in EXTENSIONS:
        raise InputError(
            f"{file}: {NAME} has no files '{extension}'; expected {', '.join(EXTENSIONS)}"
        )
    return extension


def write_index(root: Path, items: list[Item]) -> None:
    """Write ``info/``; tracklets of a folder are numbered from 1, and infrared ones are queries.

    Args:
        root: folder of the data set.
        items: people and cameras are numbers; items that are not in train are in test.
    """
    info = root / "info"
    info.mkdir(exist_ok=True)
    for split in ("train", "test"):
        names: list[str] = []
        tracks: list[str] = []
        queries: list[str] = []
        numbers: Counter[str] = Counter()
        for item in items:
            if (item.split == "train") != (split == "train"):
                continue
            letter, pid = LETTERS[item.modality], int(item.person)
            stem = f"{pid:04d}M{letter}D{item.camera}"
            numbers[stem] += 1
            start = len(names) + 1
            names += [f"{stem}T{numbers[stem]}F{os.path.basename(file)}" for file in item.files]
            tracks.append(f"{letter} {start} {len(names)} {pid:04d} {item.camera}")
            if item.modality == INFRARED:
                queries.append(str(len(tracks)))
        write_text(info / f"{split}_name.txt", "\n".join(names) + "\n")
        write_text(info / f"track_{split}_info.txt", "\n".join(tracks) + "\n")
        if split == "test":
            write_text(info / "query_IDX.txt", " ".join(queries) + "\n")
