"""Retrieval as classification, so that attack suites for classifiers apply to it.

Legend: N images, G gallery items, C identities of the gallery, D feature length.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from plugins.attacks.features import FeaturesOf
from plugins.attacks.guides import Guides
from plugins.attacks.objectives.distance import COLUMN_BITS, ranked_distances
from plugins.errors import InputError
from plugins.evaluation.ranks import NO_ITEM, sort_keys


def identity_logits(features: Tensor, guides: Guides, scale: float = 1.0) -> Tensor:
    """Return minus the distance to the nearest visible item of each identity.

    In symbols, logits[i, c] = -scale * min d(f_i, g of c). The greatest logit is the identity at
    Rank-1, exactly as ``plugins.evaluation`` ranks: where identities tie, the one whose item comes
    first in the gallery gets one float step more. An identity whose items are all hidden by the
    junk rule comes last, with a finite logit.

    Args:
        features: (N, D).
        guides: of these N rows, or of one row, if all N features are attempts to attack that row.
        scale: sharpness of a softmax over the logits; above 0.

    Returns:
        (N, C), columns in the order of ``identities(guides)``.
    """
    distances = ranked_distances(features, guides)
    behind = 2 * distances.detach().amax(dim=1, keepdim=True) + 1
    distances = torch.where(guides.valid, distances, behind)
    people, member = guides.gallery_pids.unique(return_inverse=True)
    keys = sort_keys(distances.detach().float())
    nearest = keys.new_full((len(keys), len(people)), NO_ITEM)
    nearest = nearest.scatter_reduce(1, member.expand_as(keys), keys, "amin")  # (N, C)
    logits = -scale * distances.gather(1, nearest & COLUMN_BITS)
    return logits + _lift(logits.detach(), nearest.argmin(dim=1))


def identities(guides: Guides) -> Tensor:
    """Return the persons (C,) of the columns of ``identity_logits``, ascending."""
    return guides.gallery_pids.unique()


def labels(guides: Guides) -> Tensor:
    """Return (R,) int64, the column of each attacked row's person.

    Raises:
        InputError: a person is not in the gallery.
    """
    people = identities(guides)
    columns = torch.searchsorted(people, guides.pids).clamp_max(len(people) - 1)
    missing = guides.pids[people[columns] != guides.pids]
    if len(missing):
        raise InputError(
            f"{len(missing)} attacked {'queries have' if len(missing) > 1 else 'query has'} no "
            f"match in the {guides.source} (for example person {int(missing[0])})"
        )
    return columns


def classifier_cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """Compute the cross-entropy in nats, (N, C) and (N,) to (N,), to maximize.

    It serves only as a check: a retrieval network drops its classifier, so the ranking does not
    depend on these logits.
    """
    return F.cross_entropy(logits, targets, reduction="none")


class IdentityLogits(nn.Module):
    """Classifies images in [0, 1], the range of the suites, over the gallery's identities.

    Args:
        features_of: batch with images in [0, 255] to (N, D) features.
        batch: the other entries of the batch, row by row. A batch of one row serves any number of
            images; a suite that drops successful images needs that, since the junk rule depends on
            the row.
        guides: of the batch's rows.
        scale: see ``identity_logits``.
    """

    def __init__(
        self,
        features_of: FeaturesOf,
        batch: dict,
        guides: Guides,
        scale: float = 1.0,
    ) -> None:
        super().__init__()
        self.features_of = features_of
        self.batch = batch
        self.guides = guides
        self.scale = scale

    def forward(self, images: Tensor) -> Tensor:
        """Compute logits (N, C) of images (N, ..., 3, H, W) in [0, 1]."""
        rows = len(self.batch["images"])
        assert rows in (1, len(images)), f"{len(images)} images for a batch of {rows} rows"
        repeats = len(images) // rows
        others = {key: _repeated(value, repeats) for key, value in self.batch.items()}
        features = self.features_of({**others, "images": 255 * images})
        return identity_logits(features, self.guides, self.scale)


def _repeated(values: Tensor | list, times: int) -> Tensor | list:
    return torch.cat([values] * times) if torch.is_tensor(values) else values * times


def _lift(logits: Tensor, winner: Tensor) -> Tensor:
    """Return (N, C): one float step in the winner's column where rows share the greatest logit."""
    best = logits.amax(dim=1, keepdim=True)
    step = torch.nextafter(best, torch.full_like(best, torch.inf)) - best
    shared = (logits == best).sum(dim=1, keepdim=True) > 1
    return torch.zeros_like(logits).scatter(1, winner[:, None], step * shared)
