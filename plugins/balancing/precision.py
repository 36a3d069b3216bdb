"""The share of generated images that show the requested person and camera.

Judges decide that have no part in the filter: networks of another shape, trained with other draws.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import torch
from tabulate import tabulate
from torch import Tensor
from tqdm import tqdm

from plugins.balancing.classifier import train_classifier
from plugins.balancing.filters import CandidateFilter
from plugins.balancing.photographs import Photograph, labels
from plugins.utils.random import derive_seed, item_generator

if TYPE_CHECKING:  # it needs diffusers
    from plugins.balancing.generator import Generator

PRECISION = "precision.json"
STEPS, STRIPES = 1000, 4
KEPT_BACK = 0.2  # share of the real images on which the judges are tested
JUDGE = 1  # tells the judges' seed from the filter's
Pair = tuple[str, str]


@dataclass(frozen=True)
class Judge:
    """Two classifiers, and the share of unseen real images on which both are right.

    Attributes:
        name_of: (N, 3, H, W) uint8 to N (person, camera).
        accuracy: accuracy on unseen real images of pairs that the training images include.
    """

    name_of: Callable[[Tensor], list[Pair]]
    accuracy: float


def train_judge(
    images: Tensor, photographs: Sequence[Photograph], seed: int, device: str, steps: int = STEPS
) -> Judge:
    """Train on four fifths of the real images, and test on the others.

    Args:
        images: (N, 3, H, W) uint8.
        photographs: person and camera of each of the N images.
        seed: seed from which that of all draws is derived.
        device: device to train on.
        steps: training steps of each classifier.
    """
    seed = derive_seed(seed, JUDGE)
    order = torch.randperm(len(images), generator=item_generator(seed))
    tested, trained = order.split([kept := round(KEPT_BACK * len(order)), len(order) - kept])
    names, models = [], []
    for field in ("person", "camera"):
        shown = [getattr(photograph, field) for photograph in photographs]
        names.append(sorted(set(shown)))
        targets = labels(shown, names[-1])
        models.append(
            train_classifier(
                images[trained],
                targets[trained],
                len(names[-1]),
                steps=steps,
                seed=seed,
                device=device,
                stripes=STRIPES,
            )
        )

    def name_of(images: Tensor) -> list[Pair]:
        people, cameras = (
            [known[index] for index in model.probabilities(images).argmax(dim=1).tolist()]
            for known, model in zip(names, models, strict=True)
        )
        return list(zip(people, cameras, strict=True))

    pairs = [(photographs[row].person, photographs[row].camera) for row in tested.tolist()]
    right = [name == pair for name, pair in zip(name_of(images[tested]), pairs, strict=True)]
    return Judge(name_of, sum(right) / len(right) if right else float("nan"))


@dataclass
class Precision:
    """Counts over the generated images of pairs of one kind.

    Attributes:
        pairs: "seen" or "unseen" in training.
        images: generated images.
        person: images in which the judge sees the right person.
        camera: images in which it sees the right camera.
        both: images in which it sees both.
        accepted: images that the filter accepts.
        accepted_both: accepted images in which the judge sees the right person and camera.
    """

    pairs: str
    images: int = 0
    person: int = 0
    camera: int = 0
    both: int = 0
    accepted: int = 0
    accepted_both: int = 0


def measure_precision(
    generator: "Generator",
    judge: Judge,
    candidate_filter: CandidateFilter,
    pairs: Mapping[str, Sequence[Pair]],
    number: int,
) -> list[Precision]:
    """Generate ``number`` images of each pair, judge and filter them; a row for each kind of pair.

    Args:
        generator: generates the images.
        judge: tells what they show.
        candidate_filter: accepts some of them.
        pairs: lists of (person, camera) by kind, such as "seen".
        number: images of a pair.
    """
    rows = []
    with tqdm(total=sum(map(len, pairs.values())), desc="measuring", unit="pair") as bar:
        for kind, chosen in pairs.items():
            row = Precision(kind)
            for pair in chosen:
                images = generator.generate(*pair, number)
                accepted = candidate_filter.judge(images, *pair).accepted.tolist()
                for name, kept in zip(judge.name_of(images), accepted, strict=True):
                    row.images += 1
                    row.person += name[0] == pair[0]
                    row.camera += name[1] == pair[1]
                    row.both += name == pair
                    row.accepted += kept
                    row.accepted_both += kept and name == pair
                bar.update()
            rows.append(row)
    return rows


def choose_pairs(photographs: Sequence[Photograph], most: int) -> dict[str, list[Pair]]:
    """Choose seen and unseen pairs of a person and a camera, at most ``most`` each, evenly."""
    seen = {(photograph.person, photograph.camera) for photograph in photographs}
    people, cameras = (sorted({pair[part] for pair in seen}) for part in (0, 1))
    unseen = [(p, c) for p in people for c in cameras if (p, c) not in seen]
    return {
        kind: [pairs[index * len(pairs) // most] for index in range(most)]
        if len(pairs) > most
        else pairs
        for kind, pairs in (("seen", sorted(seen)), ("unseen", unseen))
    }


def precision_document(judge: Judge, rows: Sequence[Precision]) -> dict:
    """Return the contents of the file PRECISION."""
    return {"judge_accuracy": judge.accuracy, "rows": [asdict(row) for row in rows]}


def precision_table(rows: Sequence[Precision]) -> str:
    """Tabulate the counts in percent."""
    lines = [
        [
            row.pairs,
            row.images,
            *(share(part, row.images) for part in (row.person, row.camera, row.both, row.accepted)),
            share(row.accepted_both, row.accepted),
        ]
        for row in rows
    ]
    headers = ["pairs", "images", "person", "camera", "both", "accepted", "both, of accepted"]
    return tabulate(lines, headers, tablefmt="pipe", disable_numparse=True)


def share(part: int, whole: int) -> str:
    """Format a share as a percentage, or as a dash if the whole is 0."""
    return f"{100 * part / whole:.1f} %" if whole else "-"
