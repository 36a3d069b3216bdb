"""The items of a gallery that a query does not see, and which cameras are one for the rules.

Cameras are compared by their names, as text: "1" and "01" are two. An item whose camera is not
known shares its camera with no other item.

Legend: Q queries, G gallery items.
"""

import logging
import re

import numpy as np

from plugins.errors import InputError
from plugins.inference.features import Features
from plugins.protocol import junk_rule

logger = logging.getLogger(__name__)

NUMBER = re.compile("[0-9]{1,9}")
UNKNOWN = (-1, -2)  # of a query and of a gallery item: nobody's match


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
            InputError: there is no such rule, or from :func:`number_cameras`.
        """
        self._rule, self._itself = junk_rule(rule), itself
        self._query, self._gallery = query, gallery
        self._query_cameras, self._gallery_cameras = number_cameras(
            query.camera, gallery.camera, rule
        )

    def mask(self, query: int, columns: np.ndarray) -> np.ndarray:
        """Return a bool for each of the gallery's ``columns``, true where it is junk."""
        person = self._query.person[query]
        same = (self._gallery.person[columns] == person) & (person != "")
        junk = self._rule(same, self._query_cameras[query], self._gallery_cameras[columns])
        if not self._itself:
            junk = junk | (self._gallery.name[columns] == self._query.name[query])
        return np.asarray(junk)


def number_cameras(
    query: np.ndarray, gallery: np.ndarray, rule: str
) -> tuple[np.ndarray, np.ndarray]:
    """Number the cameras of both sides together, as a rule of ``plugins.protocol`` takes them.

    Args:
        query: (Q,) str, empty where the camera is not known.
        gallery: (G,) str, likewise.
        rule: name of the rule; "sysu" names cameras by their numbers.

    Returns:
        (Q,) and (G,) int64, see :func:`number_names`.

    Raises:
        InputError: a camera has no number, and the rule is "sysu".
    """
    if rule != "sysu":
        return number_names(query, gallery)
    for camera in np.unique(np.concatenate([query, gallery])).tolist():
        if not NUMBER.fullmatch(camera):
            raise InputError(f"junk rule sysu: camera {camera!r}; expected 1 to 6")
    return query.astype(np.int64), gallery.astype(np.int64)


def number_names(query: np.ndarray, gallery: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Number the names of both sides together.

    Args:
        query: (Q,) str, empty where the name is not known.
        gallery: (G,) str, likewise.

    Returns:
        (Q,) and (G,) int64; the unknown have those of ``UNKNOWN``, which are not equal.
    """
    numbers = np.unique(np.concatenate([query, gallery]), return_inverse=True)[1]
    sides = np.split(numbers.astype(np.int64), [len(query)])
    for side, names, unknown in zip(sides, (query, gallery), UNKNOWN, strict=True):
        side[names == ""] = unknown
    return sides[0], sides[1]


def warn_without_camera(query: np.ndarray, gallery: np.ndarray, rule: str) -> None:
    """Warn that the rule "camera" hides no pair of the items whose camera is not known.

    Args:
        query: (Q,) str, cameras.
        gallery: (G,) str, likewise.
        rule: name of the rule.
    """
    unknown = [int((cameras == "").sum()) for cameras in (query, gallery)]
    if rule == "camera" and any(unknown):
        logger.warning(
            "junk rule camera: %d of %d queries and %d of %d items of the gallery have no camera; "
            "none of their pairs is junk",
            *(unknown[0], len(query), unknown[1], len(gallery)),
        )
