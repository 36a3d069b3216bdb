"""Writes small HITSZ-VCM trees with real JPEGs."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image


class Walk(NamedTuple):
    """A tracklet to write; the frame numbers of a folder run on."""

    pid: int
    modality: int  # 1 infrared, 2 visible, as in the files
    camid: int
    frames: int


# People 1-4 to train, 501-502 to test; rows 2 and 4 of the test set are too short to be used.
TRAIN = [
    Walk(pid, modality, camid, 12 + camid)
    for pid in (1, 2, 3, 4)
    for modality in (1, 2)
    for camid in (1, 2)
] + [Walk(1, 2, 3, 11)]
TEST = [
    Walk(501, 2, 1, 13),
    Walk(501, 1, 2, 11),
    Walk(501, 1, 3, 12),
    Walk(501, 2, 3, 5),
    Walk(502, 1, 1, 24),
    Walk(502, 2, 2, 12),
    Walk(502, 1, 2, 14),
]
FRAME_FOLDERS = {
    "nested": {"train": "Train", "test": "Test"},
    "flat": {"train": "", "test": ""},
    "doubled": {"train": "Train/Train", "test": "Test/Test"},
}


def write_tree(
    root: Path, layout: str = "nested", train: list[Walk] = TRAIN, test: list[Walk] = TEST
) -> Path:
    """Write frames and info files below ``root / "HITSZ-VCM"``; returns that folder."""
    folder = root / "HITSZ-VCM"
    (folder / "info").mkdir(parents=True)
    for split, walks in {"train": train, "test": test}.items():
        write_split(folder, split, walks, folder / FRAME_FOLDERS[layout][split])
    queries = [row for row, walk in enumerate(test, start=1) if walk.modality == 1]
    (folder / "info" / "query_IDX.txt").write_text(" ".join(map(str, queries)))
    return folder


def write_split(folder: Path, split: str, walks: list[Walk], frames: Path) -> None:
    names, rows = [], []
    for number, walk in enumerate(walks, start=1):
        kind = "ir" if walk.modality == 1 else "rgb"
        place = frames / f"{walk.pid:04d}" / kind / f"D{walk.camid}"
        place.mkdir(parents=True, exist_ok=True)
        first, taken = len(names) + 1, len(list(place.iterdir()))
        for frame in range(taken + 1, taken + walk.frames + 1):
            write_frame(place / f"{frame}.jpg", seed=frame + 100 * number)
            names.append(f"{walk.pid:04d}M{walk.modality}D{walk.camid}T{number}F{frame}.jpg")
        rows.append(f"{walk.modality} {first} {len(names)} {walk.pid:04d} {walk.camid}")
    (folder / "info" / f"{split}_name.txt").write_text("\n".join(names) + "\n")
    (folder / "info" / f"track_{split}_info.txt").write_text("\n".join(rows) + "\n")


def write_frame(path: Path, seed: int, height: int = 24, width: int = 12) -> None:
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 3, 3), dtype=np.uint8)
    Image.fromarray(coarse).resize((width, height), Image.BILINEAR).save(path, quality=90)


def edit_line(path: Path, line: int, text: str) -> None:
    """Replace a line, counted from 1."""
    lines = path.read_text().split("\n")
    lines[line - 1] = text
    path.write_text("\n".join(lines))
