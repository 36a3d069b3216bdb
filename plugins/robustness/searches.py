"""One direction of a data set as an attack sees it, and an attack on it.

Legend: N items of query + gallery, R rows to attack, Q queries, G gallery items, D feature length.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from fastreid.utils import comm
from fastreid.utils.env import seed_all_rng
from torch import Tensor
from torch.utils.data import DataLoader
from tqdm import tqdm

from plugins.attacks import Adapter, Attack, Guides, ThreatModel, attacking
from plugins.attacks.adapter import row_groups
from plugins.attacks.draws import joint_seed
from plugins.attacks.guides import visible_pairs
from plugins.attacks.projections import mean_size, row_norms
from plugins.data.loaders import to_device
from plugins.evaluation import (
    RankingResult,
    evaluate_distances,
    evaluate_ranking,
    ranked_lists,
)
from plugins.evaluation.distance import CHUNK
from plugins.evaluation.ranks import match_blocks
from plugins.evaluation.rerank import rerank
from plugins.interrupts import shielded_workers
from plugins.robustness.batches import RowBatches
from plugins.robustness.outcomes import Attacked, Outcomes, Scores, join
from plugins.robustness.records import Record

SIDES = ("query", "gallery")
# Tells the seed of the scored pass from the attack's own.
SCORED = 1


@dataclass(frozen=True, eq=False)
class Search:
    """The first trial of a direction, with clean features and the side that is attacked.

    Attacking the gallery swaps the roles: an item is guided by the queries, under the same rule for
    junk, and then the clean queries search the attacked gallery. So its scores say what a query
    finds when whoever fills the gallery is hostile. An item that no query looks for has no
    positive: SMA and ODFA move it all the same; objectives that need a positive are 0, leave it
    where they start and count it as stuck: FNA at the clean image, RankMargin and SoftAP at random
    noise within the budget. Square, which has no gradient to be stuck, leaves its stripes.

    Attributes:
        name: of the direction, such as "I2V".
        query_rows: (Q,) int64 rows of query + gallery.
        gallery_rows: (G,) likewise.
        features: (N, D) clean, as ranked; they and the rest are on one device.
        pids: (N,) persons.
        camids: (N,) cameras.
        metric: "cosine" or "euclidean".
        junk: name of a rule in ``plugins.evaluation.ranks.JUNK``.
        cmc: name in ``plugins.evaluation.ranks.CMC``.
        side: "query" or "gallery", what is attacked.
        trials: of the direction, of which this is the first.
    """

    name: str
    query_rows: Tensor
    gallery_rows: Tensor
    features: Tensor
    pids: Tensor
    camids: Tensor
    metric: str
    junk: str = "camera"
    cmc: str = "item"
    side: str = "query"
    trials: int = 1

    def swapped(self) -> "Search":
        """The same search with its gallery attacked, which its name says."""
        return replace(self.other_side(), name=f"{self.name}+gallery")

    def other_side(self) -> "Search":
        """The same search with its other side attacked."""
        return replace(self, side="gallery" if self.side == "query" else "query")

    @property
    def told(self) -> dict[str, list]:
        """What the result of an attack depends on beside items and features, as plain values."""
        return {
            "queries": self.query_rows.tolist(),
            "gallery": self.gallery_rows.tolist(),
            "rules": [self.junk, self.cmc],
        }

    @property
    def side_rows(self) -> Tensor:
        """All rows of the attacked side."""
        return self.gallery_rows if self.side == "gallery" else self.query_rows

    def candidates(self) -> Tensor:
        """Rows that can be attacked, ascending: gallery items, or queries that have a positive."""
        if self.side == "gallery":
            return self.gallery_rows.sort().values
        return self.valid_queries().sort().values

    def valid_queries(self) -> Tensor:
        """Rows of the queries that have a positive; no other counts in any score."""
        sides = self.query_rows, self.gallery_rows
        labels = [values[rows] for values in (self.pids, self.camids) for rows in sides]
        blocks = match_blocks(*labels, self.junk, CHUNK)
        return self.query_rows[torch.cat([positive.any(dim=1) for positive, _ in blocks])]

    def draw(self, number: int, seed: int) -> Tensor:
        """``number`` of the candidates, ascending, drawn by ``seed``; 0, or too many, for all."""
        rows = self.candidates()
        if not 0 < number < len(rows):
            return rows
        order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(seed))
        return rows[order[:number].to(rows.device)].sort().values

    def guides(self, rows: Tensor) -> Guides:
        """What an attack on these rows (R,) may know: both sides, clean."""
        rows, others = rows.to(self.pids.device), self.other_side().side_rows
        seekers, sought = (rows, others) if self.side == "query" else (others, rows)
        labels = [values[ids] for values in (self.pids, self.camids) for ids in (seekers, sought)]
        seen = visible_pairs(*labels, self.junk)
        return Guides(
            pids=self.pids[rows],
            clean=self.features[rows],
            gallery=self._other_features,
            gallery_pids=self.pids[others],
            valid=seen if self.side == "query" else seen.T,
            metric=self.metric,
            source="gallery" if self.side == "query" else "query",
            items=self._side_features,
        )

    def ranking(self, rows: Tensor, features: Tensor) -> RankingResult:
        """The search with these features (R, D) in place of those of the attacked rows (R,)."""
        tensors = self._ranked(rows, features)
        return evaluate_ranking(*tensors, metric=self.metric, junk=self.junk, cmc=self.cmc)

    def score(self, rows: Tensor, features: Tensor, ranking: RankingResult | None = None) -> Scores:
        """What each query finds, on the CPU; ``ranking`` if it is known."""
        ranking = ranking or self.ranking(rows, features)
        tensors = self._ranked(rows, features)
        lists, _ = ranked_lists(*tensors, length=1, metric=self.metric, junk=self.junk)
        _, _, query_pids, gallery_pids, _, _ = tensors
        # An empty list has no first item, and its query no positive.
        first = gallery_pids[lists[:, 0].clamp_min(0)]
        hit = ranking.valid & (first == query_pids)
        return Scores(ranking.valid.cpu(), hit.cpu(), ranking.average_precision.cpu())

    def outcomes(self, attacked: Attacked, ranking: RankingResult | None = None) -> Outcomes:
        """What was done to the rows with what queries find then; ``ranking`` if it is known."""
        rows, features = attacked.rows, attacked.features
        found = self.score(rows, features, ranking)
        return Outcomes(**vars(attacked), **vars(found))

    def scored_rows(self, rows: Tensor) -> Tensor:
        """Rows (S,) of the queries that are scored when these rows (R,) are attacked."""
        return rows if self.side == "query" else self._scored

    def people(self, rows: Tensor) -> Tensor:
        """Persons (S,) of the queries that are scored when these rows (R,) are attacked."""
        return self.pids[self.scored_rows(rows)].cpu()

    def reranked(self, rows: Tensor, features: Tensor, **parameters: float) -> RankingResult:
        """As ``ranking``, of lists that are re-ranked with k1, k2 and lambda_value."""
        query, gallery, *labels = (tensor.cpu() for tensor in self._ranked(rows, features))
        distances = rerank(query, gallery, metric=self.metric, **parameters)
        return evaluate_distances(distances, *labels, junk=self.junk, cmc=self.cmc)

    @cached_property
    def _side_features(self) -> Tensor:
        return self.features[self.side_rows]

    @cached_property
    def _other_features(self) -> Tensor:
        return self.features[self.other_side().side_rows]

    def _ranked(self, rows: Tensor, features: Tensor) -> tuple[Tensor, ...]:
        """What ``evaluate_ranking`` takes; with the gallery attacked, of all valid queries."""
        rows, features = rows.to(self.pids.device), features.to(self.features)
        queries = rows if self.side == "query" else self._scored
        labels = [
            values[ids]
            for values in (self.pids, self.camids)
            for ids in (queries, self.gallery_rows)
        ]
        if self.side == "query":
            return features, self._other_features, *labels
        changed = self.features.index_copy(0, rows, features)
        return self.features[queries], changed[self.gallery_rows], *labels

    @cached_property
    def _scored(self) -> Tensor:
        return self.valid_queries().sort().values


def attack_search(
    attack: Attack,
    adapter: Adapter,
    search: Search,
    batches: Sequence[dict] | RowBatches,
    record: Record | None = None,
    keep: Callable[[dict, dict], None] | None = None,
    workers: int = 0,
    others: Sequence[dict] | RowBatches = (),
) -> Attacked:
    """Attack the rows of ``batches``; several processes share the batches.

    A batch is attacked as a whole by one process, and what is drawn for a row depends on the row
    alone, so the number of processes changes nothing, and that of rows in a batch only the rounding
    of the network.

    Args:
        attack: the attack.
        adapter: the attacked model.
        search: whose attacked side the rows are.
        batches: the rows to attack, all clips of a row in one of them.
        record: batches that it holds are read and not attacked again; it is given the others.
        keep: called with each clean and attacked batch, before the record holds it.
        workers: processes that read batches ahead.
        others: rows of the other side, to learn from too.

    Returns:
        In every process what was done to all rows, ascending; see ``Search.outcomes``.
    """
    own = range(comm.get_rank(), len(batches), comm.get_world_size())
    found = {number: record.read_part(number) for number in own} if record else {}
    done = {number: part for number, part in found.items() if part is not None}
    left = [number for number in own if number not in done]
    if left:
        begun = time.perf_counter()
        with attacking(adapter.model):
            seed_all_rng(attack.seed)
            attack = attack.prepare(adapter, GuidedBatches(adapter, search, batches, others))
        learning = time.perf_counter() - begun
    # A generator of its own: each iterator draws a seed, else from the global one.
    loader = DataLoader(
        batches,
        batch_size=None,
        sampler=left,
        generator=torch.Generator(),
        **shielded_workers(workers),
    )
    progress = tqdm(
        zip(left, loader, strict=True),
        desc=f"{search.name} {type(attack).__name__}",
        initial=len(done),
        total=len(own),
        unit="batch",
        disable=not comm.is_main_process(),
    )
    for number, batch in progress:
        images, part = attack_batch(attack, adapter, search, batch)
        if number == left[0]:
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
        done[number] = part
    parts = {number: part for share in comm.all_gather(done) for number, part in share.items()}
    return join([parts[number] for number in sorted(parts)])


def reread_features(
    adapter: Adapter,
    batches: Sequence[dict] | RowBatches,
    read: Callable[[dict], dict],
    seed: int,
) -> Tensor:
    """Compute features of the rows of ``batches`` with other images; several processes share them.

    Args:
        adapter: the model.
        batches: all clips of a row in one of them.
        read: from a batch to the one with other images.
        seed: of an attack, for a model that draws.

    Returns:
        (R, D) in the order of the batches, in every process.
    """
    device, done = next(adapter.model.parameters()).device, {}
    for number in range(comm.get_rank(), len(batches), comm.get_world_size()):
        batch = to_device(read(batches[number]), device)
        with attacking(adapter.model), torch.no_grad():
            seed_all_rng(joint_seed(seed, SCORED))
            done[number] = adapter.features(batch).cpu()
    parts = {number: part for share in comm.all_gather(done) for number, part in share.items()}
    return torch.cat([parts[number] for number in sorted(parts)])


class GuidedBatches:
    """All batches with their guides, as often as somebody asks: what an attack is prepared with."""

    def __init__(
        self,
        adapter: Adapter,
        search: Search,
        batches: Sequence[dict] | RowBatches,
        others: Sequence[dict] | RowBatches = (),
    ) -> None:
        """Take batches of the attacked side, and of the other one; nothing is read yet."""
        self._device = next(adapter.model.parameters()).device
        self._sides = (search, batches), (search.other_side(), others)

    def __iter__(self) -> Iterator[tuple[dict, Guides]]:
        """(batch, guides) of each, on the model's device; both sides by turns."""
        for number in range(max(len(batches) for _, batches in self._sides)):
            for search, batches in self._sides:
                if number < len(batches):
                    batch = to_device(batches[number], self._device)
                    yield batch, search.guides(row_groups(batch)[1])


def attack_batch(
    attack: Attack, adapter: Adapter, search: Search, batch: dict
) -> tuple[Tensor, Attacked]:
    """Attack whole rows; returns the images, shaped as the batch's, and what was done to them."""
    start = time.perf_counter()
    batch = to_device(batch, next(adapter.model.parameters()).device)
    groups, rows = row_groups(batch)
    outcome = attack.run(adapter, batch, search.guides(rows))
    images, climb = outcome.batch["images"], outcome.climb
    with attacking(adapter.model), torch.no_grad():
        # For a model that draws: not what it drew under attack, which the attacker saw.
        seed_all_rng(joint_seed(attack.seed, SCORED))
        features = adapter.features(outcome.batch)
    moved, reached = budget_used(images - batch["images"], groups.to(images.device), attack.threat)
    tensors = {
        "rows": rows,
        "objective": climb.objective,
        "start": climb.start,
        "margin": climb.margin,
        "moved": moved,
        "reached": reached,
        "stuck": climb.stuck,
        "features": features,
    }
    return images.cpu(), Attacked(
        **{name: tensor.cpu() for name, tensor in tensors.items()},
        forwards=climb.forwards + len(rows),
        backwards=climb.backwards,
        seconds=time.perf_counter() - start,
    )


def budget_used(delta: Tensor, groups: Tensor, threat: ThreatModel) -> tuple[Tensor, Tensor]:
    """``Attacked.moved`` and ``Attacked.reached`` (R,) of perturbations (B, ...) of rows (B,)."""
    if threat.norm == "l2":
        used = reached = row_norms(delta, groups, order=2)
    else:
        used = mean_size(delta, groups)
        largest = delta.abs().flatten(1).amax(dim=1)
        reached = torch.zeros_like(used).scatter_reduce(0, groups, largest, "amax")
    return (used / threat.eps if threat.eps else torch.zeros_like(used)), reached
