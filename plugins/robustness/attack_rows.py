"""An attack on rows of a retrieval task, in batches that several processes share.

Legend: B clips in a batch, R attacked rows, D feature length.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Protocol, TypeVar, cast

import torch
from fastreid.utils import comm
from fastreid.utils.env import seed_all_rng
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from plugins.attacks import Adapter, AttackResult, Guides, Recipe, ThreatModel, attacking
from plugins.attacks.features import FeaturesOf, row_groups
from plugins.attacks.projections import mean_absolute, row_norms
from plugins.data.loaders import to_device
from plugins.interrupts import shield_loader_worker, start_workers
from plugins.robustness.batches import RowBatches
from plugins.robustness.results import Record, RowStats, join
from plugins.robustness.task import RetrievalTask
from plugins.utils.random import derive_seed

T = TypeVar("T")

# Distinguishes the seed of the scored forward pass from that of the attack.
SCORED = 1


class RunsOnBatches(Protocol):
    """The part of ``Attack`` that running it needs; a transferred attack has it too."""

    threat: ThreatModel
    recipe: Recipe
    seed: int
    passes: int

    def prepare(
        self, features_of: FeaturesOf, batches: Iterable[tuple[dict, Guides]]
    ) -> "RunsOnBatches":
        """See ``Attack.prepare``."""

    def run(self, features_of: FeaturesOf, batch: dict, guides: Guides) -> AttackResult:
        """See ``Attack.run``."""


def attack_rows(
    attack: RunsOnBatches,
    adapter: Adapter,
    task: RetrievalTask,
    batches: Sequence[dict] | RowBatches,
    record: Record | None = None,
    keep: Callable[[dict, dict], None] | None = None,
    workers: int = 0,
    others: Sequence[dict] | RowBatches = (),
) -> RowStats:
    """Attack the rows of ``batches``; several processes share the batches.

    One process attacks a batch as a whole, and the random draws of a row depend on the row alone.
    So the number of processes changes nothing, and the size of a batch changes only the rounding of
    the network.

    Args:
        attack: the attack.
        adapter: the attacked model.
        task: the task whose attacked side holds the rows.
        batches: the rows to attack, all clips of a row in one batch.
        record: batches that the record holds are read and not attacked again; the others are
            added to it.
        keep: called with each clean and attacked batch, before the record holds it.
        workers: processes that read batches ahead.
        others: rows of the other side, for attacks that learn from both sides.

    Returns:
        In every process the statistics of all rows, ascending; see
        ``RetrievalTask.with_scores``.
    """
    shard = range(comm.get_rank(), len(batches), comm.get_world_size())
    saved = {number: record.read_part(number) for number in shard} if record else {}
    parts = {number: part for number, part in saved.items() if part is not None}
    remaining = [number for number in shard if number not in parts]
    learning = 0.0
    if remaining:
        begun = time.perf_counter()
        with attacking(adapter.model):
            seed_all_rng(attack.seed)
            attack = attack.prepare(adapter, GuidedBatches(adapter, task, batches, others))
        learning = time.perf_counter() - begun
    loader = batch_loader(batches, remaining, workers)
    progress = tqdm(
        zip(remaining, start_workers(loader), strict=True),
        desc=f"{task.name} {type(attack).__name__}",
        initial=len(parts),
        total=len(shard),
        unit="batch",
        leave=False,
        disable=not comm.is_main_process(),
    )
    for number, batch in progress:
        images, part = attack_batch(attack, adapter, task, batch)
        if number == remaining[0]:
            part = replace(
                part,
                forwards=part.forwards + attack.passes,
                backwards=part.backwards + attack.passes,
                seconds=part.seconds + learning,
            )
        if keep:
            keep(batch, {**batch, "images": images})
        if record:
            record.keep_part(number, part)
        parts[number] = part
    return join(gather_in_order(parts))


def batch_loader(
    batches: Sequence[dict] | RowBatches, numbers: Sequence[int], workers: int
) -> DataLoader:
    """Return a loader of the batches with these numbers."""
    return DataLoader(
        cast(Dataset, batches),
        batch_size=None,
        sampler=numbers,
        num_workers=workers,
        worker_init_fn=shield_loader_worker,
        # A generator of its own: each iterator draws a seed, by default from the global one.
        generator=torch.Generator(),
    )


def reread_features(
    adapter: Adapter,
    batches: Sequence[dict] | RowBatches,
    read: Callable[[dict], dict],
    seed: int,
) -> Tensor:
    """Compute features of the rows of ``batches`` with other images; several processes share them.

    Args:
        adapter: the model.
        batches: batches with all clips of a row in one of them.
        read: function from a batch to the batch with other images.
        seed: seed of an attack, for a model that draws.

    Returns:
        (R, D) in the order of the batches, in every process.
    """
    device, parts = next(adapter.model.parameters()).device, {}
    for number in range(comm.get_rank(), len(batches), comm.get_world_size()):
        batch = to_device(read(batches[number]), device)
        parts[number] = scored_features(adapter, batch, seed).cpu()
    return torch.cat(gather_in_order(parts))


def gather_in_order(parts: dict[int, T]) -> list[T]:
    """Gather numbered parts from all processes; return them, by number, in every process."""
    gathered = {number: part for shard in comm.all_gather(parts) for number, part in shard.items()}
    return [gathered[number] for number in sorted(gathered)]


class GuidedBatches:
    """All batches with their guides, as often as they are asked for: the input of ``prepare``."""

    def __init__(
        self,
        adapter: Adapter,
        task: RetrievalTask,
        batches: Sequence[dict] | RowBatches,
        others: Sequence[dict] | RowBatches = (),
    ) -> None:
        """Take batches of the attacked side and of the other one; nothing is read yet."""
        self._device = next(adapter.model.parameters()).device
        self._sides = (task, batches), (task.other_side(), others)

    def __iter__(self) -> Iterator[tuple[dict, Guides]]:
        """Yield (batch, guides) of each batch, on the model's device; the sides take turns."""
        for number in range(max(len(batches) for _, batches in self._sides)):
            for task, batches in self._sides:
                if number < len(batches):
                    batch = to_device(batches[number], self._device)
                    yield batch, task.guides(row_groups(batch)[1])


def attack_batch(
    attack: RunsOnBatches, adapter: Adapter, task: RetrievalTask, batch: dict
) -> tuple[Tensor, RowStats]:
    """Attack whole rows; return the images, shaped as the batch's, and the rows' statistics."""
    start = time.perf_counter()
    batch = to_device(batch, next(adapter.model.parameters()).device)
    groups, rows = row_groups(batch)
    result = attack.run(adapter, batch, task.guides(rows))
    features = scored_features(adapter, result.batch, attack.seed)
    delta = result.images - batch["images"]
    mean, largest = budget_used(delta, groups.to(delta.device), attack.threat)
    stats = RowStats(
        rows=rows.cpu(),
        objective=result.objective.cpu(),
        start=result.start.cpu(),
        margin=result.margin.cpu(),
        mean_perturbation=mean.cpu(),
        max_perturbation=largest.cpu(),
        zero_gradient=result.zero_gradient.cpu(),
        features=features.cpu(),
        forwards=result.forwards + len(rows),
        backwards=result.backwards,
        seconds=time.perf_counter() - start,
    )
    return result.images.cpu(), stats


def scored_features(adapter: Adapter, batch: dict, seed: int) -> Tensor:
    """Compute the features (R, D) that are scored, with other random draws than the attack saw."""
    with attacking(adapter.model), torch.no_grad():
        seed_all_rng(derive_seed(seed, SCORED))
        return adapter.features(batch)


def budget_used(delta: Tensor, groups: Tensor, threat: ThreatModel) -> tuple[Tensor, Tensor]:
    """Compute ``RowStats.mean_perturbation`` and ``RowStats.max_perturbation``.

    Args:
        delta: (B, ...) perturbations.
        groups: (B,) index of the row of each clip.
        threat: the threat model.

    Returns:
        Both (R,).
    """
    rows = int(groups.max()) + 1
    if threat.norm == "l2":
        used = largest = row_norms(delta, groups, rows, order=2)
    else:
        used = mean_absolute(delta, groups, rows)
        largest = torch.zeros_like(used).scatter_reduce(
            0, groups, delta.abs().flatten(1).amax(dim=1), "amax"
        )
    return (used / threat.eps if threat.eps else torch.zeros_like(used)), largest
