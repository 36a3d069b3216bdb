"""A data set around another one, whose test split it leaves alone."""

from fastreid.config import CfgNode

from plugins.data.datasets.protocol import Protocol


class WrappedDataset:
    """Queries, gallery and directions of the set inside; a subclass says what trains.

    Attributes:
        base: the set inside.
        train: training items.
    """

    def __init__(self, base, train: list[tuple]) -> None:
        """Take the set inside, and the items to train on."""
        self.base, self.train = base, train

    @classmethod
    def options(cls, cfg: CfgNode) -> dict:
        """The whole config: the set inside has options of its own."""
        return {"cfg": cfg}

    @property
    def query(self) -> list:
        """Queries of the set inside."""
        return self.base.query

    @property
    def gallery(self) -> list:
        """Gallery of the set inside."""
        return self.base.gallery

    def directions(self) -> dict[str, Protocol]:
        """Directions of the set inside."""
        return self.base.directions()

    def show_train(self) -> None:
        """Log the table of the set inside."""
        self.base.show_train()

    def show_test(self) -> None:
        """Log the table of the set inside."""
        self.base.show_test()
