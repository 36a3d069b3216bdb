"""Data sets around another one."""

from pathlib import Path
from typing import Any

from fastreid.config import CfgNode

from plugins.data.datasets.unlisted import Folders, folders_of
from plugins.errors import InputError
from plugins.protocol import Direction
from plugins.registry import DATASET, lookup


class OuterDataset:
    """A data set that is made of another one.

    Attributes:
        section: of DATASETS, whose NAME is the set inside; a subclass sets it.
    """

    section: str

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


class WrappedDataset(OuterDataset):
    """Queries, gallery and directions of the set inside; a subclass says what trains.

    Attributes:
        base: the set inside.
        train: training items.
    """

    def __init__(self, base, train: list[tuple]) -> None:
        """Take the set inside, and the items to train on."""
        self.base, self.train = base, train

    @property
    def query(self) -> list:
        """Queries of the set inside."""
        return self.base.query

    @property
    def gallery(self) -> list:
        """Gallery of the set inside."""
        return self.base.gallery

    def directions(self) -> dict[str, Direction]:
        """Directions of the set inside."""
        return self.base.directions()

    def folders(self) -> Folders:
        """Return those of the set inside; what this set leaves out of it is left out by intent."""
        return folders_of(self.base)

    def show_train(self) -> None:
        """Log the table of the set inside."""
        self.base.show_train()

    def show_test(self) -> None:
        """Log the table of the set inside."""
        self.base.show_test()


def innermost(data: Any) -> Any:
    """The data set inside all ``WrappedDataset`` around it; one that is none itself."""
    while isinstance(data, WrappedDataset):
        data = data.base
    return data


def chain(name: str, cfg: CfgNode, key: str = "DATASETS.NAMES") -> dict[str, Any]:
    """Registered data sets by name: ``name``, the set inside it, and so on to the innermost.

    Args:
        name: the registered name.
        cfg: names the sets inside.
        key: the config key that holds the name, for the message.

    Raises:
        InputError: no such name, or sets are inside each other.
    """
    readers: dict[str, Any] = {}
    while True:
        reader = readers[name] = lookup(DATASET, name, key)
        if not hasattr(reader, "inside"):
            return readers
        name, key = reader.inside(cfg), f"DATASETS.{reader.section}.NAME"
        if name in readers:
            names = list(readers)
            ring = sorted(names[names.index(name) :])
            raise InputError(
                f"{key}: {' and '.join(ring)} are inside each other; expected another data set"
            )
