"""P people x K items, at most half of a person's being generated images."""

from collections.abc import Sequence

import numpy as np

from plugins.data.datasets.tracklet import Tracklet
from plugins.data.samplers import IdentitySampler, walk
from plugins.registry import SAMPLER


@SAMPLER.register()
class CappedIdentitySampler(IdentitySampler):
    """IdentitySampler with a limit: floor(K / 2) items of a person in a batch are generated.

    Where the draw exceeds it, real images of the person take the places of the surplus, other ones
    than the batch has already if there are any.
    """

    def __init__(self, items: Sequence[Tracklet], **options: int) -> None:
        """As :class:`EpochSampler`."""
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
