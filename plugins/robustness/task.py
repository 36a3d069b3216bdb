"""One direction of a data set as an attack sees it: who searches where, and which side is attacked.

Legend: N items of query + gallery, R attacked rows, Q queries, G gallery items, S scored queries,
D feature length.
"""

from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from plugins.attacks import Guides
from plugins.attacks.guides import visible_pairs
from plugins.evaluation import (
    RankingResult,
    Side,
    evaluate_distances,
    evaluate_ranking,
    ranked_lists,
)
from plugins.evaluation.distance import CHUNK
from plugins.evaluation.ranks import match_blocks
from plugins.evaluation.rerank import rerank
from plugins.robustness.results import AttackStats, RowStats, Scores


@dataclass(frozen=True, eq=False)
class RetrievalTask:
    """The first trial of a direction, with clean features and the side that is attacked.

    Attacking the gallery swaps the roles: an item is guided by the queries, under the same junk
    rule, and then the clean queries search the attacked gallery. The scores thus describe a hostile
    gallery. Items without a positive are still perturbed by SMA and ODFA. Objectives that need a
    positive return 0 for them and report a zero gradient: FNA leaves such items clean, RankMargin
    and SoftAP leave them at random noise within the budget. Square, which uses no gradient, leaves
    its stripes.

    Attributes:
        name: name of the direction, such as "I2V".
        query_rows: (Q,) int64 rows of query + gallery.
        gallery_rows: (G,) likewise.
        features: (N, D) clean features, as ranked; all tensors are on one device.
        pids: (N,) persons.
        camids: (N,) cameras.
        metric: "cosine" or "euclidean".
        junk: name of a rule in ``plugins.protocol.JUNK``.
        cmc: name in ``plugins.protocol.CMC``.
        side: "query" or "gallery", the attacked side.
        trials: number of trials of the direction; the task is the first of them.
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

    def swapped(self) -> "RetrievalTask":
        """Return the same task with its gallery attacked, which its name says."""
        return replace(self.other_side(), name=f"{self.name}+gallery")

    def other_side(self) -> "RetrievalTask":
        """Return the same task with its other side attacked."""
        return replace(self, side="gallery" if self.side == "query" else "query")

    @property
    def settings(self) -> dict[str, list]:
        """Plain values that the result of an attack depends on, besides items and features."""
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
        """Return the rows that can be attacked, ascending: gallery items, or valid queries."""
        if self.side == "gallery":
            return self.gallery_rows.sort().values
        return self.valid_queries().sort().values

    def valid_queries(self) -> Tensor:
        """Return the rows of the queries that have a positive; no other counts in any score."""
        query, gallery = (self._items.select(rows) for rows in (self.query_rows, self.gallery_rows))
        blocks = match_blocks(query, gallery, self.junk, CHUNK)
        return self.query_rows[torch.cat([positive.any(dim=1) for positive, _ in blocks])]

    def draw(self, number: int, seed: int) -> Tensor:
        """Draw ``number`` of the candidates, ascending; 0 or too large a number takes all."""
        rows = self.candidates()
        if not 0 < number < len(rows):
            return rows
        order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(seed))
        return rows[order[:number].to(rows.device)].sort().values

    def guides(self, rows: Tensor) -> Guides:
        """Return what an attack on these rows (R,) may know: both sides, clean."""
        rows, others = rows.to(self.pids.device), self.other_side().side_rows
        queries, gallery = (rows, others) if self.side == "query" else (others, rows)
        visible = visible_pairs(
            self.pids[queries],
            self.pids[gallery],
            self.camids[queries],
            self.camids[gallery],
            self.junk,
        )
        return Guides(
            pids=self.pids[rows],
            clean=self.features[rows],
            gallery=self._other_features,
            gallery_pids=self.pids[others],
            valid=visible if self.side == "query" else visible.T,
            metric=self.metric,
            source="gallery" if self.side == "query" else "query",
            items=self._side_features,
        )

    def ranking(self, rows: Tensor, features: Tensor) -> RankingResult:
        """Rank with these features (R, D) in place of those of the attacked rows (R,)."""
        sides = self._sides(rows, features)
        return evaluate_ranking(*sides, metric=self.metric, junk=self.junk, cmc=self.cmc)

    def score(self, rows: Tensor, features: Tensor, ranking: RankingResult | None = None) -> Scores:
        """Score each query, on the CPU; pass ``ranking`` where it is known."""
        ranking = ranking or self.ranking(rows, features)
        query, gallery = self._sides(rows, features)
        lists, _ = ranked_lists(query, gallery, length=1, metric=self.metric, junk=self.junk)
        # An empty list has no first item, and its query no positive.
        first = gallery.pids[lists[:, 0].clamp_min(0)]
        hit = ranking.valid & (first == query.pids)
        return Scores(ranking.valid.cpu(), hit.cpu(), ranking.average_precision.cpu())

    def with_scores(self, stats: RowStats, ranking: RankingResult | None = None) -> AttackStats:
        """Add the scores under attack to the statistics of all rows; pass ``ranking`` if known."""
        scores = self.score(stats.rows, stats.features, ranking)
        return AttackStats(**vars(stats), **vars(scores))

    def scored_rows(self, rows: Tensor) -> Tensor:
        """Return the rows (S,) of the queries that are scored when these rows are attacked."""
        return rows if self.side == "query" else self._scored

    def people(self, rows: Tensor) -> Tensor:
        """Return the persons (S,) of the queries that are scored when these rows are attacked."""
        return self.pids[self.scored_rows(rows)].cpu()

    def reranked(
        self, rows: Tensor, features: Tensor, *, k1: int, k2: int, lambda_value: float
    ) -> RankingResult:
        """Rank as ``ranking`` does, then re-rank the lists."""
        query, gallery = (side.cpu() for side in self._sides(rows, features))
        distances = rerank(
            query.features,
            gallery.features,
            k1=k1,
            k2=k2,
            lambda_value=lambda_value,
            metric=self.metric,
        )
        return evaluate_distances(distances, query, gallery, junk=self.junk, cmc=self.cmc)

    @cached_property
    def _side_features(self) -> Tensor:
        return self.features[self.side_rows]

    @cached_property
    def _other_features(self) -> Tensor:
        return self.features[self.other_side().side_rows]

    @cached_property
    def _items(self) -> Side:
        return Side(self.features, self.pids, self.camids)

    def _sides(self, rows: Tensor, features: Tensor) -> tuple[Side, Side]:
        """Return both ranked sides; with the gallery attacked, all valid queries are ranked."""
        rows, features = rows.to(self.pids.device), features.to(self.features)
        gallery = self._items.select(self.gallery_rows)
        if self.side == "query":
            queries = self._items.select(rows).with_features(features)
            return queries, gallery.with_features(self._other_features)
        changed = self.features.index_copy(0, rows, features)
        queries = self._items.select(self._scored)
        return queries, gallery.with_features(changed[self.gallery_rows])

    @cached_property
    def _scored(self) -> Tensor:
        return self.valid_queries().sort().values
