"""The base class of all data sets."""

import logging
from collections.abc import Sequence
from typing import Any

import numpy as np
from fastreid.config import CfgNode
from tabulate import tabulate
from termcolor import colored

from plugins.data.datasets.tracklet import INFRARED, MODALITIES, VISIBLE, Tracklet, as_tracklet
from plugins.data.datasets.unlisted import Folders, folders_around
from plugins.protocol import Direction, Trial

logger = logging.getLogger(__name__)

Items = Sequence[tuple[Any, ...]]  # tracklets, or fastreid's images (path, pid, camid)


class ReidDataset:
    """Items to train on, queries, and a gallery to find them in.

    By default the queries are infrared and the gallery is visible, as in HITSZ-VCM; a subclass with
    other lists says in ``directions`` who searches whom.

    Attributes:
        train: training items.
        query: test items; a row of ``query + gallery`` stands for an item.
        gallery: test items.
        remarks: remarks on a subset, by its name, which are logged below its table, or on a file,
            by its name.
        faults: what would bias a run, by the name of the file that tells it.
        holds: what all items are, for those who have not read the set; "" where only its files
            tell. Items are tracklets, of one frame each in an image set of two modalities, unless
            they are fastreid's images.
    """

    holds: str = ""

    def __init__(
        self, train: Items, query: Items, gallery: Items, combineall: bool = False
    ) -> None:
        """Take the three lists.

        Args:
            train: training items.
            query: test items, of other people than ``train``.
            gallery: test items, likewise.
            combineall: train on the test items too (fastreid's DATASETS.COMBINEALL).
        """
        self.train = [*train, *query, *gallery] if combineall else train
        self.query = query
        self.gallery = gallery
        self.remarks: dict[str, str] = {}
        self.faults: dict[str, str] = {}

    @classmethod
    def options(cls, cfg: CfgNode) -> dict[str, Any]:
        """Return the keyword arguments of the constructor that a config holds; none by default."""
        return {}

    def directions(self) -> dict[str, Direction]:
        """Say who searches whom, by the name of the direction.

        Returns:
            I2V: the queries search the gallery; V2I: the two change places.
        """
        infrared, visible = self.rows()
        return {
            "I2V": Direction((Trial(infrared, visible),)),
            "V2I": Direction((Trial(visible, infrared),)),
        }

    def person_name(self, label: int | str) -> str:
        """Return the set's own name of a person, from the label that an item of any list has.

        Labels are for tensors; a set that numbers people says here who they are.
        """
        return str(label)

    def camera_name(self, label: int | str) -> str:
        """Return the set's own name of a camera, likewise."""
        return str(label)

    def line_of(self, file: str, split: str) -> str:
        """Return the line that lists a file, as file:line; "" where no text file lists it.

        Args:
            file: path of an item's file.
            split: "train", "query" or "gallery".
        """
        return ""

    def rows(self) -> Trial:
        """Return the int64 rows of ``query`` and of ``gallery`` in ``query + gallery``."""
        rows = np.arange(len(self.query) + len(self.gallery), dtype=np.int64)
        return Trial(rows[: len(self.query)], rows[len(self.query) :])

    def trials_by_modality(self) -> dict[str, Trial]:
        """Split the rows by modality, where both lists hold both.

        Returns:
            I2V: the infrared queries and the visible gallery; V2I: the others.
        """
        modalities = np.array([as_tracklet(i).modality for i in [*self.query, *self.gallery]])
        query, gallery = self.rows()
        return {
            name: Trial(query[modalities[query] == kind], gallery[modalities[gallery] == other])
            for name, kind, other in (("I2V", INFRARED, VISIBLE), ("V2I", VISIBLE, INFRARED))
        }

    def image_files(self) -> list[str]:
        """List the files of all items."""
        items = map(as_tracklet, (*self.train, *self.query, *self.gallery))
        return [path for item in items for path in item.img_paths]

    def folders(self) -> Folders:
        """Say where the pictures lie; by default in the folders of the listed files."""
        return folders_around(self.image_files())

    def show_train(self) -> None:
        """Log a table that counts the training set."""
        self._show({"train": self.train})

    def show_test(self) -> None:
        """Log a table that counts the queries and the gallery."""
        self._show({"query": self.query, "gallery": self.gallery})

    def _show(self, subsets: dict[str, Items]) -> None:
        rows = [
            row for name in subsets for row in count_rows(name, [*map(as_tracklet, subsets[name])])
        ]
        headers = ["subset", "modality", "# ids", "# tracklets", "# frames", "# cameras"]
        table = tabulate(rows, headers=headers, tablefmt="pipe", numalign="left")
        logger.info("=> Loaded %s:\n%s", type(self).__name__, colored(table, "cyan"))
        for name in subsets:
            if name in self.remarks:
                logger.info("%s: %s", name, self.remarks[name])


def count_rows(subset: str, tracklets: list[Tracklet]) -> list[list]:
    """Count per modality that occurs: [subset, modality, people, tracklets, frames, cameras]."""
    rows = []
    for modality, name in enumerate(MODALITIES):
        chosen = [tracklet for tracklet in tracklets if tracklet.modality == modality]
        if chosen:
            people = len({tracklet.pid for tracklet in chosen})
            frames = sum(len(tracklet.img_paths) for tracklet in chosen)
            cameras = len({tracklet.camid for tracklet in chosen})
            rows.append([subset, name, people, len(chosen), frames, cameras])
    return rows
