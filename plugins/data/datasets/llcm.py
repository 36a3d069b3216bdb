"""LLCM: 1,064 people by night, 9 cameras that see visible and near-infrared (Zhang, CVPR 2023).

``idx/{train,test}_{vis,nir}.txt`` list the images; person and camera stand in their names, such as
``0351_c06_s200656_f4830_nir.jpg``.
"""

import functools
import os
import re

from fastreid.config import CfgNode

from plugins.config import check_value
from plugins.data.datasets.base import ReidDataset
from plugins.data.datasets.galleries import seeded_galleries
from plugins.data.datasets.index_files import (
    describe_lost,
    lines_of_images,
    read_index,
    read_people,
    require_part,
)
from plugins.data.datasets.tracklet import INFRARED, VISIBLE, Tracklet
from plugins.data.datasets.unlisted import Folders
from plugins.errors import InputError
from plugins.protocol import Direction, Trial
from plugins.registry import DATASET

MODES = ("sampled-gallery", "deen-script", "full-gallery")
NAME = re.compile(r"(\d{4})_c(\d+)_.+_(vis|nir)\.(?:jpg|jpeg|png|bmp)", re.IGNORECASE)
CAMERAS = range(1, 10)
MODALITY_NAMES = {VISIBLE: "vis", INFRARED: "nir"}
IMAGE_FOLDERS = ("vis", "nir", "test_vis", "test_nir")


@DATASET.register()
class LLCM(ReidDataset):
    """LLCM, with three modes of testing, whose scores do not compare.

    - sampled-gallery: all images of one modality search ten galleries with one image of each person
      under each camera of the other, drawn as in AGW's code. An image does not see its person under
      its camera, and CMC counts people.
    - deen-script: the authors' test script. I2V is as above, but its "V2I" lets the drawn
      *infrared* images search all visible ones; much published "VIS to IR" is this.
    - full-gallery: all images of one modality search all of the other, and see everything (IDKL,
      CVPR 2024); CMC counts people.
    """

    dataset_url = "https://github.com/ZYK100/LLCM"
    holds = "images of two modalities"

    def __init__(
        self,
        root: str = "datasets",
        combineall: bool = False,
        dataset_dir: str = "LLCM",
        mode: str = "sampled-gallery",
    ) -> None:
        """Read the files of ``idx/``.

        Args:
            root: folder of all data sets.
            combineall: train on the test images too.
            dataset_dir: folder of this set in ``root``.
            mode: a name of ``MODES``.

        Raises:
            InputError: the folder is missing, there is no such mode, or a line is wrong.
        """
        check_value("DATASETS.LLCM.MODE", mode)
        folder = os.path.join(root, dataset_dir)
        require_part(folder, "idx", "LLCM", self.dataset_url)
        people = set(read_people(os.path.join(folder, "idx", "test_id.txt")))
        visible, infrared = (read_part(folder, "train", kind, people) for kind in MODALITY_NAMES)
        gallery, query = (read_part(folder, "test", kind, people) for kind in MODALITY_NAMES)
        super().__init__(visible + infrared, query, gallery, combineall)
        for kind, images in zip(MODALITY_NAMES.values(), (gallery, query), strict=True):
            if lost := sorted(people - {image.pid for image in images}):
                self.remarks[f"test_{kind}.txt"] = describe_lost(lost)
        self._mode, self._folder = mode, folder

    @classmethod
    def options(cls, cfg: CfgNode) -> dict:
        """Read DATASETS.LLCM."""
        return {"mode": cfg.DATASETS.LLCM.MODE}

    def folders(self) -> Folders:
        """Return all four folders; test images lie in two, and the lists name either copy."""
        files = self.image_files()
        names = {os.path.basename(file) for file in files}
        roots = (os.path.join(self._folder, name) for name in IMAGE_FOLDERS)
        return Folders(
            tuple(roots),
            files,
            lambda path: os.path.basename(path) in names,
            by_pattern=False,
            complete=True,
        )

    def line_of(self, file: str, split: str) -> str:
        """Return the line of an index file."""
        return self._lines.get(file, "")

    @functools.cached_property
    def _lines(self) -> dict[str, str]:
        names = (
            f"{split}_{kind}.txt" for split in ("train", "test") for kind in MODALITY_NAMES.values()
        )
        files = (os.path.join(self._folder, "idx", name) for name in names)
        return lines_of_images(files, self._folder)

    def directions(self) -> dict[str, Direction]:
        """Search I2V and V2I; the name has the mode."""
        infrared, visible = self.rows()
        junk = "camera"
        i2v: tuple[Trial, ...] = (Trial(infrared, visible),)
        v2i: tuple[Trial, ...] = (Trial(visible, infrared),)
        if self._mode == "full-gallery":
            junk = "none"
        else:
            i2v = tuple(Trial(infrared, visible[rows]) for rows in seeded_galleries(self.gallery))
            drawn = [infrared[rows] for rows in seeded_galleries(self.query)]
            if self._mode == "deen-script":
                v2i = tuple(Trial(rows, visible) for rows in drawn)
            else:
                v2i = tuple(Trial(visible, rows) for rows in drawn)
        return {
            f"I2V {self._mode}": Direction(i2v, junk, cmc="identity"),
            f"V2I {self._mode}": Direction(v2i, junk, cmc="identity"),
        }


def read_part(folder: str, split: str, modality: int, test_people: set[int]) -> list[Tracklet]:
    """Read the images of one index file, a tracklet each, in the order of the file.

    Paths may lie in ``vis/<person>`` and ``nir/<person>``, or in the copies of the test images,
    ``test_vis/cam<k>/<person>``: only the file name is read. The labels of the files are not
    needed.

    Args:
        folder: folder of the data set.
        split: train or test.
        modality: 0 visible, 1 infrared.
        test_people: the people of ``test_id.txt``.

    Raises:
        InputError: with file and line: a name has another form or modality, comes twice or has a
            camera that LLCM lacks, or a person is of the other split.
    """
    kind = MODALITY_NAMES[modality]
    path = os.path.join(folder, "idx", f"{split}_{kind}.txt")
    lines: dict[str, str] = {}
    images = []
    for where, image, _ in read_index(path, folder):
        match = NAME.fullmatch(os.path.basename(image))
        if not match or match[3].lower() != kind:
            raise InputError(
                f"{where}: found {image!r}, expected a file such as "
                f"0351_c06_s200656_f4830_{kind}.jpg"
            )
        first = lines.setdefault(match[0], where)
        if first != where:
            raise InputError(f"{where}: {match[0]} is listed at {first} too, from another folder")
        pid, camid = int(match[1]), int(match[2])
        if camid not in CAMERAS:
            raise InputError(f"{where}: {match[0]} is of camera {camid}, expected 1 to 9")
        if (pid in test_people) != (split == "test"):
            raise InputError(
                f"{where}: person {pid} is {'in' if pid in test_people else 'not in'} test_id.txt; "
                f"expected the opposite in {split}_{kind}.txt"
            )
        images.append(Tracklet((f"{folder}/{image}",), pid, camid, modality))
    return images
