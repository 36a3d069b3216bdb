"""Read a user's pictures: a folder for each person."""

import os
import sys
from math import ceil

from fastreid.config import CfgNode
from fastreid.data.datasets.bases import ImageDataset

from plugins.data.datasets.unlisted import Folders, describe_unlisted, find_unlisted
from plugins.errors import InputError
from plugins.registry import DATASET
from plugins.utils.images import ENDINGS
from plugins.utils.values import shortened

SHAPE = "<person>/<camera>_<anything>.jpg or <person>/<camera>/<anything>.jpg"


@DATASET.register()
class FolderDataset(ImageDataset):
    """Pictures ``<person>/<camera>_<anything>.jpg`` or ``<person>/<camera>/<anything>.jpg``.

    Names may end in any of ``ENDINGS``, in upper or lower case. Pictures with other endings, or in
    deeper folders, are counted and reported; files and folders whose names start with a dot, such
    as macOS's ``._01_1.jpg``, are passed over. The first people, by sorted folder names, train; the
    others are tested: pictures of the first camera, by name, are the queries, the other pictures
    the gallery.

    Attributes:
        person_names: names of the people, in the order of their numbers.
        camera_names: likewise.
    """

    dataset_name = "folder"

    def __init__(
        self,
        root: str = "datasets",
        combineall: bool = False,
        dataset_dir: str = "people",
        train_share: float = 2 / 3,
    ) -> None:
        """List the folders.

        Args:
            root: folder of all data sets.
            combineall: train on the test pictures too.
            dataset_dir: folder of this set in ``root``; an absolute path needs no ``root``.
            train_share: share of the people that train, 0 to 1; rounded up to whole people.

        Raises:
            InputError: no such folder, a picture's name has no camera, nobody is left to train or
                to test, or one camera alone sees the test people.
        """
        number = isinstance(train_share, int | float) and not isinstance(train_share, bool)
        if not (number and abs(train_share) <= sys.float_info.max):
            raise InputError(
                f"DATASETS.FOLDER.TRAIN_SHARE: {shortened(train_share)}; expected a number, 0 to 1"
            )
        folder = os.path.join(root, dataset_dir)
        people = list_people(folder)
        if len(people) == 1:
            raise InputError(
                f"{folder}: 1 person there, '{next(iter(people))}'; expected two or more, "
                f"{SHAPE}{guess_level(folder)}"
            )
        count = ceil(round(len(people) * train_share, 9))  # 100 * 0.07 is a little over 7
        if not 0 < count < len(people):
            raise InputError(
                f"DATASETS.FOLDER.TRAIN_SHARE: {train_share:g} of the {len(people)} people in "
                f"{folder} are {count}; expected 1 to {len(people) - 1}, and others to test"
            )
        cameras = sorted({camera for pictures in people.values() for camera, _ in pictures})
        train, test = [], []
        for pid, pictures in enumerate(people.values()):
            for camera, path in pictures:
                camid = cameras.index(camera)
                if pid < count:  # labels as in fastreid's training sets
                    labels = (f"{self.dataset_name}_{pid}", f"{self.dataset_name}_{camid}")
                    train.append((path, *labels))
                else:
                    test.append((path, pid, camid))
        first = min(camid for _, _, camid in test)
        query = [image for image in test if image[2] == first]
        gallery = [image for image in test if image[2] != first]
        if not gallery:
            raise InputError(
                f"{folder}: all pictures of the {len(people) - count} test people are of camera "
                f"'{cameras[first]}'; expected two or more cameras, {SHAPE}"
            )
        super().__init__(train, query, gallery, combineall=combineall)
        self._folder = folder
        self.person_names, self.camera_names = list(people), cameras

    def folders(self) -> Folders:
        """Return the folder of the set."""
        files = (item[0] for item in (*self.train, *self.query, *self.gallery))
        return Folders((self._folder,), files)

    @classmethod
    def options(cls, cfg: CfgNode) -> dict:
        """Read DATASETS.FOLDER."""
        folder = cfg.DATASETS.FOLDER
        return {"dataset_dir": folder.ROOT, "train_share": folder.TRAIN_SHARE}


def list_people(folder: str) -> dict[str, list[tuple[str, str]]]:
    """List (camera, path) of each picture by person; both sorted by name.

    Raises:
        InputError: no such folder, no picture in it, or a picture's name has no camera.
    """
    if not os.path.isdir(folder):
        raise InputError(
            f"DATASETS.FOLDER.ROOT: no folder {folder}; expected pictures {SHAPE} in it"
        )
    people = {}
    for person in names_in(folder):
        if pictures := list_pictures(os.path.join(folder, person)):
            people[person] = pictures
    if not people:
        unlisted = find_unlisted(Folders((folder,), ()))
        others = f"; {describe_unlisted(unlisted)}" if unlisted else ""
        raise InputError(
            f"{folder}: no pictures there that fit {SHAPE}{others}{guess_level(folder)}"
        )
    return people


def guess_level(folder: str) -> str:
    """Ask, for the end of a message, whether the folder is the wrong one of a longer path.

    Pictures lie two or three levels below the folder of a set.
    """
    top = os.path.abspath(folder)
    levels = {
        os.path.relpath(file, top).count(os.sep) for file in find_unlisted(Folders((top,), ()))
    }
    if levels and min(levels) > 2:
        return ": pictures lie deeper; is this folder too high?"
    if 0 in levels:
        return ": pictures lie in this folder itself; is it too deep?"
    return ": is this folder one too high or one too deep?" if levels else ""


def list_pictures(folder: str) -> list[tuple[str, str]]:
    """List the pictures in a person's folder, sorted by name.

    Returns:
        (camera, path) of each.

    Raises:
        InputError: a picture's name has no camera.
    """
    pictures = []
    for name in names_in(folder):
        path = os.path.join(folder, name)
        if os.path.isdir(path):
            below = (os.path.join(path, picture) for picture in names_in(path))
            pictures += [(name, file) for file in below if is_picture(file)]
        elif is_picture(name):
            pictures.append((camera_of(path), path))
    return pictures


def names_in(folder: str) -> list[str]:
    """List a folder, sorted, without names that start with a dot; a file gives an empty list.

    Raises:
        InputError: the folder cannot be read.
    """
    if not os.path.isdir(folder):
        return []
    try:
        return sorted(name for name in os.listdir(folder) if not name.startswith("."))
    except OSError as error:
        raise InputError(f"{folder}: cannot be listed: {error.strerror}") from error


def is_picture(path: str) -> bool:
    """Tell whether a file's name has an ending of pictures that are read."""
    return path.lower().endswith(ENDINGS) and not os.path.isdir(path)


def camera_of(path: str) -> str:
    """Return the camera in the name of a picture.

    Raises:
        InputError: the name has none.
    """
    camera, underscore, _ = os.path.basename(path).partition("_")
    if not (camera and underscore):
        raise InputError(f"{path}: its name has no camera; expected {SHAPE}")
    return camera
