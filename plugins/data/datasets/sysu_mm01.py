"""SYSU-MM01: images of 491 people by 4 visible and 2 infrared cameras (Wu et al., ICCV 2017).

``cam<1-6>/<person>/<number>.jpg`` are the images, ``exp/*_id.txt`` the people of each split. An
infrared image searches a gallery with one or ten visible images of each person under each camera.
There are ten such galleries, drawn in one of two ways whose scores do not compare.
"""

import os
import re
from collections import Counter

import numpy as np
from fastreid.config import CfgNode

from plugins.config import check_value
from plugins.data.datasets.base import Items, ReidDataset
from plugins.data.datasets.galleries import TRIALS, group_rows, seeded_galleries
from plugins.data.datasets.index_files import read_people, require_part
from plugins.data.datasets.mat_files import read_cells
from plugins.data.datasets.tracklet import INFRARED, VISIBLE, Tracklet, as_tracklet
from plugins.data.datasets.unlisted import Folders
from plugins.errors import InputError
from plugins.protocol import Direction, Trial
from plugins.registry import DATASET

CAMERAS = {1: VISIBLE, 2: VISIBLE, 3: INFRARED, 4: VISIBLE, 5: VISIBLE, 6: INFRARED}
GALLERY_CAMERAS = {"all": (1, 2, 4, 5), "indoor": (1, 2)}
SHOTS = (1, 10)
DRAWS = ("official", "seeded")
PERMUTATIONS = "rand_perm_cam.mat"
IMAGE = re.compile(r"\d{4}\.jpg")


@DATASET.register()
class SYSUMM01(ReidDataset):
    """SYSU-MM01; only infrared searches visible.

    The galleries are drawn in two ways:

    - official: trial t takes the first entries of row t of the authors' ``rand_perm_cam.mat``,
      where i is the i-th image of a person under a camera. Some code reads i as a file name, which
      is the same as long as the files are numbered without a gap.
    - seeded: trial t draws one image with the seed t, as AGW's code; not defined for ten images.

    The training people are those of train_id and val_id, as in all published results.
    """

    dataset_url = "https://github.com/wuancong/SYSU-MM01"
    holds = "images of two modalities"

    def __init__(
        self,
        root: str = "datasets",
        combineall: bool = False,
        dataset_dir: str = "SYSU-MM01",
        mode: str = "all",
        shot: int = 1,
        draw: str = "official",
    ) -> None:
        """List the images of the people in ``exp/``.

        Args:
            root: folder of all data sets.
            combineall: train on the test images too, whatever the mode.
            dataset_dir: folder of this set in ``root``.
            mode: cameras of the gallery, "all" four or the two "indoor".
            shot: gallery images of a person under a camera, 1 or 10.
            draw: how galleries are drawn, "official" or "seeded".

        Raises:
            InputError: the folder is missing, an option is unknown, or a file is wrong.
        """
        check_value("DATASETS.SYSU.MODE", mode)
        check_value("DATASETS.SYSU.SHOT", shot)
        check_value("DATASETS.SYSU.DRAW", draw)
        if (draw, shot) == ("seeded", 10):
            raise InputError(
                "DATASETS.SYSU.DRAW: 'seeded' draws one image; for SHOT 10 expected 'official'"
            )
        folder = os.path.join(root, dataset_dir)
        require_part(folder, "exp", "SYSU-MM01", self.dataset_url)
        trained, tested = read_splits(os.path.join(folder, "exp"))
        train, test = list_images(folder, trained), list_images(folder, tested)
        self._folder, self._images = folder, [*train, *test]
        infrared, visible = (
            [i for i in test if i.modality == kind] for kind in (INFRARED, VISIBLE)
        )
        super().__init__(
            [*train, *infrared, *visible] if combineall else train,
            infrared,
            [image for image in visible if image.camid in GALLERY_CAMERAS[mode]],
        )
        if draw == "official":
            galleries = official_galleries(find_permutations(folder), self.gallery, shot)
        else:
            galleries = seeded_galleries(self.gallery)
        self._compare_permutations({*trained, *tested})
        queries, rows = self.rows()
        trials = tuple(Trial(queries, rows[gallery]) for gallery in galleries)
        self._name = f"I2V {mode} {shot}-shot {draw}-draw"
        self._direction = Direction(
            trials, junk="sysu", cmc="identity", gallery_cameras=GALLERY_CAMERAS[mode]
        )

    def _compare_permutations(self, people: set[int]) -> None:
        """Note as a fault which images the permutations have and the folder lacks.

        The seeded draw needs no permutations; without a file, or with an unreadable one, there is
        nothing to compare with.
        """
        try:
            path = find_permutations(self._folder)
            cameras = read_permutations(path)
        except InputError:
            return
        if lost := find_lost(cameras, self._images, people):
            (camid, pid), (expected, found) = next(iter(lost.items()))
            self.faults[PERMUTATIONS] = (
                f"{len(lost)} folders have fewer images than the table has numbers, such as "
                f"cam{camid}/{pid:04d}: {found}, expected {expected}; copy the data set again"
            )

    @classmethod
    def options(cls, cfg: CfgNode) -> dict:
        """Read DATASETS.SYSU."""
        sysu = cfg.DATASETS.SYSU
        return {"mode": sysu.MODE, "shot": sysu.SHOT, "draw": sysu.DRAW}

    def folders(self) -> Folders:
        """Return the folders of the six cameras; images that a mode leaves out are listed too."""
        roots = (os.path.join(self._folder, f"cam{camera}") for camera in CAMERAS)
        files = [image.img_paths[0] for image in self._images]
        return Folders(tuple(roots), files)

    def directions(self) -> dict[str, Direction]:
        """Search I2V over ten galleries; the name has mode, shots and draw."""
        return {self._name: self._direction}


def read_splits(folder: str) -> tuple[list[int], list[int]]:
    """Read the people to train on (train_id and val_id) and to test on, both ascending.

    Args:
        folder: ``exp`` of the data set.

    Raises:
        InputError: a file is missing or unreadable, or somebody is in two of them.
    """
    people: dict[int, str] = {}
    for split in ("train", "val", "test"):
        path = os.path.join(folder, f"{split}_id.txt")
        for pid in read_people(path):
            if pid in people:
                raise InputError(f"{path}:1: person {pid} is in {people[pid]}_id.txt too")
            people[pid] = split
    test = [pid for pid, split in people.items() if split == "test"]
    return sorted(people.keys() - set(test)), test


def list_images(folder: str, people: list[int]) -> list[Tracklet]:
    """List the images of ``people``, a tracklet each, by person, camera and file name.

    Not every camera sees everybody. Files that are no images are passed over.

    Raises:
        InputError: an image is not named as those of SYSU-MM01, or a person has none.
    """
    images: list[Tracklet] = []
    for pid in people:
        before = len(images)
        for camid, modality in CAMERAS.items():
            below = os.path.join(folder, f"cam{camid}", f"{pid:04d}")
            for name in sorted(os.listdir(below)) if os.path.isdir(below) else ():
                if IMAGE.fullmatch(name):
                    images.append(Tracklet((f"{below}/{name}",), pid, camid, modality))
                elif name.lower().endswith((".jpg", ".jpeg", ".png", ".bmp")):
                    raise InputError(f"{below}/{name}: expected four digits, such as 0001.jpg")
        if len(images) == before:
            raise InputError(
                f"{folder}: no image of person {pid:04d}, such as cam1/{pid:04d}/0001.jpg"
            )
    return images


def find_permutations(folder: str) -> str:
    """Find ``rand_perm_cam.mat``, in ``exp`` or ``data_split``.

    Raises:
        InputError: it is in neither.
    """
    paths = [os.path.join(folder, below, PERMUTATIONS) for below in ("exp", "data_split")]
    for path in paths:
        if os.path.isfile(path):
            return path
    raise InputError(
        f"{paths[0]}: no such file, nor {paths[1]}; the official draw needs it, from folder "
        f"evaluation/data_split of {SYSUMM01.dataset_url}; or set DATASETS.SYSU.DRAW seeded"
    )


def read_permutations(path: str) -> list[list[np.ndarray]]:
    """Read ``rand_perm_cam.mat``: camera -> person -> (trials, images) numbers from 1.

    Raises:
        InputError: the file is missing or damaged, or holds another table.
    """
    cameras = read_cells(path, "rand_perm_cam")
    if not isinstance(cameras, list) or not all(
        isinstance(people, list) and all(isinstance(orders, np.ndarray) for orders in people)
        for people in cameras
    ):
        raise InputError(
            f"{path}: no table of permutations; expected a cell for each camera, and in it one for "
            "each person"
        )
    return cameras


def find_lost(
    cameras: list[list[np.ndarray]], images: Items, people: set[int]
) -> dict[tuple[int, int], tuple[int, int]]:
    """Find folders of a person under a camera that lack images of the permutations.

    Args:
        cameras: see :func:`read_permutations`.
        images: all images of the set, of any split.
        people: people of the splits.

    Returns:
        (camera, person) -> (numbers in the table, images in the folder)
    """
    found = Counter((image.camid, image.pid) for image in map(as_tracklet, images))
    return {
        (camid, pid): (orders.shape[-1], found[camid, pid])
        for camid, persons in enumerate(cameras, start=1)
        for pid, orders in enumerate(persons, start=1)
        if pid in people and orders.shape[0] == TRIALS and found[camid, pid] < orders.shape[-1]
    }


def official_galleries(path: str, images: Items, shot: int) -> list[np.ndarray]:
    """List the rows of ``images`` in each trial's gallery; a group below ``shot`` gives all.

    Args:
        path: ``rand_perm_cam.mat``: camera -> person -> (trials, images) numbers from 1.
        images: images to draw from.
        shot: number of images of a person under a camera in a gallery.

    Raises:
        InputError: the file is unreadable, or disagrees with the images.
    """
    cameras = read_permutations(path)
    galleries: list[list[int]] = [[] for _ in range(TRIALS)]
    for (pid, camid), rows in group_rows(images).items():
        known = camid <= len(cameras) and pid <= len(cameras[camid - 1])
        orders = cameras[camid - 1][pid - 1] if known else np.empty((TRIALS, 0))
        if orders.shape != (TRIALS, len(rows)):
            raise InputError(
                f"{path}: camera {camid}, person {pid}: found a table of shape {orders.shape}, "
                f"expected {TRIALS} trials of {len(rows)} images, as there are in cam{camid}/"
                f"{pid:04d}"
            )
        if (np.sort(orders, axis=1) != np.arange(1, len(rows) + 1)).any():
            raise InputError(f"{path}: camera {camid}, person {pid}: not a permutation")
        for gallery, order in zip(galleries, orders, strict=True):
            gallery += [rows[number - 1] for number in order[:shot].tolist()]
    return [np.array(gallery, dtype=np.int64) for gallery in galleries]
