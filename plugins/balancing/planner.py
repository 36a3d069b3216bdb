"""The plan of missing images: the two rules of DDDefense, phase 1, on the real counts.

(c) marks our choice where the paper is silent.
"""

from collections import Counter
from collections.abc import Mapping
from typing import NamedTuple

from plugins.config import check_value

FEW, ONE_CAMERA = "few", "one-camera"
REASONS = (FEW, ONE_CAMERA)


class Slot(NamedTuple):
    """One image to generate.

    Attributes:
        slot: number of the slot in the plan, from 0.
        person: the person that the image shows.
        camera: the camera that seems to have taken it.
        reason: "few" (rule 1) or "one-camera" (rule 2).
    """

    slot: int
    person: str
    camera: str
    reason: str


def plan_slots(
    counts: Mapping[tuple[str, str], int], least: int = 0, largest_share: float = 0.5
) -> list[Slot]:
    """List the images to generate, person by person, rule 1 before rule 2.

    Rule 1: a person with fewer images than ``least`` gets the difference. Each image goes to the
    camera of this person with the fewest images so far (c), because the generator has seen these
    pairs. Rule 2: a person with more than ``largest_share`` of the images from one camera gets one
    image of every other camera of the set. Both rules count real images only and drop none.

    Args:
        counts: images by (person, camera), all positive.
        least: delta_1, 0 or more; 0 for the mean number of images per person, rounded half up (c).
        largest_share: delta_2, in (0, 1].

    Raises:
        InputError: delta_1 or delta_2 is out of its range.
    """
    check_value("DATASETS.BALANCE.DELTA1", least)
    check_value("DATASETS.BALANCE.DELTA2", largest_share)
    by_person: dict[str, Counter[str]] = {}
    for (person, camera), number in sorted(counts.items()):
        by_person.setdefault(person, Counter())[camera] = number
    cameras = sorted({camera for _, camera in counts})
    least = least or mean_half_up([per_camera.total() for per_camera in by_person.values()])
    missing = []
    for person, per_camera in by_person.items():
        number = least - per_camera.total()
        missing += [(person, camera, FEW) for camera in top_up(per_camera, number)]
        most_frequent = max(per_camera, key=lambda camera: per_camera[camera])
        if per_camera[most_frequent] > largest_share * per_camera.total():
            missing += [(person, c, ONE_CAMERA) for c in cameras if c != most_frequent]
    return [Slot(number, *fields) for number, fields in enumerate(missing)]


def top_up(per_camera: Mapping[str, int], missing: int) -> list[str]:
    """Assign each of ``missing`` images to the camera with the fewest so far, the first of a tie.

    >>> top_up({"1": 3, "2": 1}, 4)
    ['2', '2', '1', '2']
    """
    filled = Counter(per_camera)
    chosen = []
    for _ in range(missing):
        camera = min(sorted(filled), key=filled.__getitem__)
        filled[camera] += 1
        chosen.append(camera)
    return chosen


def mean_half_up(numbers: list[int]) -> int:
    """Return the mean, rounded half up; 0 for an empty list.

    >>> mean_half_up([1, 2])
    2
    """
    return (2 * sum(numbers) + len(numbers)) // (2 * len(numbers)) if numbers else 0
