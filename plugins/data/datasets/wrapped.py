"""A data set around another one, whose test split it leaves alone."""

from pathlib import Path

from fastreid.config import CfgNode

from plugins.data.datasets.protocol import Protocol
from plugins.errors import InputError
from plugins.registry import DATASET, known


class WrappedDataset:
    """Queries, gallery and directions of the set inside; a subclass says what trains.

    Attributes:
        section: of DATASETS, whose NAME is the set inside; a subclass sets it.
        base: the set inside.
        train: training items.
    """

    section: str

    def __init__(self, base, train: list[tuple]) -> None:
        """Take the set inside, and the items to train on."""
        self.base, self.train = base, train

    @classmethod
    def options(cls, cfg: CfgNode) -> dict:
        """The whole config: the set inside has options of its own."""
        return {"cfg": cfg}

    @classmethod
    def inside(cls, cfg: CfgNode) -> str:
        """Name of the set inside.

        Raises:
            InputError: it is this one.
        """
        name = cfg.DATASETS[cls.section].NAME
        if name == cls.__name__:
            raise InputError(f"DATASETS.{cls.section}.NAME: {name}; expected another data set")
        return name

    @classmethod
    def files(cls, cfg: CfgNode) -> tuple[Path, ...]:
        """Files that decide what trains besides the set inside, below the folder of all sets."""
        return ()

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


def innermost(name: str, cfg: CfgNode) -> str:
    """The set that ``name`` wraps, or that which that one wraps; ``name`` if it wraps none."""
    passed = set()
    while name in known(DATASET) and issubclass(DATASET.get(name), WrappedDataset):
        if name in passed:
            raise InputError(f"DATASETS: {' and '.join(sorted(passed))} are inside each other")
        passed.add(name)
        name = DATASET.get(name).inside(cfg)
    return name
