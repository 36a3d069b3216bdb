"""Choose the clips of a batch, and the seed of each clip's draws.

Legend: P people of a batch over all ranks, S sides, K clips of a person on each side. The
cross-modal sampler has two sides, visible and infrared; the others have one.

Everything follows from (seed, epoch). Ranks cut their people out of the same table: two ranks train
on the same clips, with the same draws, as one. Workers and prefetching change nothing, and a run
resumes at any batch.
"""

import logging
from collections import defaultdict
from collections.abc import Iterator, Sequence

import numpy as np
from torch.utils.data import Sampler

from plugins.data.datasets.tracklet import MODALITIES, Tracklet
from plugins.errors import InputError
from plugins.registry import SAMPLER

logger = logging.getLogger(__name__)


class EpochSampler(Sampler):
    """Endless batches: lists of (item index, draw seed), all of side 0 first, person by person.

    Each epoch walks through shuffled people, and through each person's shuffled clips, so that all
    come equally often and together with others each time. A batch has a person once, and a clip
    once unless its person has fewer than K. A subclass groups the items by ``group`` and may choose
    others of a person by ``choose``.

    Attributes:
        sides: S.
        groups: item indices by person and side.
        num_instances: K.
        position: batches already trained on, counted by the trainer; iteration starts there.
        batches_per_epoch: clips of the smaller side, divided by P * K.
    """

    sides = 1

    def __init__(
        self,
        items: Sequence[Tracklet],
        *,
        batch_size: int,
        num_instances: int,
        seed: int,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        """Group the items by person and side.

        Args:
            items: training tracklets.
            batch_size: clips of a batch on one rank.
            num_instances: K.
            seed: the same on all ranks.
            rank: rank of this process.
            world_size: number of processes.

        Raises:
            InputError: the batch does not hold whole people, or the set is too small for one batch.
        """
        self.position = 0
        self._seed, self._rank, self.num_instances = seed, rank, num_instances
        self._people_of_rank = self.people_of_batch(batch_size, num_instances)
        self._people = self._people_of_rank * world_size
        self.groups = self.group(items)
        self._epoch: tuple[int, np.ndarray] | None = None

        smaller = min(sum(len(group[side]) for group in self.groups) for side in range(self.sides))
        self.batches_per_epoch = smaller // (self._people * num_instances)
        if len(self.groups) < self._people or self.batches_per_epoch == 0:
            of_each = " of each modality" if self.sides > 1 else ""
            remedy = "lower it or DATALOADER.NUM_INSTANCE"
            if self.sides > 1 and not self.groups:
                remedy = "a set of one modality needs DATALOADER.SAMPLER_TRAIN IdentitySampler"
            raise InputError(
                f"SOLVER.IMS_PER_BATCH {batch_size * world_size}: {type(self).__name__} needs "
                f"{self._people} people and {self._people * num_instances} items{of_each}, the "
                f"training set has {len(self.groups)} and {smaller}; {remedy}"
            )

    @classmethod
    def people_of_batch(cls, batch_size: int, num_instances: int) -> int:
        """Count the people in the batch of one rank, P of one rank; no data is needed.

        Raises:
            InputError: the batch does not hold whole people.
        """
        clips = cls.sides * num_instances
        if clips < 1 or batch_size < 1 or batch_size % clips:
            raise InputError(
                f"SOLVER.IMS_PER_BATCH: {batch_size} items a process; {cls.__name__} needs "
                f"a multiple of {cls.sides} x DATALOADER.NUM_INSTANCE {num_instances}"
            )
        return batch_size // clips

    @classmethod
    def group(cls, items: Sequence[Tracklet]) -> list[list[list[int]]]:
        """Group item indices by person and side, without people who lack a side."""
        raise NotImplementedError

    def batch(self, epoch: int, step: int) -> list[tuple[int, int]]:
        """Return this rank's batch ``step`` of an epoch: (item index, draw seed) per clip."""
        if self._epoch is None or self._epoch[0] != epoch:
            self._epoch = (epoch, self._draw_epoch(epoch))
        first = self._people_of_rank * self._rank
        people = self._epoch[1][step, first : first + self._people_of_rank]
        return [(index, seed) for index, seed in people.swapaxes(0, 1).reshape(-1, 2).tolist()]

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        """Yield batches from ``position`` on, for ever."""
        position = self.position
        while True:
            yield self.batch(*divmod(position, self.batches_per_epoch))
            position += 1

    def state_dict(self) -> dict[str, int]:
        """Return the position."""
        return {"position": self.position}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Continue from a position."""
        self.position = state["position"]

    def _draw_epoch(self, epoch: int) -> np.ndarray:
        """Draw the item indices and draw seeds of an epoch, (batches, P, S, K, 2) int64."""
        generator = np.random.default_rng([self._seed, epoch])
        people = walk(len(self.groups), self.batches_per_epoch, self._people, generator)
        indices = self.choose(people, generator)
        return np.stack([indices, generator.integers(2**63, size=indices.shape)], axis=-1)

    def choose(self, people: np.ndarray, generator: np.random.Generator) -> np.ndarray:
        """Choose the item indices (batches, P, S, K) of ``people`` (batches, P)."""
        chosen = np.empty((people.size, self.sides, self.num_instances), dtype=np.int64)
        order = np.argsort(people, axis=None, kind="stable")
        starts = np.flatnonzero(np.diff(people.flat[order])) + 1
        for slots in np.split(order, starts):  # the slots of one person
            for side, items in enumerate(self.groups[people.flat[slots[0]]]):
                steps = walk(len(items), len(slots), self.num_instances, generator)
                chosen[slots, side] = np.asarray(items)[steps]
        return chosen.reshape(*people.shape, self.sides, self.num_instances)


def walk(count: int, rows: int, width: int, generator: np.random.Generator) -> np.ndarray:
    """Fill rows with numbers below ``count``, all equally often, different in a row if possible.

    Shuffles follow each other; numbers that the unfinished row already has go to the end of the
    next shuffle.

    Args:
        count: numbers to choose from.
        rows: number of rows.
        width: numbers in a row.
        generator: draws the shuffles.

    Returns:
        (rows, width) int64; two numbers occur equally often or differ by one.
    """
    walked = np.empty(0, dtype=np.int64)
    while len(walked) < rows * width:
        shuffle = generator.permutation(count)
        unfinished = walked[len(walked) // width * width :]
        repeated = np.isin(shuffle, unfinished)
        walked = np.concatenate([walked, shuffle[~repeated], shuffle[repeated]])
    return walked[: rows * width].reshape(rows, width)


@SAMPLER.register()
class ShuffleSampler(EpochSampler):
    """Every item on its own, once an epoch (except in an incomplete last batch)."""

    def __init__(
        self,
        items: Sequence[Tracklet],
        *,
        batch_size: int,
        num_instances: int,
        seed: int,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        """Prepare as :class:`EpochSampler`; ``num_instances`` is not used."""
        super().__init__(
            items,
            batch_size=batch_size,
            num_instances=1,
            seed=seed,
            rank=rank,
            world_size=world_size,
        )

    @classmethod
    def people_of_batch(cls, batch_size: int, num_instances: int) -> int:
        """Count the items, each of which is a person here; ``num_instances`` is not used."""
        return super().people_of_batch(batch_size, 1)

    @classmethod
    def group(cls, items: Sequence[Tracklet]) -> list[list[list[int]]]:
        """Make one group per item."""
        return [[[index]] for index in range(len(items))]

    def choose(self, people: np.ndarray, generator: np.random.Generator) -> np.ndarray:
        """Choose the one item of each group."""
        return people[:, :, None, None]


@SAMPLER.register()
class IdentitySampler(EpochSampler):
    """P people x K items, whatever their modality."""

    @classmethod
    def group(cls, items: Sequence[Tracklet]) -> list[list[list[int]]]:
        """Make one group per person."""
        groups: dict[int | str, list[list[int]]] = defaultdict(lambda: [[]])
        for index, item in enumerate(items):
            groups[item.pid][0].append(index)
        return [groups[pid] for pid in sorted(groups)]


@SAMPLER.register()
class CrossModalIdentitySampler(EpochSampler):
    """P people x K clips x both modalities: first all visible clips, then all infrared ones."""

    sides = len(MODALITIES)

    @classmethod
    def group(cls, items: Sequence[Tracklet]) -> list[list[list[int]]]:
        """Make one group per person seen in both modalities."""
        groups: dict[int | str, list[list[int]]] = defaultdict(lambda: [[], []])
        for index, item in enumerate(items):
            groups[item.pid][item.modality].append(index)
        complete = [groups[pid] for pid in sorted(groups) if all(groups[pid])]
        if len(complete) < len(groups):
            logger.warning(
                "%d of %d training people are left out: seen in one modality only",
                len(groups) - len(complete),
                len(groups),
            )
        return complete
