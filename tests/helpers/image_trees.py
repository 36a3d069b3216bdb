"""Writes small SYSU-MM01, RegDB and LLCM trees; their images are empty unless asked for."""

import zlib
from pathlib import Path

import numpy as np
from scipy.io import savemat

from tests.helpers.hitsz_tree import write_frame

# Images of SYSU-MM01 by camera and person. People 2 and 30 train, 7 validates, the others test; 4
# is on camera 2 and 3 only, 112 is never on camera 1 or 2.
SYSU_COUNTS = {
    (1, 2): 3,
    (3, 2): 2,
    (6, 2): 1,
    (5, 30): 2,
    (6, 30): 2,
    (4, 7): 1,
    (3, 7): 2,
    (1, 3): 12,
    (2, 3): 11,
    (4, 3): 4,
    (3, 3): 2,
    (6, 3): 3,
    (2, 4): 5,
    (3, 4): 2,
    (4, 112): 6,
    (5, 112): 13,
    (6, 112): 2,
}
SYSU_SPLITS = {"train": "30,2", "val": "7", "test": "112,3,4"}


def write_sysu(root: Path, counts: dict = SYSU_COUNTS, pictures: bool = False) -> Path:
    """Write images, ``exp/`` and the permutations below ``root / "SYSU-MM01"``."""
    folder = root / "SYSU-MM01"
    for (camera, person), number in counts.items():
        for image in range(1, number + 1):
            path = folder / f"cam{camera}" / f"{person:04d}" / f"{image:04d}.jpg"
            write_image(path, pictures)
    (folder / "exp").mkdir()
    for split, people in SYSU_SPLITS.items():
        # What follows the first line is not for reading.
        (folder / "exp" / f"{split}_id.txt").write_text(f"{people}\n999,998\n")
    write_permutations(folder / "exp" / "rand_perm_cam.mat", counts)
    return folder


def write_permutations(path: Path, counts: dict, people: int = 120) -> None:
    """A 6 x 1 cell of cell columns by person, of 10 x N permutations; N is 0 where nobody is."""
    generator = np.random.default_rng(0)
    cameras = np.empty((6, 1), dtype=object)
    for camera in range(1, 7):
        column = np.empty((people, 1), dtype=object)
        for person in range(1, people + 1):
            number = counts.get((camera, person), 0)
            orders = [generator.permutation(number) + 1 for _ in range(10)]
            column[person - 1, 0] = np.array(orders, dtype=np.uint8).reshape(10, number)
        cameras[camera - 1, 0] = column
    savemat(path, {"rand_perm_cam": cameras})


def regdb_image(person: int, kind: str, number: int) -> str:
    mark = "t" if kind == "Thermal" else "v"
    return f"{kind}/{person}/male_back_{mark}_{number:05d}_{person}.bmp"


# Splits of RegDB: person -> label, another numbering in each file pair.
REGDB_SPLITS = {
    1: {"train": {168: 0, 5: 1}, "test": {285: 0, 73: 1}},
    2: {"train": {73: 0, 285: 1}, "test": {5: 0, 168: 1}},
}


def write_regdb(root: Path, images: int = 3) -> Path:
    """Write index files and images of two splits below ``root / "RegDB"``."""
    folder = root / "RegDB"
    (folder / "idx").mkdir(parents=True)
    for trial, splits in REGDB_SPLITS.items():
        for split, labels in splits.items():
            for kind in ("Visible", "Thermal"):
                lines = [
                    f"{regdb_image(person, kind, number)} {label}"
                    for person, label in labels.items()
                    for number in range(images)
                ]
                path = folder / "idx" / f"{split}_{kind.lower()}_{trial}.txt"
                path.write_text("\n".join(lines) + "\n")
                for line in lines:
                    write_image(folder / line.split()[0])
    return folder


# Cameras of LLCM's people by modality; 3 and 351 test, 10 and 20 train.
LLCM_CAMERAS = {
    10: {"vis": (1, 3), "nir": (1, 2)},
    20: {"vis": (9,), "nir": (9,)},
    3: {"vis": (1, 3, 6), "nir": (1, 2)},
    351: {"vis": (6,), "nir": (6, 9)},
}


def llcm_image(person: int, camera: int, kind: str, frame: int, copies: bool = False) -> str:
    name = f"{person:04d}_c{camera:02d}_s{frame}00656_f{frame}_{kind}.jpg"
    place = f"test_{kind}/cam{camera}" if copies else kind
    return f"{place}/{person:04d}/{name}"


def write_llcm(root: Path, copies: bool = False, images: int = 4) -> Path:
    """Write index files and images below ``root / "LLCM"``.

    With ``copies`` the test files list the copies of the test images that are sorted by camera.
    """
    folder = root / "LLCM"
    (folder / "idx").mkdir(parents=True)
    (folder / "idx" / "test_id.txt").write_text("3,351")
    splits = {"train": (10, 20), "test": (351, 3)}
    for split, people in splits.items():
        for kind in ("vis", "nir"):
            lines = [
                f"{llcm_image(person, camera, kind, frame, copies and split == 'test')} {label}"
                for label, person in enumerate(people)
                for camera in LLCM_CAMERAS[person][kind]
                for frame in range(images, 0, -1)
            ]
            (folder / "idx" / f"{split}_{kind}.txt").write_text("\n".join(lines) + "\n")
            for line in lines:
                write_image(folder / line.split()[0])
    return folder


def write_image(path: Path, picture: bool = False) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if picture:
        write_frame(path, seed=zlib.crc32("/".join(path.parts[-3:]).encode()))
    else:
        path.touch()
