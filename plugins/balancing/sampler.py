"""Batches of P people x K items, with at most half of a person's items generated."""

from collections.abc import Sequence

import numpy as np

from plugins.data.datasets.tracklet import Tracklet
from plugins.data.samplers import IdentitySampler, walk
from plugins.registry import SAMPLER


@SAMPLER.register()
class CappedIdentitySampler(IdentitySampler):
    """Samples as IdentitySampler, with at most floor(K / 2) generated items of a person.

    If a draw exceeds the limit, real images of the person replace the surplus, preferably images
    that are not in the batch yet.
    """

    def __init__(self, items: Sequence[Tracklet], **options: int) -> None:
        """See :class:`EpochSampler`."""
        super().__init__(items, **options)
        self._is_pseudo = np.array([item.is_pseudo for item in items])

    def choose(self, people: np.ndarray, generator: np.random.Generator) -> np.ndarray:
        """Choose as :class:`IdentitySampler`, then replace the surplus of generated items."""
        chosen = super().choose(people, generator)
        for person, (row,) in zip(people.flat, chosen.reshape(-1, *chosen.shape[2:]), strict=True):
            items = np.asarray(self.groups[person][0])
            real = items[~self._is_pseudo[items]]
            surplus = np.flatnonzero(self._is_pseudo[row])[self.num_instances // 2 :]
            if len(surplus):
                fresh = np.setdiff1d(real, row)
                pool = fresh if len(fresh) else real
                row[surplus] = pool[walk(len(pool), 1, len(surplus), generator)[0]]
        return chosen
