"""Training people held out for model selection, so that the test split stays untouched."""

import logging
import random
from collections.abc import Sequence
from dataclasses import replace

from fastreid.config import CfgNode

from plugins.data.build import build_dataset
from plugins.data.datasets.galleries import group_rows, seeded_galleries
from plugins.data.datasets.protocol import Protocol, Trial
from plugins.data.datasets.tracklet import INFRARED, VISIBLE, as_tracklet, is_image
from plugins.data.datasets.video_dataset import VideoDataset
from plugins.data.datasets.wrapped import OuterDataset, chain
from plugins.errors import InputError
from plugins.registry import DATASET

logger = logging.getLogger(__name__)

Items = Sequence[tuple]


@DATASET.register()
class HeldOutPeople(OuterDataset, VideoDataset):
    """The training people of DATASETS.HELD_OUT.NAME: most train, some are drawn to be searched for.

    No test item of that set is in here. Drawn are people whom two cameras or more have seen, as a
    query does not see its person's other items of its own camera; everybody else trains. Generated
    items of the drawn people are left out altogether.

    - Both modalities: infrared searches visible and the other way round, as far as the set does so,
      by its junk rule and CMC. Where it draws its galleries, ten are drawn here as well, of one
      item of each person under each camera, see ``seeded_galleries``.
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
        drawn = draw_people(self._base.train, keys.NAME, keys.PEOPLE, keys.SEED)
        held = [
            item
            for item in self._base.train
            if item[1] in drawn and not as_tracklet(item).is_pseudo
        ]
        self._one_modality = len({as_tracklet(item).modality for item in held}) == 1
        split = split_groups(held, keys.SEED) if self._one_modality else split_modalities(held)
        query, gallery = number_names(*split) if is_image(held[0]) else split
        train = [item for item in self._base.train if item[1] not in drawn]
        super().__init__(train, query, gallery)

    def directions(self) -> dict[str, Protocol]:
        """I2V and V2I, or Q2G, by the rules of the set's direction of that name."""
        rules = {name.split()[0]: rule for name, rule in self._base.directions().items()}
        query, gallery = self.rows()
        ways = {"I2V": Trial(query, gallery), "V2I": Trial(gallery, query)}
        if self._one_modality:
            ways = {"Q2G": Trial(query, gallery)}
        names = [name for name in ways if name in rules] or list(ways)
        return {name: self._search(ways[name], rules.get(name)) for name in names}

    def _search(self, trial: Trial, rule: Protocol | None) -> Protocol:
        """``trial`` by ``rule``, or by the usual one; with drawn galleries if the rule has them."""
        if rule is None or len(rule.trials) == 1:
            return replace(rule or Protocol((trial,)), trials=(trial,))
        items = [*self.query, *self.gallery]
        drawn = seeded_galleries([as_tracklet(items[row]) for row in trial.gallery])
        return replace(rule, trials=tuple(Trial(trial.query, trial.gallery[d]) for d in drawn))

    def show_test(self) -> None:
        """Log who is held out, and a table of queries and gallery."""
        people = {item[1] for item in self._base.train}
        logger.info(
            "%d of the %d training people of %s are held out (DATASETS.HELD_OUT.SEED %d); %d "
            "could not be searched for by another camera and stay in training",
            self._cfg.PEOPLE,
            len(people),
            self._cfg.NAME,
            self._cfg.SEED,
            len(people) - len(searchable_people(self._base.train)),
        )
        super().show_test()

    def _show(self, subsets: dict[str, list]) -> None:
        super()._show({name: [as_tracklet(item) for item in subsets[name]] for name in subsets})


def searchable_people(items: Items) -> list:
    """Who can be query and match, ascending: see :class:`HeldOutPeople`; generated items are none.

    Two cameras have seen them, and both modalities if the items are of both, else one camera twice.
    """
    seen: dict = {}
    for item in map(as_tracklet, items):
        if not item.is_pseudo:
            seen.setdefault(item.pid, []).append((item.modality, item.camid))
    kinds = {modality for sightings in seen.values() for modality, _ in sightings}

    def searchable(sightings: list[tuple]) -> bool:
        if len({camid for _, camid in sightings}) < 2:
            return False
        if len(kinds) > 1:
            return {modality for modality, _ in sightings} == kinds
        return len(sightings) > len(set(sightings))

    return sorted(pid for pid, sightings in seen.items() if searchable(sightings))


def draw_people(items: Items, name: str, number: int, seed: int) -> set:
    """``number`` of the searchable people.

    Raises:
        InputError: there are not so many, it is below 2, or fewer than 2 others would be left.
    """
    people = {item[1] for item in items}
    candidates = searchable_people(items)
    most = min(len(candidates), len(people) - 2)
    if not 2 <= number <= most:
        raise InputError(
            f"DATASETS.HELD_OUT.PEOPLE: {number}; {name} has {len(people)} training people, of "
            f"whom {len(candidates)} can be searched for by another camera, and 2 must be left to "
            f"train on; expected {f'2 to {most}' if most >= 2 else 'a larger set'}"
        )
    return set(random.Random(seed).sample(candidates, number))


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
