"""Which images a training set lacks: the two rules of DDDefense, phase 1, on its real counts.

(c) marks our choice where the paper is silent.
"""

from collections import Counter
from collections.abc import Mapping
from typing import NamedTuple

from plugins.config import check_value

FEW, ONE_CAMERA = "few", "one-camera"
REASONS = (FEW, ONE_CAMERA)


class Slot(NamedTuple):
    """An image to be made.

    Attributes:
        slot: its number in the plan, from 0.
        person: whom it shows.
        camera: which camera seems to have taken it.
        reason: "few" (rule 1) or "one-camera" (rule 2).
    """

    slot: int
    person: str
    camera: str
    reason: str


def plan_slots(
    counts: Mapping[tuple[str, str], int], least: int = 0, largest_share: float = 0.5
) -> list[Slot]:
    """The images to make, person by person, rule 1 before rule 2.

    Rule 1: a person with fewer images than ``least`` gets the difference. Each goes to that of the
    person's own cameras which has the fewest by then (c): the generator has seen these pairs.
    Rule 2: a person of whose images one camera holds more than ``largest_share`` gets one of every
    other camera of the set. Both rules look at real images only, and nothing is dropped.

    Args:
        counts: images by (person, camera), all positive.
        least: delta_1; 0 for the mean number of images of a person, rounded half up (c).
        largest_share: delta_2, in (0, 1].

    Raises:
        InputError: delta_1 is negative, or delta_2 is no such share.
    """
    check_value("DATASETS.BALANCE.DELTA1", least)
    check_value("DATASETS.BALANCE.DELTA2", largest_share)
    by_person: dict[str, Counter[str]] = {}
    for (person, camera), number in sorted(counts.items()):
        by_person.setdefault(person, Counter())[camera] = number
    cameras = sorted({camera for _, camera in counts})
    least = least or mean_half_up([own.total() for own in by_person.values()])
    wanted = []
    for person, own in by_person.items():
        wanted += [(person, camera, FEW) for camera in top_up(own, least - own.total())]
        most_frequent = max(own, key=own.get)
        if own[most_frequent] > largest_share * own.total():
            wanted += [(person, c, ONE_CAMERA) for c in cameras if c != most_frequent]
    return [Slot(number, *want) for number, want in enumerate(wanted)]


def top_up(own: Mapping[str, int], missing: int) -> list[str]:
    """Cameras of ``missing`` further images, each the one with the fewest by then, first of a tie.

    >>> top_up({"1": 3, "2": 1}, 4)
    ['2', '2', '1', '2']
    """
    filled = Counter(own)
    chosen = []
    for _ in range(missing):
        camera = min(sorted(filled), key=filled.__getitem__)
        filled[camera] += 1
        chosen.append(camera)
    return chosen


def mean_half_up(numbers: list[int]) -> int:
    """The rounded mean; 0 of nothing.

    >>> mean_half_up([1, 2])
    2
    """
    return (2 * sum(numbers) + len(numbers)) // (2 * len(numbers)) if numbers else 0
