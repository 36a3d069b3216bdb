"""RegDB: 412 people, 10 visible and 10 thermal images of each (Nguyen et al., Sensors 2017).

``idx/{train,test}_{visible,thermal}_<trial>.txt`` list the images of one of ten splits. Each split
has its own training; published scores are means over ten models.
"""

import functools
import os
import re
from collections import Counter
from collections.abc import Collection

from fastreid.config import CfgNode

from plugins.config import check_value
from plugins.data.datasets.base import ReidDataset
from plugins.data.datasets.index_files import lines_of_images, read_index, require_part
from plugins.data.datasets.tracklet import INFRARED, VISIBLE, Tracklet
from plugins.data.datasets.unlisted import Folders
from plugins.errors import InputError
from plugins.protocol import Direction
from plugins.registry import DATASET

TRIALS = range(1, 11)
IMAGE = re.compile(r"(Visible|Thermal)/(\d+)/[^/]+\.(?:bmp|jpg|jpeg|png)", re.IGNORECASE)
MODALITY_NAMES = {VISIBLE: "visible", INFRARED: "thermal"}
# One camera of each kind.
CAMERAS = {VISIBLE: 1, INFRARED: 2}


@DATASET.register()
class RegDB(ReidDataset):
    """One split of RegDB; all images of one modality search all of the other.

    The folder identifies a person. The label in the files numbers the people of one file from 0, so
    that the same label is another person in training and testing and in each split; it is only
    checked.
    """

    dataset_url = "http://dm.dongguk.edu/link.html"
    holds = "images of two modalities"

    def __init__(
        self,
        root: str = "datasets",
        combineall: bool = False,
        dataset_dir: str = "RegDB",
        trial: int = 1,
    ) -> None:
        """Read the four files of a split.

        Args:
            root: folder of all data sets.
            combineall: train on the test images too.
            dataset_dir: folder of this set in ``root``.
            trial: number of the split, 1 to 10.

        Raises:
            InputError: the folder is missing, there is no such split, or a line is wrong.
        """
        check_value("DATASETS.REGDB.TRIAL", trial)
        folder = os.path.join(root, dataset_dir)
        require_part(folder, "idx", "RegDB", self.dataset_url)
        train: dict[int, int] = {}
        test: dict[int, int] = {}
        visible, thermal = (read_part(folder, "train", kind, trial, train, {}) for kind in CAMERAS)
        gallery, query = (read_part(folder, "test", kind, trial, test, train) for kind in CAMERAS)
        super().__init__(visible + thermal, query, gallery, combineall)
        for split, sides in (("train", (visible, thermal)), ("test", (gallery, query))):
            self.faults |= compare_parts(split, trial, *sides)
        self._trial, self._folder = trial, folder

    @classmethod
    def options(cls, cfg: CfgNode) -> dict:
        """Read DATASETS.REGDB."""
        return {"trial": cfg.DATASETS.REGDB.TRIAL}

    def folders(self) -> Folders:
        """Return ``Visible`` and ``Thermal``; every split lists all people."""
        files = self.image_files()
        roots = dict.fromkeys(os.path.dirname(os.path.dirname(file)) for file in files)
        return Folders(tuple(roots), files, by_pattern=False)

    def line_of(self, file: str, split: str) -> str:
        """Return the line of an index file."""
        return self._lines.get(file, "")

    @functools.cached_property
    def _lines(self) -> dict[str, str]:
        names = (
            f"{split}_{kind}_{self._trial}.txt"
            for split in ("train", "test")
            for kind in MODALITY_NAMES.values()
        )
        files = (os.path.join(self._folder, "idx", name) for name in names)
        return lines_of_images(files, self._folder)

    def directions(self) -> dict[str, Direction]:
        """Search I2V and V2I; the name has the number of the split."""
        return {
            f"{name} trial-{self._trial}": direction
            for name, direction in super().directions().items()
        }


def read_part(
    folder: str,
    split: str,
    modality: int,
    trial: int,
    labels: dict[int, int],
    others: Collection[int],
) -> list[Tracklet]:
    """Read the images of one index file, a tracklet each, in the order of the file.

    Args:
        folder: folder of the data set.
        split: train or test.
        modality: 0 visible, 1 infrared, that is thermal.
        trial: number of the split.
        labels: person -> label; it is filled, and both files of a split must agree on it.
        others: people who may not be in the file.

    Raises:
        InputError: with file and line: an image has another form or modality, or a person has two
            labels or two folders, or is one of the others.
    """
    name = MODALITY_NAMES[modality]
    path = os.path.join(folder, "idx", f"{split}_{name}_{trial}.txt")
    spelled: dict[int, str] = {}
    images = []
    for where, image, label in read_index(path, folder):
        match = IMAGE.fullmatch(image)
        if not match or match[1].lower() != name:
            raise InputError(
                f"{where}: found {image!r}, expected {name.capitalize()}/<person>/<file>.bmp"
            )
        pid = int(match[2])
        place = os.path.dirname(image)
        if spelled.setdefault(pid, place) != place:
            raise InputError(
                f"{where}: person {pid} is in folder {place}, but in {spelled[pid]} before; "
                "expected one folder a person"
            )
        if pid in others:
            raise InputError(f"{where}: person {pid} is in training too; test people must be new")
        if labels.setdefault(pid, label) != label:
            raise InputError(
                f"{where}: person {pid} has label {label}, but {labels[pid]} before; expected one "
                "label a person in a split"
            )
        images.append(Tracklet((f"{folder}/{image}",), pid, CAMERAS[modality], modality))
    return images


def compare_parts(
    split: str, trial: int, visible: list[Tracklet], thermal: list[Tracklet]
) -> dict[str, str]:
    """Compare the two files of a split, which list as many images of each person.

    Returns:
        What a file lacks, by its name.
    """
    counts = [Counter(image.pid for image in images) for images in (visible, thermal)]
    faults = {}
    sides = {"visible": (counts[0], counts[1]), "thermal": (counts[1], counts[0])}
    for kind, (own, other) in sides.items():
        if lost := sorted((pid for pid in other if own[pid] < other[pid]), key=int):
            faults[f"{split}_{kind}_{trial}.txt"] = (
                f"{len(lost)} people have fewer images there than in the other modality: person "
                f"{lost[0]} {own[lost[0]]}, expected {other[lost[0]]}; is the file cut off?"
            )
    return faults
