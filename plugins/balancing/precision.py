"""Do generated images show the person and the camera that were asked for?

Judges decide who had no part in the filter: networks of another shape, trained from other draws.
"""

from collections.abc import Callable, Sequence
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
KEPT_BACK = 0.2  # share of the real images that the judges are tested on
JUDGE = 1  # makes the judges' seed another one than the filter's
Pair = tuple[str, str]


@dataclass(frozen=True)
class Judge:
    """Two classifiers, and the share of unseen real images of which both are right.

    Attributes:
        name_of: (N, 3, H, W) uint8 to N (person, camera).
        accuracy: on real images, of pairs that it knows from others.
    """

    name_of: Callable[[Tensor], list[Pair]]
    accuracy: float


def train_judge(
    images: Tensor, photographs: Sequence[Photograph], seed: int, device: str, steps: int = STEPS
) -> Judge:
    """Train on four in five real images, test on the others.

    Args:
        images: (N, 3, H, W) uint8.
        photographs: N of them, what the images show.
        seed: of all draws, for this purpose made another.
        device: to train on.
        steps: of each classifier's training.
    """
    seed = derive_seed(seed, JUDGE)
    order = torch.randperm(len(images), generator=item_generator(seed))
    tested, trained = order.split([kept := round(KEPT_BACK * len(order)), len(order) - kept])
    names, models = [], []
    for field in ("person", "camera"):
        found = [getattr(photograph, field) for photograph in photographs]
        names.append(sorted(set(found)))
        targets = labels(found, names[-1])
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
        places = (model.probabilities(images).argmax(dim=1).tolist() for model in models)
        return [(names[0][one], names[1][two]) for one, two in zip(*places, strict=True)]

    shown = [(photographs[row].person, photographs[row].camera) for row in tested.tolist()]
    right = [one == two for one, two in zip(name_of(images[tested]), shown, strict=True)]
    return Judge(name_of, sum(right) / len(right) if right else float("nan"))


@dataclass
class Precision:
    """Counts over the images of some pairs.

    Attributes:
        pairs: "seen" or "unseen" in training.
        images: generated ones.
        person: those in which the judge sees the right person.
        camera: likewise the camera.
        both: likewise both.
        accepted: by the filter.
        accepted_both: accepted ones in which the judge sees the right person and camera.
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
    pairs: dict[str, Sequence[Pair]],
    number: int,
) -> list[Precision]:
    """Generate ``number`` images of each pair, ask filter and judge; a row for each kind of pairs.

    Args:
        generator: makes the images.
        judge: says what they show.
        candidate_filter: says which of them would be kept.
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
                for found, kept in zip(judge.name_of(images), accepted, strict=True):
                    row.images += 1
                    row.person += found[0] == pair[0]
                    row.camera += found[1] == pair[1]
                    row.both += found == pair
                    row.accepted += kept
                    row.accepted_both += kept and found == pair
                bar.update()
            rows.append(row)
    return rows


def choose_pairs(photographs: Sequence[Photograph], most: int) -> dict[str, list[Pair]]:
    """Seen and unseen pairs of a person and a camera, at most ``most`` each, spread evenly."""
    seen = {(photograph.person, photograph.camera) for photograph in photographs}
    people, cameras = (sorted({pair[place] for pair in seen}) for place in (0, 1))
    unseen = [(p, c) for p in people for c in cameras if (p, c) not in seen]
    return {
        kind: [pairs[place * len(pairs) // most] for place in range(most)]
        if len(pairs) > most
        else pairs
        for kind, pairs in (("seen", sorted(seen)), ("unseen", unseen))
    }


def precision_document(judge: Judge, rows: Sequence[Precision]) -> dict:
    """What goes into PRECISION."""
    return {"judge_accuracy": judge.accuracy, "rows": [asdict(row) for row in rows]}


def precision_table(rows: Sequence[Precision]) -> str:
    """The counts in percent."""
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
    """A percentage, or a dash of nothing."""
    return f"{100 * part / whole:.1f} %" if whole else "-"
