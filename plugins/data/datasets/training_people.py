"""Make a test set of training people, to compare them with people whom a model has not seen."""

from collections.abc import Iterable, Set

import torch

from plugins.data.datasets.base import Items, ReidDataset
from plugins.data.datasets.tracklet import as_tracklet
from plugins.protocol import Direction, without_answer


class TrainingPeople(ReidDataset):
    """A test set made of training items; nothing trains.

    Queries are the first item of each person under each camera, the gallery is the rest.
    """

    def __init__(
        self,
        name: str,
        rules: Direction,
        items: Items,
        query_modalities: Set[int],
        gallery_modalities: Set[int],
        people: int,
        seed: int,
    ) -> None:
        """Sample people, and divide their items.

        Args:
            name: name of the only direction.
            rules: the junk rule and the CMC of this direction are taken.
            items: training items; persons and cameras may be texts, as fastreid has them.
            query_modalities: modalities of the queries.
            gallery_modalities: modalities of the gallery.
            people: number of people; all if there are not so many.
            seed: seed of the sample.
        """
        tracklets = [as_tracklet(item) for item in items]
        names = sorted({item.pid for item in tracklets})
        order = torch.randperm(len(names), generator=torch.Generator().manual_seed(seed))
        sampled = {names[index] for index in order[:people].tolist()}
        person, camera = (number_texts(ids) for ids in (names, {item.camid for item in tracklets}))
        first: dict[tuple[int, int], tuple] = {}
        rest = []
        for original, item in zip(items, tracklets, strict=True):
            if item.pid not in sampled:
                continue
            key = person[item.pid], camera[item.camid]
            labeled = (original[0], *key, *original[3:])
            if item.modality in query_modalities and key not in first:
                first[key] = labeled
            elif item.modality in gallery_modalities:
                rest.append(labeled)
        super().__init__([], list(first.values()), rest)
        self._name, self._rules = name, rules

    @property
    def searchable(self) -> bool:
        """Whether a query has a positive."""
        return not without_answer(self.directions(), [*self.query, *self.gallery])

    def directions(self) -> dict[str, Direction]:
        """Let all queries search the whole gallery."""
        return {self._name: Direction((self.rows(),), self._rules.junk, self._rules.cmc)}


def number_texts(ids: Iterable[int | str]) -> dict[int | str, int]:
    """Number texts in sorted order; numbers stay, as junk rules may name cameras by them."""
    return {
        name: name if isinstance(name, int) else number for number, name in enumerate(sorted(ids))
    }
