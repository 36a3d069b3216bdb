"""What an objective may know besides the attacked features; nothing here has a gradient.

Legend: R attacked rows (queries), X items of their side, G gallery items, P identities of the
gallery, D feature length.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor

from plugins.attacks.features import FeaturesOf, check_range, float_images, row_groups
from plugins.config import check_value
from plugins.errors import InputError
from plugins.evaluation.distance import METRICS, on_cosine_grid
from plugins.protocol import junk_rule
from plugins.utils.values import shortened

T = TypeVar("T")

# Properties that depend on the gallery alone.
GALLERY_PROPERTIES = ("compared_gallery", "gallery_norms", "gallery_on_grid")


def compared(features: Tensor, metric: str) -> Tensor:
    """Return features (R, D) as ``metric`` compares them: normalized for "cosine", else as is."""
    return F.normalize(features, dim=1) if metric == "cosine" else features


def visible_pairs(
    query_pids: Tensor,
    gallery_pids: Tensor,
    query_camids: Tensor,
    gallery_camids: Tensor,
    junk: str,
) -> Tensor:
    """Return (R, G) bool, False where the junk rule hides the item from the row.

    Raises:
        InputError: there is no such rule for junk.
    """
    same_person = query_pids[:, None] == gallery_pids
    return ~junk_rule(junk)(same_person, query_camids[:, None], gallery_camids)


@dataclass(frozen=True, eq=False)
class Guides:
    """Clean features and labels of both sides, and which items each row sees.

    Attributes:
        pids: (R,) persons of the attacked rows.
        clean: (R, D) their clean features.
        gallery: (G, D) clean features of the other side, as ranked; G is at least 1.
        gallery_pids: (G,) persons.
        valid: (R, G) bool, False where the junk rule hides the item from the row.
        metric: "cosine" or "euclidean", as TEST.METRIC.
        source: origin of the gallery. It belongs in every report: an attack guided by the queries
            themselves knows less, or more, than one guided by the searched gallery.
        reference: (R, D) the feature that ``targeted`` approaches and ``local_transform`` leaves.
        chosen: (R, G) bool, the items that an order attack promotes or demotes.
        items: (X, D) clean features of all items of the rows' side, including the rows: the list
            in which a query of the other side ranks a row.
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
        """Build guides from the arguments of ``evaluate_ranking``, in its order.

        Args:
            query_features: (R, D) clean features of the rows to attack.
            gallery_features: (G, D).
            query_pids: (R,) persons.
            gallery_pids: (G,) persons.
            query_camids: (R,) cameras.
            gallery_camids: (G,) cameras.
            metric: "cosine" or "euclidean".
            junk: name of a rule in ``plugins.protocol.JUNK``.
            source: origin of the gallery.

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
    def from_batches(
        cls,
        features_of: FeaturesOf,
        batch: dict[str, Any],
        gallery: dict[str, Any],
        *,
        metric: str,
        junk: str | None = None,
    ) -> "Guides":
        """Build guides for a batch of queries and a gallery, computing their features.

        Args:
            features_of: batch to features.
            batch: ``images``, ``targets``, and optionally ``camids`` and ``rows``.
            gallery: likewise; ``features`` (G, D) may take the place of ``images``.
            metric: "cosine" or "euclidean".
            junk: see ``Attack.__call__``.

        Raises:
            InputError: an entry is missing, images of either side are not in [0, 255], the gallery
                is empty or has features of another length, or there is no such metric or rule.
        """
        check_value("TEST.METRIC", metric)
        sides = []
        for name, side in (("batch", batch), ("gallery", gallery)):
            if not isinstance(side, Mapping):
                raise InputError(
                    f"attack: the {name} is {type(side).__name__}; expected a dict with 'images' "
                    "and 'targets'"
                )
            known = name == "gallery" and "features" in side
            for key in ("targets",) if known else ("images", "targets"):
                if key not in side:
                    raise InputError(f"attack: the {name} has no '{key}'; found {', '.join(side)}")
            check_side(name, side, "features" if known else "images")
            if not known:
                side = float_images(side)
                check_range(side["images"], "images" if name == "batch" else "gallery images")
            sides.append(_features_and_labels(features_of, side))
        (queries, query_pids, query_camids), (items, item_pids, item_camids) = sides
        if not len(items) or items.shape[1] != queries.shape[1]:
            raise InputError(
                f"attack: gallery features {tuple(items.shape)}; expected one or more of length "
                f"{queries.shape[1]}, as those of the batch"
            )
        if junk is not None:
            junk_rule(junk)
        if query_camids is None or item_camids is None:
            if junk not in (None, "none"):
                raise InputError(f"attack: junk '{junk}' needs 'camids' in batch and gallery")
            junk, query_camids, item_camids = "none", query_pids, item_pids
        labels = (query_pids, item_pids, query_camids, item_camids)
        on_device = [values.to(queries.device) for values in labels]
        guides = cls.from_features(
            queries, items.to(queries), *on_device, metric=metric, junk=junk or "camera"
        )
        return replace(guides, items=guides.clean)

    @classmethod
    def among(cls, features: Tensor, pids: Tensor, *, metric: str, source: str) -> "Guides":
        """Build guides from the attacked rows themselves, each hidden from itself.

        Args:
            features: (R, D) clean features.
            pids: (R,) persons.
            metric: "cosine" or "euclidean".
            source: description of the rows, such as "query" or "training batch".
        """
        clean = features.detach()
        others = ~torch.eye(len(pids), dtype=torch.bool, device=pids.device)
        return cls(pids, clean, clean, pids, others, metric, source)

    @cached_property
    def compared_gallery(self) -> Tensor:
        """(G, D) gallery as the metric compares it."""
        return compared(self.gallery, self.metric)

    @cached_property
    def gallery_norms(self) -> Tensor:
        """(G,) squared lengths of ``compared_gallery``."""
        return self.compared_gallery.square().sum(dim=1)

    @cached_property
    def gallery_on_grid(self) -> Tensor:
        """(G, D) gallery as the evaluator rounds it for the cosine."""
        return on_cosine_grid(self.gallery)

    @cached_property
    def positives(self) -> Tensor:
        """(R, G) bool, visible items of the row's person."""
        return self.valid & (self.pids[:, None] == self.gallery_pids)

    @cached_property
    def negatives(self) -> Tensor:
        """(R, G) bool, visible items of other persons."""
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

    def once(self, compute: Callable[["Guides"], T]) -> T:
        """Return ``compute(self)``, which a named function computes once for all steps."""
        if compute not in self._computed:
            self._computed[compute] = compute(self)
        return self._computed[compute]

    def select(self, rows: Tensor) -> "Guides":
        """Return the guides of some attacked rows, given by int64 indices or a bool mask."""
        selected = replace(
            self,
            pids=self.pids[rows],
            clean=self.clean[rows],
            valid=self.valid[rows],
            reference=None if self.reference is None else self.reference[rows],
            chosen=None if self.chosen is None else self.chosen[rows],
        )
        return self._share_gallery(selected)

    def refer(self, reference: Tensor) -> "Guides":
        """Return the same guides with another ``reference`` (R, D)."""
        return self._share_gallery(replace(self, reference=reference))

    def _share_gallery(self, guides: "Guides") -> "Guides":
        """Copy what was computed of the gallery to guides with the same gallery."""
        known = {name: value for name, value in vars(self).items() if name in GALLERY_PROPERTIES}
        vars(guides).update(known)
        return guides

    @cached_property
    def _computed(self) -> dict[Callable, Any]:
        return {}


def check_side(name: str, side: dict[str, Any], values: str) -> None:
    """Raise InputError unless a side has items, as a tensor, and a label for each.

    Args:
        name: "batch" or "gallery", for the message.
        side: with ``values`` and ``targets``, and optionally ``camids``.
        values: "images" or "features".
    """
    items = side[values]
    dims = (2,) if values == "features" else (4, 5)
    if not torch.is_tensor(items) or items.dim() not in dims:
        found = tuple(items.shape) if torch.is_tensor(items) else type(items).__name__
        shape = "(G, D)" if values == "features" else "(B, 3, H, W) or (B, T, 3, H, W)"
        raise InputError(f"attack: {values} of the {name} are {found}; expected a tensor {shape}")
    if values == "images" and items.shape[-3] != 3:
        raise InputError(
            f"attack: images of the {name} are {tuple(items.shape)}; expected 3 channels, (B, 3, "
            "H, W) or (B, T, 3, H, W)"
        )
    if values == "features" and (items.is_complex() or not items.isfinite().all()):
        found = "complex" if items.is_complex() else "NaN or infinite"
        raise InputError(f"attack: features of the {name} are {found}; expected real numbers")
    if not items.numel():
        raise InputError(
            f"attack: {values} of the {name} are {tuple(items.shape)}; expected one or more"
        )
    for key in ("targets", "camids"):
        if (labels := side.get(key)) is None:
            continue
        try:
            labels = torch.as_tensor(labels)
        except (TypeError, ValueError, RuntimeError) as error:
            raise InputError(
                f"attack: {key} of the {name} are {shortened(labels)}; expected whole numbers"
            ) from error
        if labels.shape != (len(items),):
            found = f"{len(labels)} {key}" if labels.dim() == 1 else f"{key} {tuple(labels.shape)}"
            raise InputError(
                f"attack: the {name} has {found} for {len(items)} {values}; expected one for each"
            )


def _features_and_labels(
    features_of: FeaturesOf, side: dict[str, Any]
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Return features (R, D), persons (R,) and cameras (R,), if any, of the rows of a batch."""
    if "features" in side:
        features = side["features"].detach()
        first = torch.arange(len(features))
    else:
        with torch.no_grad():
            features = features_of(side)
        groups, rows = row_groups(side)
        # The first clip of each row; its labels are those of all clips of the row.
        first = torch.stack([(groups == index).nonzero()[0, 0] for index in range(len(rows))])
    labels = [
        None if side.get(key) is None else torch.as_tensor(side[key]).cpu()[first]
        for key in ("targets", "camids")
    ]
    pids, camids = labels
    assert pids is not None
    return features, pids, camids
