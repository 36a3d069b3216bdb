"""Fastreid's image data sets, in the shape of ours."""

import numpy as np
from fastreid.data.datasets.bases import ImageDataset

from plugins.data.datasets.protocol import Protocol, Trial


class ImageSet:
    """One of fastreid's image data sets, with the direction that it lacks.

    Its lists are read when they are needed, as fastreid does.
    """

    def __init__(self, images: ImageDataset) -> None:
        """Take fastreid's data set."""
        self.images = images

    @property
    def train(self) -> list[tuple]:
        """Training images, (path, pid, camid)."""
        return self.images.train

    @property
    def query(self) -> list[tuple]:
        """Query images, (path, pid, camid)."""
        return self.images.query

    @property
    def gallery(self) -> list[tuple]:
        """Gallery images, (path, pid, camid)."""
        return self.images.gallery

    def directions(self) -> dict[str, Protocol]:
        """Q2G: all queries in the whole gallery, without images of the query's person and camera.

        That is also what fastreid's own evaluator does.
        """
        rows = np.arange(len(self.query) + len(self.gallery), dtype=np.int64)
        query, gallery = rows[: len(self.query)], rows[len(self.query) :]
        return {"Q2G": Protocol((Trial(query, gallery),))}

    def show_train(self) -> None:
        """Log fastreid's table of the training set."""
        self.images.show_train()

    def show_test(self) -> None:
        """Log fastreid's table of queries and gallery."""
        self.images.show_test()
