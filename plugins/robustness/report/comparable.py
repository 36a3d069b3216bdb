"""Which cards can be compared: those whose data, protocol and threat model are the same.

The number of attacked queries is no part of it: it decides how wide the interval of a number is,
and a leaderboard shows both.
"""

from collections.abc import Mapping, Sequence
from typing import Any

UNKNOWN = "unknown"  # to a card of an earlier version
# Section and entry of a card -> words for it.
SETTINGS = {
    ("data", "queries_of_set"): "{} queries in the set",
    ("data", "gallery"): "{} gallery items",
    ("data", "metric"): "metric {}",
    ("data", "junk"): "junk rule {}",
    ("data", "cmc"): "CMC by {}",
    ("data", "attacked_side"): "{} attacked",
    ("data", "guides"): "guides from {}",
    ("threat", "frames"): "frames {}",
    ("threat", "sparse_frames"): "{} sparse frames",
    ("threat", "smooth_tau"): "smooth tau {}",
    ("threat", "infrared"): "infrared {}",
}
# What a title need not say.
USUAL = {"attacked_side": "query", "frames": "dense", "infrared": "free"}
# An entry that counts only where "frames" has this value.
ONLY_OF = {"sparse_frames": "sparse", "smooth_tau": "smooth"}


def subject(card: Mapping[str, Any]) -> str:
    """Name data set, direction, norm and budget of a card."""
    data, threat = card["data"], card["threat"]
    return f"{data['dataset']} {data['direction']}, {threat['norm']} eps {threat['eps']:.10g}"


def settings(card: Mapping[str, Any]) -> dict[str, str]:
    """Return what else makes numbers comparable: entry -> value."""
    return {
        entry: str(card[section].get(entry, USUAL.get(entry, UNKNOWN)))
        for section, entry in SETTINGS
        if ONLY_OF.get(entry) in (None, card["threat"].get("frames"))
    }


def group_titles(cards: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the title of each card's group; cards can be compared if their titles are equal.

    A title names the subject, the settings that are not usual, and of the others those in which
    cards of the same subject differ.
    """
    subjects, values = [subject(card) for card in cards], [settings(card) for card in cards]
    titles = []
    for name, own in zip(subjects, values, strict=True):
        same = [other for each, other in zip(subjects, values, strict=True) if each == name]
        said = [
            words.format(own[entry])
            for (_, entry), words in SETTINGS.items()
            if entry in own
            and (
                own[entry] != USUAL[entry]
                if entry in USUAL
                else any(other.get(entry) != own[entry] for other in same)
            )
        ]
        titles.append(", ".join([name, *said]))
    return titles
