"""Text files that list people and images, as the sets of visible-infrared re-ID have them."""

import os
from collections.abc import Collection
from typing import NamedTuple

from plugins.errors import InputError


class IndexLine(NamedTuple):
    """A line of an index file.

    Attributes:
        where: "file:line", for messages.
        image: path as written, below the data set's folder.
        label: number that the file gives the person.
    """

    where: str
    image: str
    label: int


def read_text(path: str) -> str:
    """A text file, with any line ends; damaged bytes are left for the line's reader to report.

    Raises:
        InputError: missing or empty.
    """
    try:
        with open(path, encoding="utf-8-sig", errors="replace") as file:
            text = file.read()
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; it belongs to the data set") from None
    if not text.strip():
        raise InputError(f"{path}: empty file")
    return text


def read_lines(path: str) -> list[str]:
    """Lines of a text file, as :func:`read_text` reads it, without blank ones at the end."""
    return read_text(path).rstrip().split("\n")


def read_people(path: str) -> list[int]:
    """People of an id file, ascending: its first line has all, separated by commas.

    Raises:
        InputError: missing or empty; what is between two commas is no number, or comes twice.
    """
    people = set()
    for position, text in enumerate(read_lines(path)[0].split(","), start=1):
        if not text.strip().isdecimal() or int(text) in people:
            raise InputError(
                f"{path}:1: number {position} is {text.strip()!r}, expected people separated by "
                "commas, each once"
            )
        people.add(int(text))
    return sorted(people)


def read_index(path: str) -> list[IndexLine]:
    """Lines "image label"; blank lines are skipped.

    Raises:
        InputError: missing or empty; a line has another form, or an image comes twice.
    """
    index, images = [], set()
    for number, text in enumerate(read_lines(path), start=1):
        columns = text.split()
        if not columns:
            continue
        where = f"{path}:{number}"
        if len(columns) != 2 or not columns[1].isdecimal():
            raise InputError(f"{where}: found {text.strip()!r}, expected an image and its label")
        image, label = columns
        if image in images:
            raise InputError(f"{where}: {image} is listed twice")
        images.add(image)
        index.append(IndexLine(where, image, int(label)))
    return index


def require_part(folder: str, part: str, name: str, source: str) -> None:
    """Raise InputError, saying where to get the data, unless ``folder`` holds ``part``.

    Args:
        folder: of the data set.
        part: a folder or file of it.
        name: of the data set.
        source: address of its authors.
    """
    if not os.path.exists(os.path.join(folder, part)):
        raise InputError(
            f"{folder}: no {name} there, or it lacks '{part}'; set FASTREID_DATASETS to the folder "
            f"that holds {os.path.basename(folder)}; get the data from its authors ({source})"
        )


def require_choice(key: str, value: str | int, choices: Collection) -> None:
    """Raise InputError unless the config key's value is one of ``choices``."""
    if value not in choices:
        raise InputError(f"{key}: {value!r}; expected one of {', '.join(map(str, choices))}")
