"""Read text files that list people and images, as the sets of visible-infrared re-ID have them."""

import os
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from plugins.errors import InputError
from plugins.utils import io
from plugins.utils.commands import command_line
from plugins.utils.names import list_names
from plugins.utils.real_files import find_repeated

LONGEST_NUMBER = 18  # digits; a tensor holds no longer number


class IndexLine(NamedTuple):
    """A line of an index file.

    Attributes:
        where: "file:line", for messages.
        image: path as written, below the data set's folder.
        label: the person's number in the file.
    """

    where: str
    image: str
    label: int


def read_text(path: str, *, keep_damage: bool = False) -> str:
    """Read a text file of a data set, with any line ends.

    Args:
        path: the file.
        keep_damage: leave bytes that are not UTF-8 in the text, as U+FFFD, for the caller to
            report. Only for text of numbers: different names might become equal.

    Raises:
        InputError: missing, empty or not UTF-8.
    """
    if not os.path.lexists(path):
        raise InputError(f"{path}: no such file; it belongs to the data set")
    if keep_damage:
        text = io.read_bytes(path).decode("utf-8-sig", errors="replace")
    else:
        text = io.read_text(path)
    if not text.strip():
        raise InputError(f"{path}: empty file")
    return text


def read_lines(path: str) -> list[str]:
    """Read the lines of a text file by :func:`read_text`, without blank ones at the end."""
    return read_text(path).rstrip().split("\n")


def whole_number(text: str) -> int | None:
    """Convert text to a whole number; return None for other text or more than 18 digits.

    >>> whole_number("0042"), whole_number("4.2"), whole_number("-1")
    (42, None, None)
    """
    return int(text) if text.isdecimal() and len(text) <= LONGEST_NUMBER else None


def read_people(path: str) -> list[int]:
    """Read the people of an id file, ascending: its first line has all, separated by commas.

    Raises:
        InputError: the file is missing or empty, or an entry is no number or comes twice.
    """
    people = set()
    for position, text in enumerate(read_lines(path)[0].split(","), start=1):
        number = whole_number(text.strip())
        if number is None or number in people:
            raise InputError(
                f"{path}:1: number {position} is {text.strip()!r}, expected people separated by "
                "commas, each once"
            )
        people.add(number)
    return sorted(people)


def read_index(path: str, folder: str) -> list[IndexLine]:
    """Read lines "image label", without blank lines.

    Args:
        path: the index file.
        folder: folder of the data set, to which the images are relative.

    Raises:
        InputError: the file is missing or empty, a line has another form, or an image comes twice.
    """
    index = []
    for number, text in enumerate(read_lines(path), start=1):
        columns = text.split()
        if not columns:
            continue
        where = f"{path}:{number}"
        label = whole_number(columns[1]) if len(columns) == 2 else None
        if label is None:
            raise InputError(f"{where}: found {text.strip()!r}, expected an image and its label")
        index.append(IndexLine(where, columns[0], label))
    for place, first in find_repeated([os.path.join(folder, line.image) for line in index]):
        where, image, _ = index[place]
        raise InputError(
            f"{where}: {image} is listed twice, at {index[first].where} as {index[first].image}"
        )
    return index


def lines_of_images(files: Iterable[str], folder: str) -> dict[str, str]:
    """Return file:line of each image in index files, by its path.

    Args:
        files: index files, which were read before.
        folder: folder of the data set.
    """
    return {
        f"{folder}/{line.image}": line.where for file in files for line in read_index(file, folder)
    }


def describe_lost(people: Sequence[int]) -> str:
    """Say which test people an index file lacks, as one that was cut off does.

    >>> describe_lost([3, 351])
    'it lists no image of 2 people of test_id.txt: 3, 351; is it cut off?'
    """
    names = list_names([str(person) for person in people])
    return f"it lists no image of {len(people)} people of test_id.txt: {names}; is it cut off?"


def require_part(folder: str, part: str, name: str, source: str, stand_in: str = "") -> None:
    """Raise InputError, saying where to get the data, unless ``folder`` holds ``part``.

    Args:
        folder: folder of the data set.
        part: a folder or file in it.
        name: name of the data set.
        source: address of its authors.
        stand_in: options of ``tools/make_synthetic.py`` that render a similar set; "" for none.
    """
    if os.path.exists(os.path.join(folder, part)):
        return
    render = f"{command_line('make_synthetic')} {stand_in} --out {folder}"
    raise InputError(
        f"{folder}: no {name} there, or it lacks '{part}'; set FASTREID_DATASETS to the folder "
        f"that holds {os.path.basename(folder)}; get the data from its authors ({source})"
        + (f", or render a stand-in: {render}" if stand_in else "")
    )


def check_people_differ(
    train: Iterable[tuple[int | str, str]], test: Iterable[tuple[int | str, str]]
) -> None:
    """Raise InputError if somebody is both in train and in test.

    Args:
        train: (person, file:line) of each row.
        test: likewise.
    """
    trained = dict(train)
    for person, where in test:
        if person in trained:
            raise InputError(
                f"{where}: person {person} trains in {os.path.basename(trained[person])}; test "
                "people must be new"
            )
