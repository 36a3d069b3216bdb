"""Fastreid's image data sets, in the shape of ours."""

import numpy as np
from fastreid.data.datasets.bases import ImageDataset

from plugins.data.datasets.protocol import Protocol, Trial


class ImageSet:
    """One of fastreid's image data sets, sorted by path, with the direction that it lacks.

    fastreid keeps the order of the file system, which differs between machines.

    Attributes:
        images: fastreid's data set.
        train: training images, (path, pid, camid).
        query: query images, likewise.
        gallery: gallery images, likewise.
    """

    def __init__(self, images: ImageDataset) -> None:
        """Read the lists of fastreid's data set."""
        self.images = images
        self.train, self.query, self.gallery = (
            sorted(items, key=lambda item: item[0])
            for items in (images.train, images.query, images.gallery)
        )

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
