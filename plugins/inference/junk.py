"""The items of a gallery that a query does not see."""

import numpy as np

from plugins.errors import InputError
from plugins.inference.features import Features
from plugins.protocol import junk_rule


class Junk:
    """The items that each query does not see, by a rule of ``plugins.protocol``."""

    def __init__(self, query: Features, gallery: Features, rule: str, itself: bool = True) -> None:
        """Number people and cameras of both sides together.

        Args:
            query: the queries.
            gallery: the gallery.
            rule: name of the rule.
            itself: whether a query sees the item of its own name.

        Raises:
            InputError: there is no such rule, or it names cameras by numbers and some have none.
        """
        self._rule, self._itself = junk_rule(rule), itself
        self._query, self._gallery = query, gallery
        cameras = [query.camera, gallery.camera]
        if rule == "sysu":
            for camera in np.unique(np.concatenate(cameras)).tolist():
                if not camera.isdecimal():
                    raise InputError(f"junk rule sysu: camera {camera!r}; expected 1 to 6")
            cameras = [column.astype(np.int64) for column in cameras]
        self._query_cameras, self._gallery_cameras = cameras

    def mask(self, query: int, columns: np.ndarray) -> np.ndarray:
        """Return a bool for each of the gallery's ``columns``, true where it is junk."""
        person = self._query.person[query]
        same = (self._gallery.person[columns] == person) & (person != "")
        junk = self._rule(same, self._query_cameras[query], self._gallery_cameras[columns])
        if not self._itself:
            junk = junk | (self._gallery.name[columns] == self._query.name[query])
        return np.asarray(junk)
