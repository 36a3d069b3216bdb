"""What an attack's objective may know besides the attacked features; nothing here has a gradient.

Legend: R attacked rows (queries), X items of their side, G gallery items, P identities of the
gallery, D feature length.
"""

from dataclasses import dataclass, replace
from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Tensor

from plugins.evaluation.distance import METRICS
from plugins.protocol import junk_rule


def compared(features: Tensor, metric: str) -> Tensor:
    """Features (R, D) as ``metric`` compares them: of length 1 for "cosine", else as they are."""
    return F.normalize(features, dim=1) if metric == "cosine" else features


def visible_pairs(
    query_pids: Tensor,
    gallery_pids: Tensor,
    query_camids: Tensor,
    gallery_camids: Tensor,
    junk: str,
) -> Tensor:
    """Who sees whom: (R, G) bool, False where the junk rule hides the item from the row.

    Raises:
        InputError: there is no such rule for junk.
    """
    same_person = query_pids[:, None] == gallery_pids
    return ~junk_rule(junk)(same_person, query_camids[:, None], gallery_camids)


@dataclass(frozen=True, eq=False)
class Guides:
    """Clean features and labels of both sides, and who sees whom.

    Attributes:
        pids: (R,) persons of the attacked rows.
        clean: (R, D) their clean features.
        gallery: (G, D) clean features of the other side, as ranked; G is at least 1.
        gallery_pids: (G,) persons.
        valid: (R, G) bool, False where the junk rule hides the item from the row.
        metric: "cosine" or "euclidean", as TEST.METRIC.
        source: where the gallery came from. It belongs in every report: an attack guided by the
            queries themselves knows less, or more, than one guided by what is searched.
        reference: (R, D) the feature that ``targeted`` approaches and ``local_transform`` leaves.
        chosen: (R, G) bool, the items that an order attack moves up or down.
        items: (X, D) clean features of all items of the rows' side, the rows among them: who
            searches from the other side ranks a row among these.
    """

    pids: Tensor
    clean: Tensor
    gallery: Tensor
    gallery_pids: Tensor
    valid: Tensor
    metric: str
    source: str = "gallery"
    reference: Tensor | None = None
    chosen: Tensor | None = None
    items: Tensor | None = None

    def __post_init__(self) -> None:
        """Check the shapes and the metric."""
        pairs = (len(self.pids), len(self.gallery_pids))
        assert (len(self.clean), len(self.gallery)) == pairs and pairs[1] > 0, pairs
        assert self.valid.shape == pairs and self.valid.dtype == torch.bool, self.valid.shape
        assert self.reference is None or self.reference.shape == self.clean.shape
        assert self.chosen is None or self.chosen.shape == pairs
        assert self.metric in METRICS, self.metric

    @classmethod
    def from_features(
        cls,
        query_features: Tensor,
        gallery_features: Tensor,
        query_pids: Tensor,
        gallery_pids: Tensor,
        query_camids: Tensor,
        gallery_camids: Tensor,
        *,
        metric: str,
        junk: str = "camera",
        source: str = "gallery",
    ) -> "Guides":
        """Guides of a search, from what ``evaluate_ranking`` takes, in its order.

        Args:
            query_features: (R, D) clean features of the rows to attack.
            gallery_features: (G, D).
            query_pids: (R,) persons.
            gallery_pids: (G,) persons.
            query_camids: (R,) cameras.
            gallery_camids: (G,) cameras.
            metric: "cosine" or "euclidean".
            junk: name of a rule in ``plugins.protocol.JUNK``.
            source: where the gallery came from.

        Raises:
            InputError: there is no such rule for junk.
        """
        labels = (query_pids, gallery_pids, query_camids, gallery_camids)
        return cls(
            pids=query_pids,
            clean=query_features.detach(),
            gallery=gallery_features.detach(),
            gallery_pids=gallery_pids,
            valid=visible_pairs(*labels, junk),
            metric=metric,
            source=source,
        )

    @classmethod
    def among(cls, features: Tensor, pids: Tensor, *, metric: str, source: str) -> "Guides":
        """Guides from the attacked rows themselves, each hidden from itself; say the source.

        Args:
            features: (R, D) clean features.
            pids: (R,) persons.
            metric: "cosine" or "euclidean".
            source: what the rows are, such as "query" or "training batch".
        """
        clean = features.detach()
        others = ~torch.eye(len(pids), dtype=torch.bool, device=pids.device)
        return cls(pids, clean, clean, pids, others, metric, source)

    @cached_property
    def compared_gallery(self) -> Tensor:
        """(G, D) gallery as the metric compares it; computed once, as an attack asks every step."""
        return compared(self.gallery, self.metric)

    @cached_property
    def positives(self) -> Tensor:
        """(R, G) bool, visible items of the row's person."""
        return self.valid & (self.pids[:, None] == self.gallery_pids)

    @cached_property
    def negatives(self) -> Tensor:
        """(R, G) bool, visible items of anyone else."""
        return self.valid & (self.pids[:, None] != self.gallery_pids)

    @cached_property
    def centroids(self) -> "Guides":
        """The same rows with one item per identity, sorted by person: the mean compared feature.

        A row sees a centroid if it sees one of its items; the mean is over all of them.
        """
        people, member = self.gallery_pids.unique(return_inverse=True)
        items = self.compared_gallery
        sums = items.new_zeros(len(people), items.shape[1]).index_add(0, member, items)
        seen = items.new_zeros(len(self.pids), len(people)).index_add(
            1, member, self.valid.to(items)
        )
        return replace(
            self,
            gallery=sums / member.bincount()[:, None],
            gallery_pids=people,
            valid=seen > 0,
            source=f"centroids of {self.source}",
            chosen=None,
        )

    def select(self, rows: Tensor) -> "Guides":
        """The guides of some attacked rows: int64 indices or a bool mask."""
        return replace(
            self,
            pids=self.pids[rows],
            clean=self.clean[rows],
            valid=self.valid[rows],
            reference=None if self.reference is None else self.reference[rows],
            chosen=None if self.chosen is None else self.chosen[rows],
        )
