"""Items, from which every layout is written."""

from collections.abc import Collection, Iterable
from typing import NamedTuple

from plugins.data.datasets.base import ReidDataset
from plugins.data.datasets.bupt_campus import CAMERAS, BUPTCampus
from plugins.data.datasets.splits import read_splits
from plugins.data.datasets.tracklet import SPLITS
from plugins.data.datasets.wrapped import OuterDataset, innermost
from plugins.errors import InputError


class Item(NamedTuple):
    """A tracklet with the names of its person and camera.

    Attributes:
        split: train, query or gallery; rendered sets may have more.
        person: name, in most sets a number.
        camera: likewise.
        modality: 0 visible, 1 infrared.
        files: one for each frame.
    """

    split: str
    person: str
    camera: str
    modality: int
    files: tuple[str, ...]


class Plan(NamedTuple):
    """Contents of a layout.

    Attributes:
        items: with the names of the layout and ``files`` relative to its folder, in the order of
            its index files.
        sources: for each item the files from which its frames come.
        losses: what is not kept, a line each.
    """

    items: list[Item]
    sources: list[tuple[str, ...]]
    losses: list[str]


def read_items(data: ReidDataset) -> list[Item]:
    """List the items of train, query and gallery, in this order, without generated tracklets.

    Args:
        data: a data set of any reader; its people and cameras keep their own names.

    Raises:
        InputError: somebody is both in train and in test; or ``data`` is a HeldOutPeople, which
            numbers people and cameras of test and training separately.
    """
    inner = innermost(data)
    if isinstance(inner, OuterDataset):
        raise InputError(
            f"{type(inner).__name__}: it numbers people anew; expected the data set inside it"
        )
    numbers = CAMERAS if isinstance(inner, BUPTCampus) else {}
    items = [
        Item(
            split,
            str(tracklet.pid),
            # A layout of BUPTCampus takes the numbers of its cameras.
            str(numbers[str(tracklet.camid)] if numbers else tracklet.camid),
            tracklet.modality,
            tracklet.img_paths,
        )
        for split, tracklets in read_splits(data).items()
        for tracklet in tracklets
        if not tracklet.is_pseudo
    ]
    trained = {item.person for item in items if item.split == "train"}
    for item in items:
        if item.split != "train" and item.person in trained:
            raise InputError(
                f"{item.files[0]}: person {item.person} is in {item.split} and in train too; "
                "test people must be new"
            )
    return items


def number_names(
    names: Iterable[str], what: str, allowed: Collection[int] | None = None
) -> tuple[dict[str, int], list[str]]:
    """Number names: keep names that all are whole numbers; otherwise count from 1 as sorted.

    Args:
        names: names in any order, also repeated.
        what: what has the names, for the loss.
        allowed: allowed numbers; None for all from 0.

    Returns:
        (name -> number, losses)
    """
    names = sorted(set(names))
    plain = all(
        name.isdecimal() and name == str(int(name)) and (allowed is None or int(name) in allowed)
        for name in names
    )
    if plain:
        return {name: int(name) for name in names}, []
    numbers = {name: number for number, name in enumerate(names, start=1)}
    return numbers, [f"names of {what} become numbers in sorted order: {names[0]!r} is 1"]


def require_splits(layout: str, items: list[Item], losses: list[str]) -> None:
    """Raise InputError, with what was lost, unless train, query and gallery have items left."""
    for split in SPLITS:
        if not any(item.split == split for item in items):
            why = f": {'; '.join(losses)}" if losses else ""
            raise InputError(f"{layout}: it would have nothing in {split}{why}")
