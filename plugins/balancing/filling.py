"""Fills the slots of a plan: candidates, judgement, PNG files and the manifest."""

import logging
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image
from tabulate import tabulate
from torch import Tensor
from tqdm import tqdm

from plugins.balancing.filters import CandidateFilter
from plugins.balancing.planner import REASONS, Slot
from plugins.balancing.tables import (
    MADE_WITH,
    MANIFEST,
    Outcome,
    read_table,
    write_table,
)
from plugins.config import check_value
from plugins.errors import InputError
from plugins.utils.io import read_json, write_atomically, write_json

if TYPE_CHECKING:  # it needs diffusers
    from plugins.balancing.generator import Generator

logger = logging.getLogger(__name__)

IMAGES = "images"


def fill_slots(
    slots: Sequence[Slot],
    generator: "Generator",
    build_filter: Callable[[], CandidateFilter],
    folder: Path,
    *,
    candidates: int,
    seed: int,
    made_with: dict[str, object],
) -> list[Outcome]:
    """Make ``candidates`` images for each slot and keep the best that passes, if one does.

    Slots of the same person and camera share a call of the generator, and the manifest grows by
    them: what it lists is not made again, unless its image is gone.

    Args:
        slots: the plan.
        generator: makes candidates.
        build_filter: makes the judge of them, when there is a slot to fill.
        folder: of the manifest; the images go to ``images`` in it.
        candidates: of a slot.
        seed: the generator's, for the manifest.
        made_with: what else decides the images, plain values by name; kept in MADE_WITH.

    Returns:
        The manifest, one outcome for each slot, in the order of the plan.

    Raises:
        InputError: the manifest is that of another plan, seed or number of candidates, or its
            images were made with something else.
    """
    check_value("DATASETS.BALANCE.CANDIDATES", candidates)
    (folder / IMAGES).mkdir(parents=True, exist_ok=True)
    require_same_making(folder, made_with)
    outcomes = known_outcomes(slots, folder / MANIFEST, candidates, seed)
    candidate_filter, pairs = None, defaultdict(list)
    for slot in slots:
        pairs[slot.person, slot.camera].append(slot)
    with tqdm(total=len(slots), initial=len(outcomes), desc="filling", unit="slot") as bar:
        for (person, camera), alike in pairs.items():
            missing = [slot for slot in alike if slot.slot not in outcomes]
            if not missing:
                continue
            candidate_filter = candidate_filter or build_filter()
            # Of all slots, so that each has the candidates that are its own.
            images = generator.generate(person, camera, candidates * len(alike))
            for slot, own in zip(alike, images.split(candidates), strict=True):
                if slot in missing:
                    outcomes[slot.slot] = keep_best(slot, own, candidate_filter, folder, seed)
            write_table(folder / MANIFEST, Outcome, in_order(outcomes))
            bar.update(len(missing))
    write_table(folder / MANIFEST, Outcome, in_order(outcomes))
    logger.info("%s", acceptance_table(in_order(outcomes)))
    return in_order(outcomes)


def keep_best(
    slot: Slot, images: Tensor, candidate_filter: CandidateFilter, folder: Path, seed: int
) -> Outcome:
    """Judge the candidates of a slot, save the best one that passed."""
    verdict = candidate_filter.judge(images, slot.person, slot.camera)
    best = verdict.best()
    made = {"is_pseudo": 1, "seed": seed, "candidates": len(images)}
    if best is None:
        return Outcome(*slot, path="", **made, accepted=0, person_rank=0, camera_probability=0.0)
    path = f"{IMAGES}/{slot.slot:06d}.png"
    picture = Image.fromarray(images[best].permute(1, 2, 0).numpy())
    write_atomically(folder / path, lambda file: picture.save(file, format="PNG"))
    return Outcome(
        *slot,
        path=path,
        **made,
        accepted=int(verdict.accepted.sum()),
        person_rank=int(verdict.person_rank[best]),
        camera_probability=round(float(verdict.camera_probability[best]), 4),
    )


def known_outcomes(
    slots: Sequence[Slot], manifest: Path, candidates: int, seed: int
) -> dict[int, Outcome]:
    """What an earlier run has done already, by slot number.

    Raises:
        InputError: it did something else.
    """
    if not manifest.is_file():
        return {}
    outcomes = {
        row.slot: row
        for row in read_table(manifest, Outcome)
        if not row.path or (manifest.parent / row.path).is_file()
    }
    plan = {slot.slot: slot for slot in slots}
    for number, row in outcomes.items():
        if row[: len(Slot._fields)] != plan.get(number) or (row.candidates, row.seed) != (
            candidates,
            seed,
        ):
            raise InputError(
                f"{manifest}: slot {number} was filled for another plan, number of candidates or "
                "seed; move the manifest and its images away to fill anew"
            )
    return outcomes


def require_same_making(folder: Path, made_with: dict[str, object]) -> None:
    """Raise InputError if there are images made with something else; else say what makes them."""
    if (folder / MANIFEST).is_file():
        record = folder / MADE_WITH
        before = read_json(record, "what made the images") if record.is_file() else {}
        for name, value in made_with.items():
            if before.get(name) != value:
                raise InputError(
                    f"{record}: {name} was {before.get(name, 'not recorded')}, now it is {value}; "
                    f"move {MANIFEST} and {IMAGES} away to fill anew"
                )
    write_json(folder / MADE_WITH, made_with, indent=1)


def in_order(outcomes: dict[int, Outcome]) -> list[Outcome]:
    """The outcomes in the order of the plan."""
    return [outcomes[number] for number in sorted(outcomes)]


def acceptance_table(outcomes: Sequence[Outcome]) -> str:
    """For each reason and in total: slots, filled ones, candidates and how many of them passed."""
    rows = []
    for title, reasons in (*((reason, (reason,)) for reason in REASONS), ("total", REASONS)):
        chosen = [row for row in outcomes if row.reason in reasons]
        made = sum(row.candidates for row in chosen)
        passed = sum(row.accepted for row in chosen)
        filled = sum(bool(row.path) for row in chosen)
        rate = f"{100 * passed / made:.1f} %" if made else "-"
        rows.append([title, len(chosen), filled, made, passed, rate])
    headers = ["reason", "slots", "filled", "candidates", "accepted", "acceptance"]
    return tabulate(rows, headers, tablefmt="pipe")
