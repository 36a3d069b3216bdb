"""Hold out training people for model selection, so that the test split stays untouched."""

import logging
import random
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from fastreid.config import CfgNode

from plugins.data.datasets.base import Items, ReidDataset
from plugins.data.datasets.build import build_dataset
from plugins.data.datasets.galleries import group_rows, seeded_galleries
from plugins.data.datasets.image_set import CAMERA, PERSON
from plugins.data.datasets.own_names import camera_name, line_of, person_name
from plugins.data.datasets.tracklet import (
    INFRARED,
    VISIBLE,
    as_tracklet,
    is_image,
    number_sorted,
)
from plugins.data.datasets.unlisted import Folders
from plugins.data.datasets.wrapped import OuterDataset, chain
from plugins.errors import InputError
from plugins.protocol import Direction, Trial, without_answer
from plugins.registry import DATASET

logger = logging.getLogger(__name__)


@DATASET.register()
class HeldOutPeople(OuterDataset):
    """The training people of DATASETS.HELD_OUT.NAME: most train, some are held out for testing.

    This set has no test item of that set. People can be held out if one of their queries sees a
    match by the set's junk rule, such as an item of another camera; everybody else trains.
    Generated items of the held-out people are left out altogether.

    - Both modalities: infrared searches visible and the other way round, as far as the set does so,
      by its junk rule, CMC and cameras of a gallery. If the set draws its galleries, ten are drawn
      here as well, of one item of each person under each camera, see ``seeded_galleries``.
    - One modality, such as fastreid's image sets: one drawn item of a person under a camera is a
      query and the rest gallery, as in Market-1501. A single item is gallery, so that every query
      has a match; so a held-out person has two items under some camera.
    """

    section = "HELD_OUT"

    def __init__(self, root: str, cfg: CfgNode, combineall: bool = False) -> None:
        """Read the set and sample the people.

        Args:
            root: not used; the set inside is read as any other.
            cfg: has the name of the set, the number of people and the seed.
            combineall: must be False.

        Raises:
            InputError: from the set; ``combineall``; or the set has not so many people that can be
                held out, or fewer than two would be left to train on.
        """
        keys = cfg.DATASETS.HELD_OUT
        if combineall:
            raise InputError(
                "DATASETS.COMBINEALL: True would train on the people of HeldOutPeople; expected "
                "False"
            )
        self._cfg = keys
        self._base = build_dataset(self.inside(cfg), "DATASETS.HELD_OUT.NAME", cfg=cfg)
        self._rules = {name.split()[0]: rule for name, rule in self._base.directions().items()}
        people = {item[1] for item in self._base.train}
        real = [item for item in self._base.train if not as_tracklet(item).is_pseudo]
        self._one_modality = of_one_modality(real)
        self._searchable = searchable_people(real, self._rules)
        sampled = sample_people(self._searchable, len(people), keys)
        held = [item for item in real if item[1] in sampled]
        split = split_groups(held, keys.SEED) if self._one_modality else split_modalities(held)
        self._labels: tuple[list, list] | None = None
        if is_image(held[0]):
            self._labels, split = number_images(*split)
        query, gallery = split
        train = [item for item in self._base.train if item[1] not in sampled]
        super().__init__(train, query, gallery)

    def directions(self) -> dict[str, Direction]:
        """Search I2V and V2I, or Q2G, by the rules of the set's direction of that name."""
        return held_out_directions(self.query, self.gallery, self._one_modality, self._rules)

    def person_name(self, label: int | str) -> str:
        """Return the name that the set inside gives the person."""
        return person_name(self._base, self._label_inside(label, PERSON))

    def camera_name(self, label: int | str) -> str:
        """Return the name that the set inside gives the camera."""
        return camera_name(self._base, self._label_inside(label, CAMERA))

    def _label_inside(self, label: int | str, field: int) -> int | str:
        """Return the training label of the set inside; held-out images are numbered anew."""
        if self._labels is None or isinstance(label, str):
            return label
        return self._labels[field - PERSON][int(label)]

    def folders(self) -> Folders:
        """Return the folders of the set inside, whose test items are left out by intent."""
        return self._base.folders()

    def line_of(self, file: str, split: str) -> str:
        """Return the line of the set inside, for which everybody here trains."""
        return line_of(self._base, file, "train")

    def show_test(self) -> None:
        """Log how many people are held out, and a table of queries and gallery."""
        people = {item[1] for item in self._base.train}
        logger.info(
            "%d of the %d training people of %s are held out (DATASETS.HELD_OUT.SEED %d); %d "
            "could not be found by the rules of the set and stay in training",
            self._cfg.PEOPLE,
            len(people),
            self._cfg.NAME,
            self._cfg.SEED,
            len(people) - len(self._searchable),
        )
        super().show_test()


def of_one_modality(items: Items) -> bool:
    """Tell whether all items are of one modality."""
    return len({as_tracklet(item).modality for item in items}) == 1


def searchable_people(items: Items, rules: Mapping[str, Direction]) -> list:
    """List the people who can be query and match, ascending: see :class:`HeldOutPeople`.

    Args:
        items: items that are not generated.
        rules: as for :func:`held_out_directions`.
    """
    one_modality = of_one_modality(items)
    by_person: dict = defaultdict(list)
    for item in items:
        by_person[item[1]].append(item)

    def searchable(items: Items) -> bool:
        query, gallery = split_groups(items, 0) if one_modality else split_modalities(items)
        directions = held_out_directions(query, gallery, one_modality, rules)
        return not without_answer(directions, [*query, *gallery])

    return sorted(pid for pid, items in by_person.items() if searchable(items))


def sample_people(candidates: list, people: int, keys: CfgNode) -> set:
    """Sample as many of the people who can be searched for as the config says.

    Args:
        candidates: people who can be searched for, ascending.
        people: number of training people.
        keys: DATASETS.HELD_OUT.

    Raises:
        InputError: there are not so many, the number is below 2, or fewer than 2 others would be
            left.
    """
    most = min(len(candidates), people - 2)
    if not 2 <= keys.PEOPLE <= most:
        raise InputError(
            f"DATASETS.HELD_OUT.PEOPLE: {keys.PEOPLE}; {keys.NAME} has {people} training people, "
            f"of whom {len(candidates)} can be found by its rules, and 2 must be left to train on; "
            f"expected {f'2 to {most}' if most >= 2 else 'a larger set'}"
        )
    return set(random.Random(keys.SEED).sample(candidates, keys.PEOPLE))


def held_out_directions(
    query: Items, gallery: Items, one_modality: bool, rules: Mapping[str, Direction]
) -> dict[str, Direction]:
    """Make the directions I2V and V2I, or Q2G if there is one modality.

    Args:
        query: the queries of Q2G, or the infrared items.
        gallery: the gallery of Q2G, or the visible items.
        one_modality: whether the direction is Q2G.
        rules: directions of the set inside, by name; a direction that the set lacks is left out
            unless the set lacks all.
    """
    items = [*query, *gallery]
    first, second = ReidDataset([], query, gallery).rows()
    trials = {"I2V": Trial(first, second), "V2I": Trial(second, first)}
    if one_modality:
        trials = {"Q2G": Trial(first, second)}
    names = [name for name in trials if name in rules] or list(trials)
    return {name: apply_rule(trials[name], rules.get(name), items) for name in names}


def apply_rule(trial: Trial, rule: Direction | None, items: Items) -> Direction:
    """Search a trial by a rule, or by the usual one; draw galleries if the rule has several."""
    if rule is None:
        return Direction((trial,))
    query, gallery = trial
    if rule.gallery_cameras:
        cameras = [items[row][2] for row in gallery]
        gallery = gallery[np.isin(cameras, rule.gallery_cameras)]
    if len(rule.trials) == 1:
        return replace(rule, trials=(Trial(query, gallery),))
    drawn = seeded_galleries(items[row] for row in gallery)
    return replace(rule, trials=tuple(Trial(query, gallery[rows]) for rows in drawn))


def split_modalities(items: Items) -> tuple[list, list]:
    """Split tracklets into infrared and visible ones."""
    infrared, visible = (
        [item for item in items if as_tracklet(item).modality == kind]
        for kind in (INFRARED, VISIBLE)
    )
    return infrared, visible


def split_groups(items: Items, seed: int) -> tuple[list, list]:
    """Split off a drawn item of each person under each camera that has several."""
    generator = random.Random(seed)
    groups = group_rows(items).values()
    drawn = {generator.choice(rows) for rows in groups if len(rows) > 1}
    query = [item for row, item in enumerate(items) if row in drawn]
    return query, [item for row, item in enumerate(items) if row not in drawn]


def number_images(query: Items, gallery: Items) -> tuple[tuple[list, list], tuple[list, list]]:
    """Replace the names that fastreid gives training people and cameras by numbers.

    Returns:
        ((names of the people, names of the cameras), both in the order of their numbers;
        (query, gallery))
    """
    images = [*query, *gallery]
    people, cameras = (number_sorted(image[field] for image in images) for field in (1, 2))
    numbered = [(path, people[pid], cameras[camid]) for path, pid, camid, *_ in images]
    return (list(people), list(cameras)), (numbered[: len(query)], numbered[len(query) :])


def check_held_out(cfg: CfgNode) -> None:
    """Raise InputError if a training would see the people who are held out to test it."""
    if HeldOutPeople.__name__ not in cfg.DATASETS.TESTS:
        return
    *_, held = chain(HeldOutPeople.__name__, cfg, "DATASETS.TESTS")
    for name in cfg.DATASETS.NAMES:
        names = chain(name, cfg)
        if held in names and HeldOutPeople.__name__ not in names:
            raise InputError(
                f"DATASETS.NAMES: {name} trains on the people of HeldOutPeople, which is in "
                "DATASETS.TESTS; expected HeldOutPeople in its place, or inside it"
            )
