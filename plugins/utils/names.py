"""Names that people write: the closest known ones, and short lists of them for messages."""

import difflib
import re
import unicodedata
from collections.abc import Iterable, Sequence

# Letters and marks without a shape of their own, beside the controls and formats of Unicode.
SHAPELESS = "\u034f\u115f\u1160\u17b4\u17b5\u3164\uffa0"


def find_invisible(text: str) -> str:
    r"""Name the first character of a text that nobody sees, such as a zero-width space; else "".

    >>> find_invisible("ann\u200b"), find_invisible("ann")
    ('U+200B ZERO WIDTH SPACE', '')
    """
    for letter in text if not (text.isascii() and text.isprintable()) else "":
        if unicodedata.category(letter) in ("Cc", "Cf", "Zl", "Zp") or letter in SHAPELESS:
            return f"U+{ord(letter):04X} {unicodedata.name(letter, 'control character')}"
    return ""


def closest_names(name: str, choices: Iterable[str]) -> list[str]:
    """Sort ``choices`` by how alike ``name`` they are spelled, the closest first.

    >>> closest_names("SOLVR", ["MODEL", "SOLVER", "TEST"])[0]
    'SOLVER'
    """

    def unlikeness(choice: str) -> float:
        return -difflib.SequenceMatcher(None, name.lower(), choice.lower()).ratio()

    return sorted(choices, key=unlikeness)


def list_names(names: Sequence[str]) -> str:
    """Write the first three names, and how many more there are; "none" where there is none.

    >>> list_names(["FNA", "SMA", "LTA", "TMA"])
    'FNA, SMA, LTA and 1 other'
    """
    others = len(names) - 3
    more = f" and {others} other{'s' if others > 1 else ''}" if others > 0 else ""
    return (", ".join(names[:3]) or "none") + more


def join_choices(choices: Sequence[object]) -> str:
    """Write choices as a sentence does.

    >>> join_choices(["none", "noise", "blur"]), join_choices([1])
    ('none, noise or blur', '1')
    """
    *most, last = map(str, choices)
    return f"{', '.join(most)} or {last}" if most else last


def natural_order(name: str) -> list[tuple[int, int, str]]:
    """Return a key that sorts names as people do: by whole numbers where they have digits.

    >>> sorted(["10.jpg", "9.jpg", "D2"], key=natural_order)
    ['9.jpg', '10.jpg', 'D2']
    """
    parts = re.findall(r"[0-9]+|[^0-9]+", name)
    return [(0, int(part), part) if part.isdecimal() else (1, 0, part) for part in parts]
