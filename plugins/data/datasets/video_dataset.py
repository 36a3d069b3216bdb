"""What the video data sets have in common."""

import logging

import numpy as np
from fastreid.config import CfgNode
from tabulate import tabulate
from termcolor import colored

from plugins.data.datasets.tracklet import MODALITIES, Tracklet
from plugins.protocol import Direction, Trial

logger = logging.getLogger(__name__)


class VideoDataset:
    """Tracklets to train on, queries, and a gallery to find them in.

    A subclass that knows where all of its pictures are has a method ``folders()``, see
    ``unlisted.Folders``; of others the folders of the listed frames are known.

    Attributes:
        train: training tracklets.
        query: infrared test tracklets.
        gallery: visible test tracklets.
        remarks: what there is to know about a subset, by its name, logged below its table; or about
            a file, by its name.
    """

    def __init__(
        self,
        train: list[Tracklet],
        query: list[Tracklet],
        gallery: list[Tracklet],
        combineall: bool = False,
    ) -> None:
        """Take the three lists.

        Args:
            train: training tracklets.
            query: infrared test tracklets, of other people than ``train``.
            gallery: visible test tracklets, likewise.
            combineall: train on the test tracklets too (fastreid's DATASETS.COMBINEALL).
        """
        self.train = [*train, *query, *gallery] if combineall else train
        self.query = query
        self.gallery = gallery
        self.remarks: dict[str, str] = {}

    @classmethod
    def options(cls, cfg: CfgNode) -> dict:
        """Keyword arguments for the constructor that a config holds; of a plain set none."""
        return {}

    def directions(self) -> dict[str, Direction]:
        """Who searches whom.

        Returns:
            I2V: infrared queries in a visible gallery; V2I: the two sets change places.
        """
        infrared, visible = self.rows()
        return {
            "I2V": Direction((Trial(infrared, visible),)),
            "V2I": Direction((Trial(visible, infrared),)),
        }

    def rows(self) -> Trial:
        """Int64 rows of ``query`` and of ``gallery`` in ``query + gallery``."""
        rows = np.arange(len(self.query) + len(self.gallery), dtype=np.int64)
        return Trial(rows[: len(self.query)], rows[len(self.query) :])

    def show_train(self) -> None:
        """Log a table that counts the training set."""
        self._show({"train": self.train})

    def show_test(self) -> None:
        """Log a table that counts the queries and the gallery."""
        self._show({"query": self.query, "gallery": self.gallery})

    def _show(self, subsets: dict[str, list[Tracklet]]) -> None:
        rows = [row for name, tracklets in subsets.items() for row in count_rows(name, tracklets)]
        headers = ["subset", "modality", "# ids", "# tracklets", "# frames", "# cameras"]
        table = tabulate(rows, headers=headers, tablefmt="pipe", numalign="left")
        logger.info("=> Loaded %s:\n%s", type(self).__name__, colored(table, "cyan"))
        for name in subsets:
            if name in self.remarks:
                logger.info("%s: %s", name, self.remarks[name])


def count_rows(subset: str, tracklets: list[Tracklet]) -> list[list]:
    """Per modality that occurs: [subset, modality, people, tracklets, frames, cameras]."""
    rows = []
    for modality, name in enumerate(MODALITIES):
        chosen = [tracklet for tracklet in tracklets if tracklet.modality == modality]
        if chosen:
            people = len({tracklet.pid for tracklet in chosen})
            frames = sum(len(tracklet.img_paths) for tracklet in chosen)
            cameras = len({tracklet.camid for tracklet in chosen})
            rows.append([subset, name, people, len(chosen), frames, cameras])
    return rows
