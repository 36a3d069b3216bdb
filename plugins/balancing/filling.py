"""Filling the slots of a plan: candidates, judgment, PNG files and the manifest."""

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
    """Generate ``candidates`` images for each slot, and keep the best accepted one, if any.

    Slots of the same person and camera share one call of the generator, and the manifest grows by
    these slots. A slot in the manifest is not filled again, unless its image is missing.

    Args:
        slots: the plan.
        generator: generates candidates.
        build_filter: builds the filter that judges them, once there is a slot to fill.
        folder: folder of the manifest; the images go to ``images`` in it.
        candidates: number of candidates of a slot, 1 or more.
        seed: the generator's seed, for the manifest.
        made_with: all else that determines the images, plain values by name; kept in MADE_WITH.

    Returns:
        The manifest, one outcome for each slot, in the order of the plan.

    Raises:
        InputError: the manifest belongs to another plan, seed or number of candidates, or its
            images were generated with other networks or settings.
    """
    check_value("DATASETS.BALANCE.CANDIDATES", candidates)
    (folder / IMAGES).mkdir(parents=True, exist_ok=True)
    require_same_making(folder, made_with)
    outcomes = known_outcomes(slots, folder / MANIFEST, candidates, seed)
    candidate_filter: CandidateFilter | None = None
    pairs: dict[tuple[str, str], list[Slot]] = defaultdict(list)
    for slot in slots:
        pairs[slot.person, slot.camera].append(slot)
    with tqdm(total=len(slots), initial=len(outcomes), desc="filling", unit="slot") as bar:
        for (person, camera), alike in pairs.items():
            missing = [slot for slot in alike if slot.slot not in outcomes]
            if not missing:
                continue
            candidate_filter = candidate_filter or build_filter()
            # For all slots of the pair, so that each slot always gets the same candidates.
            images = generator.generate(person, camera, candidates * len(alike))
            for slot, part in zip(alike, images.split(candidates), strict=True):
                if slot in missing:
                    outcomes[slot.slot] = keep_best(slot, part, candidate_filter, folder, seed)
            write_table(folder / MANIFEST, Outcome, in_order(outcomes))
            bar.update(len(missing))
    write_table(folder / MANIFEST, Outcome, in_order(outcomes))
    logger.info("%s", acceptance_table(in_order(outcomes)))
    return in_order(outcomes)


def keep_best(
    slot: Slot, images: Tensor, candidate_filter: CandidateFilter, folder: Path, seed: int
) -> Outcome:
    """Judge the candidates of a slot, and save the best accepted one."""
    verdict = candidate_filter.judge(images, slot.person, slot.camera)
    best = verdict.best()
    empty = Outcome(
        *slot,
        path="",
        is_pseudo=1,
        seed=seed,
        candidates=len(images),
        accepted=0,
        person_rank=0,
        camera_probability=0.0,
    )
    if best is None:
        return empty
    path = f"{IMAGES}/{slot.slot:06d}.png"
    picture = Image.fromarray(images[best].permute(1, 2, 0).numpy())
    write_atomically(folder / path, lambda file: picture.save(file, format="PNG"))
    return empty._replace(
        path=path,
        accepted=int(verdict.accepted.sum()),
        person_rank=int(verdict.person_rank[best]),
        camera_probability=round(float(verdict.camera_probability[best]), 4),
    )


def known_outcomes(
    slots: Sequence[Slot], manifest: Path, candidates: int, seed: int
) -> dict[int, Outcome]:
    """Read the outcomes of an earlier run by slot number.

    Raises:
        InputError: the earlier run had another plan, number of candidates or seed.
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
    """Raise InputError if images were made with other networks or settings; else record these."""
    if (folder / MANIFEST).is_file():
        record = folder / MADE_WITH
        contents = read_json(record, "what made the images") if record.is_file() else {}
        before = contents if isinstance(contents, dict) else {}
        for name, value in made_with.items():
            if before.get(name) != value:
                raise InputError(
                    f"{record}: {name} was {before.get(name, 'not recorded')}, now it is {value}; "
                    f"move {MANIFEST} and {IMAGES} away to fill anew"
                )
    write_json(folder / MADE_WITH, made_with, indent=1)


def in_order(outcomes: dict[int, Outcome]) -> list[Outcome]:
    """Return the outcomes in the order of the plan."""
    return [outcomes[number] for number in sorted(outcomes)]


def acceptance_table(outcomes: Sequence[Outcome]) -> str:
    """Tabulate slots, filled slots, candidates and accepted ones, for each reason and in total."""
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
