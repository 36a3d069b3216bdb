"""The user's own items, and the names of who is on them."""

import re
from dataclasses import dataclass
from typing import NamedTuple

from plugins.data.datasets.tracklet import INFRARED, MODALITIES, VISIBLE, Tracklet
from plugins.errors import InputError

# Words for a modality in names of folders and files.
WORDS = {
    **dict.fromkeys(("visible", "rgb", "vis", "v"), VISIBLE),
    **dict.fromkeys(("infrared", "ir", "nir", "thermal", "i"), INFRARED),
}
GROUPS = ("person", "camera", "modality")


class Clip(NamedTuple):
    """An item of the user's own.

    Attributes:
        name: its own name, of this item alone.
        path: its picture, its folder or its video.
        frames: names of its frames, which a reader turns into pixels.
    """

    name: str
    path: str
    frames: tuple[str, ...]


@dataclass(frozen=True)
class Labels:
    """Say who is on an item, by which camera and in which light.

    Attributes:
        pattern: regular expression with the groups person, camera or modality, which is searched
            in the item's name, such as ``(?P<person>[^/]+)/(?P<camera>[^_]+)_``; empty for none.
        modality: modality of items whose names do not tell it.
    """

    pattern: str = ""
    modality: str = MODALITIES[VISIBLE]

    def __post_init__(self) -> None:
        """Check both.

        Raises:
            InputError: no such modality, or no regular expression with these groups.
        """
        if self.modality not in MODALITIES:
            raise InputError(f"modality {self.modality!r}; expected {' or '.join(MODALITIES)}")
        try:
            groups = re.compile(self.pattern).groupindex
        except re.error as error:
            raise InputError(f"names {self.pattern!r}: no regular expression: {error}") from None
        if self.pattern and (not groups or groups.keys() - set(GROUPS)):
            raise InputError(
                f"names {self.pattern!r}: has the groups {', '.join(groups) or 'none'}; expected "
                f"some of {', '.join(f'(?P<{group}>...)' for group in GROUPS)}"
            )

    def tracklet(self, clip: Clip) -> Tracklet:
        """Return an item as a tracklet whose person and camera are names, empty if not known.

        Raises:
            InputError: the item's name does not fit the pattern.
        """
        found = self._groups(clip.name)
        word = (found.get("modality") or self.modality).lower()
        if word not in WORDS:
            raise InputError(
                f"{clip.name}: its modality is {word!r}; expected one of {', '.join(WORDS)}"
            )
        person, camera = found.get("person") or "", found.get("camera") or ""
        return Tracklet(clip.frames, person, camera, WORDS[word])

    def tells_modality(self, name: str) -> bool:
        """Tell whether the name of an item says its modality.

        Raises:
            InputError: the name does not fit the pattern.
        """
        return bool(self._groups(name).get("modality"))

    def _groups(self, name: str) -> dict[str, str | None]:
        if not self.pattern:
            return {}
        match = re.search(self.pattern, name)
        if match is None:
            raise InputError(f"{name}: does not fit the pattern {self.pattern!r} of names")
        return match.groupdict()
