"""Training people held out for model selection, so that the test split stays untouched."""

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
from plugins.data.datasets.tracklet import INFRARED, VISIBLE, as_tracklet, is_image
from plugins.data.datasets.unlisted import Folders
from plugins.data.datasets.wrapped import OuterDataset, chain
from plugins.errors import InputError
from plugins.protocol import Direction, Trial, without_answer
from plugins.registry import DATASET

logger = logging.getLogger(__name__)


@DATASET.register()
class HeldOutPeople(OuterDataset):
    """The training people of DATASETS.HELD_OUT.NAME: most train, some are drawn to be searched for.

    No test item of that set is in here. Drawn are people of whom some query sees a match by the
    set's junk rule, such as one of another camera; everybody else trains. Generated items of the
    drawn people are left out altogether.

    - Both modalities: infrared searches visible and the other way round, as far as the set does so,
      by its junk rule, CMC and cameras of a gallery. Where it draws its galleries, ten are drawn
      here as well, of one item of each person under each camera, see ``seeded_galleries``.
    - One modality, such as fastreid's image sets: of a person's items under a camera one, drawn, is
      a query and the rest gallery, as in Market-1501. A single one is gallery, so that every query
      has a match; so the people drawn have two items under some camera.
    """

    section = "HELD_OUT"

    def __init__(self, root: str, cfg: CfgNode, combineall: bool = False) -> None:
        """Read the set and draw the people.

        Args:
            root: not needed; the set inside is found as any other.
            cfg: names the set, how many people and the seed.
            combineall: must be False.

        Raises:
            InputError: from the set; ``combineall``; or the set has not so many people to be
                searched for, or fewer than two would be left to train on.
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
        drawn = draw_people(self._searchable, len(people), keys)
        held = [item for item in real if item[1] in drawn]
        split = split_groups(held, keys.SEED) if self._one_modality else split_modalities(held)
        query, gallery = number_names(*split) if is_image(held[0]) else split
        train = [item for item in self._base.train if item[1] not in drawn]
        super().__init__(train, query, gallery)

    def directions(self) -> dict[str, Direction]:
        """I2V and V2I, or Q2G, by the rules of the set's direction of that name."""
        return searches(self.query, self.gallery, self._one_modality, self._rules)

    def folders(self) -> Folders:
        """Return those of the set inside, whose test items are left out by intent."""
        return self._base.folders()

    def show_test(self) -> None:
        """Log who is held out, and a table of queries and gallery."""
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
    """Whether one modality has all items."""
    return len({as_tracklet(item).modality for item in items}) == 1


def searchable_people(items: Items, rules: Mapping[str, Direction]) -> list:
    """Who can be query and match, ascending: see :class:`HeldOutPeople`.

    Args:
        items: none of them generated.
        rules: as for :func:`searches`.
    """
    one_modality = of_one_modality(items)
    own: dict = defaultdict(list)
    for item in items:
        own[item[1]].append(item)

    def searchable(items: Items) -> bool:
        query, gallery = split_groups(items, 0) if one_modality else split_modalities(items)
        directions = searches(query, gallery, one_modality, rules)
        return not without_answer(directions, [*query, *gallery])

    return sorted(pid for pid, items in own.items() if searchable(items))


def draw_people(candidates: list, people: int, keys: CfgNode) -> set:
    """As many of those who can be searched for as the config says.

    Args:
        candidates: ascending.
        people: how many there are.
        keys: DATASETS.HELD_OUT.

    Raises:
        InputError: there are not so many, it is below 2, or fewer than 2 others would be left.
    """
    most = min(len(candidates), people - 2)
    if not 2 <= keys.PEOPLE <= most:
        raise InputError(
            f"DATASETS.HELD_OUT.PEOPLE: {keys.PEOPLE}; {keys.NAME} has {people} training people, "
            f"of whom {len(candidates)} can be found by its rules, and 2 must be left to train on; "
            f"expected {f'2 to {most}' if most >= 2 else 'a larger set'}"
        )
    return set(random.Random(keys.SEED).sample(candidates, keys.PEOPLE))


def searches(
    query: Items, gallery: Items, one_modality: bool, rules: Mapping[str, Direction]
) -> dict[str, Direction]:
    """I2V and V2I, or of one modality Q2G.

    Args:
        query: those of Q2G, or what is infrared.
        gallery: that of Q2G, or what is visible.
        one_modality: whether it is Q2G.
        rules: of the set that the items are of, by name of the direction; one that it lacks is left
            out unless it lacks all.
    """
    items = [*query, *gallery]
    first, second = ReidDataset([], query, gallery).rows()
    ways = {"I2V": Trial(first, second), "V2I": Trial(second, first)}
    if one_modality:
        ways = {"Q2G": Trial(first, second)}
    names = [name for name in ways if name in rules] or list(ways)
    return {name: by_rule(ways[name], rules.get(name), items) for name in names}


def by_rule(trial: Trial, rule: Direction | None, items: Items) -> Direction:
    """``trial`` by ``rule``, or by the usual one; with drawn galleries if the rule has them."""
    if rule is None:
        return Direction((trial,))
    query, gallery = trial
    if rule.gallery_cameras:
        cameras = [items[row][2] for row in gallery]
        gallery = gallery[np.isin(cameras, rule.gallery_cameras)]
    if len(rule.trials) == 1:
        return replace(rule, trials=(Trial(query, gallery),))
    drawn = seeded_galleries([as_tracklet(items[row]) for row in gallery])
    return replace(rule, trials=tuple(Trial(query, gallery[rows]) for rows in drawn))


def split_modalities(items: Items) -> tuple[list, list]:
    """The infrared and the visible tracklets."""
    kinds = (INFRARED, VISIBLE)
    return tuple([item for item in items if item.modality == kind] for kind in kinds)


def split_groups(items: Items, seed: int) -> tuple[list, list]:
    """A drawn item of each person under each camera that has several, and all the others."""
    generator = random.Random(seed)
    groups = group_rows([as_tracklet(item) for item in items]).values()
    drawn = {generator.choice(rows) for rows in groups if len(rows) > 1}
    query = [item for row, item in enumerate(items) if row in drawn]
    return query, [item for row, item in enumerate(items) if row not in drawn]


def number_names(query: Items, gallery: Items) -> tuple[list, list]:
    """Images with numbers for the names that fastreid gives training people and cameras."""
    images = [*query, *gallery]
    people, cameras = (
        {name: number for number, name in enumerate(sorted({image[place] for image in images}))}
        for place in (1, 2)
    )
    return tuple(
        [(path, people[pid], cameras[camid]) for path, pid, camid, *_ in side]
        for side in (query, gallery)
    )


def check_held_out(cfg: CfgNode) -> None:
    """Raise InputError if a training would see the people who are held out to judge it."""
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
