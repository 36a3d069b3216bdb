"""Data sets that are made of another one."""

from pathlib import Path
from typing import Any

from fastreid.config import CfgNode

from plugins.data.datasets.base import Items, ReidDataset
from plugins.data.datasets.own_names import camera_name, line_of, person_name
from plugins.data.datasets.unlisted import Folders
from plugins.errors import InputError
from plugins.protocol import Direction
from plugins.registry import DATASET, lookup


class OuterDataset(ReidDataset):
    """A data set that is made of another one.

    Attributes:
        section: name of the section of DATASETS whose NAME is the set inside; a subclass sets it.
    """

    section: str

    @classmethod
    def options(cls, cfg: CfgNode) -> dict[str, Any]:
        """Return the whole config, as the set inside has options too."""
        return {"cfg": cfg}

    @classmethod
    def inside(cls, cfg: CfgNode) -> str:
        """Return the name of the set inside.

        Raises:
            InputError: it is this one.
        """
        name = cfg.DATASETS[cls.section].NAME
        if name == cls.__name__:
            raise InputError(f"DATASETS.{cls.section}.NAME: {name}; expected another data set")
        return name

    @classmethod
    def files(cls, cfg: CfgNode) -> tuple[Path, ...]:
        """Name the files below the folder of all sets that decide what trains in addition."""
        return ()


class WrappedDataset(OuterDataset):
    """Queries, gallery and directions of the set inside; a subclass says what trains.

    Attributes:
        base: the set inside.
    """

    def __init__(self, base: ReidDataset, train: Items) -> None:
        """Take the set inside, and the items to train on."""
        super().__init__(train, base.query, base.gallery)
        self.base = base

    def directions(self) -> dict[str, Direction]:
        """Return the directions of the set inside."""
        return self.base.directions()

    def person_name(self, label: int | str) -> str:
        """Return the name that the set inside gives the person."""
        return person_name(self.base, label)

    def camera_name(self, label: int | str) -> str:
        """Return the name that the set inside gives the camera."""
        return camera_name(self.base, label)

    def line_of(self, file: str, split: str) -> str:
        """Return the line of the set inside that lists the file."""
        return line_of(self.base, file, split)

    def folders(self) -> Folders:
        """Return the folders of the set inside; this set leaves items out by intent."""
        return self.base.folders()

    def show_train(self) -> None:
        """Log the table of the set inside."""
        self.base.show_train()

    def show_test(self) -> None:
        """Log the table of the set inside."""
        self.base.show_test()


def innermost(data: Any) -> Any:
    """Return the data set inside all ``WrappedDataset`` around it."""
    while isinstance(data, WrappedDataset):
        data = data.base
    return data


def chain(name: str, cfg: CfgNode, key: str = "DATASETS.NAMES") -> dict[str, Any]:
    """Look up a data set, the set inside it, and so on to the innermost, by name.

    Args:
        name: the registered name.
        cfg: has the names of the sets inside.
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
