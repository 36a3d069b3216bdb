"""Make a data set of this package out of one of fastreid's image data sets."""

import os
from collections.abc import Iterable, Sequence
from numbers import Real

from fastreid.data.datasets.bases import ImageDataset

from plugins.data.datasets.base import ReidDataset
from plugins.data.datasets.fastreid_sets import first_camera, image_folders
from plugins.data.datasets.tracklet import number_sorted
from plugins.data.datasets.unlisted import Folders
from plugins.errors import InputError
from plugins.protocol import Direction

PERSON, CAMERA = 1, 2  # fields of an image (path, pid, camid)


class ImageSet(ReidDataset):
    """One of fastreid's image data sets, sorted by path, with the direction that it lacks.

    fastreid keeps the order of the file system, which differs between machines.

    Attributes:
        images: fastreid's data set.
        train: training images, (path, pid, camid).
        query: query images, likewise; people and cameras are numbers.
        gallery: gallery images, likewise.
        people: names of the test people by their numbers if the set has names; otherwise empty.
        cameras: names of the test cameras, likewise.
    """

    def __init__(self, images: ImageDataset) -> None:
        """Read the lists of fastreid's data set.

        Raises:
            InputError: some people or cameras of a list are text, others numbers.
        """
        self.images = images
        train, query, gallery = (
            sorted((as_text_path(item) for item in items), key=lambda item: item[0])
            for items in (images.train, images.query, images.gallery)
        )
        for field in (PERSON, CAMERA):
            of_text(train, field)
        self.people, (query, gallery) = number_text(PERSON, query, gallery)
        self.cameras, (query, gallery) = number_text(CAMERA, query, gallery)
        super().__init__(train, query, gallery)

    def person_name(self, label: int | str) -> str:
        """Return the name or number that the set's files have."""
        of_reader = getattr(self.images, "person_names", [])
        return self._own_name(label, self.people or of_reader, of_reader)

    def camera_name(self, label: int | str) -> str:
        """Return the name or number that the set's files have; fastreid counts cameras from 0."""
        of_reader = getattr(self.images, "camera_names", [])
        name = self._own_name(label, self.cameras or of_reader, of_reader)
        if not (self.cameras or of_reader) and name.isdecimal():
            return str(int(name) + first_camera(self.images))
        return name

    def _own_name(self, label: int | str, of_test: Sequence[str], of_train: Sequence[str]) -> str:
        """Return a name by its number; training labels begin with the set's name."""
        if not isinstance(label, str):
            return of_test[int(label)] if of_test else str(label)
        name = label.removeprefix(f"{getattr(self.images, 'dataset_name', '')}_")
        return of_train[int(name)] if of_train and name.isdecimal() else name

    def directions(self) -> dict[str, Direction]:
        """Let all queries search the whole gallery (Q2G), as fastreid's own evaluator does.

        A query does not see the images of its person and camera.
        """
        return {"Q2G": Direction((self.rows(),))}

    def folders(self) -> Folders:
        """Return the folders that the reader states, or the known ones of its kind."""
        if hasattr(self.images, "folders"):
            return self.images.folders()
        return image_folders(self.images, self.image_files())

    def show_train(self) -> None:
        """Log fastreid's table of the training set."""
        self.images.show_train()

    def show_test(self) -> None:
        """Log fastreid's table of queries and gallery."""
        self.images.show_test()


def as_text_path(item: tuple) -> tuple:
    """Return an image whose path is a str, as every part of the package expects it."""
    return item if isinstance(item[0], str) else (os.fspath(item[0]), *item[1:])


def of_text(images: Iterable[tuple], field: int) -> bool:
    """Tell whether the people or the cameras of images are text rather than numbers.

    Args:
        images: (path, pid, camid).
        field: PERSON or CAMERA.

    Raises:
        InputError: some are text and some numbers, or one is neither.
    """
    kinds: dict[str, tuple] = {}
    for image in images:
        label = image[field]
        kind = "text" if isinstance(label, str) else "a number"
        if not isinstance(label, str | Real):
            kind = type(label).__name__
        kinds.setdefault(kind, image)
    if kinds.keys() not in ({"text"}, {"a number"}, set()):
        what = "person" if field == PERSON else "camera"
        examples = (f"{what} {i[field]!r} of {i[0]} is {kind}" for kind, i in kinds.items())
        raise InputError(
            f"{', '.join(examples)}; expected all {what}s of a list to be numbers, or all text"
        )
    return "text" in kinds


def number_text(field: int, *sides: list[tuple]) -> tuple[list[str], Sequence[list[tuple]]]:
    """Number people or cameras that are text, from 0 in sorted order, as training does.

    Args:
        field: PERSON or CAMERA.
        sides: lists of images (path, pid, camid) that share the numbers.

    Returns:
        (names in the order of their numbers, the lists); without text no names and the same lists.

    Raises:
        InputError: see :func:`of_text`.
    """
    images = [image for side in sides for image in side]
    if not of_text(images, field):
        return [], sides
    numbers = number_sorted(image[field] for image in images)
    return list(numbers), [
        [(*image[:field], numbers[image[field]], *image[field + 1 :]) for image in side]
        for side in sides
    ]
