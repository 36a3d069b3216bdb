"""Retrieval seen as classification, so that suites for classifiers can attack it.

Legend: N images, G gallery items, C identities of the gallery, D feature length.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from plugins.attacks.guides import Guides
from plugins.attacks.objectives.distance import COLUMN_BITS, ranked_distances
from plugins.errors import InputError
from plugins.evaluation.ranks import NO_ITEM, sort_keys


def identity_logits(features: Tensor, guides: Guides, scale: float = 1.0) -> Tensor:
    """Nearest visible item of each identity c: logits[i, c] = -scale * min d(f_i, g of c).

    The greatest logit is the identity at Rank-1, exactly as ``plugins.evaluation`` ranks: where
    identities tie, the one whose item comes first in the gallery gets one float step more. An
    identity of which the junk rule hides every item comes last, at a finite logit.

    Args:
        features: (N, D).
        guides: of these N rows, or of one row that all N features are attempts at.
        scale: s, the sharpness of a softmax over the logits; above 0.

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
    """(C,) persons of the columns of ``identity_logits``, ascending."""
    return guides.gallery_pids.unique()


def labels(guides: Guides) -> Tensor:
    """(R,) int64, the column of each attacked row's person.

    Raises:
        InputError: a person is not in the gallery.
    """
    people = identities(guides)
    columns = torch.searchsorted(people, guides.pids).clamp_max(len(people) - 1)
    missing = guides.pids[people[columns] != guides.pids]
    if len(missing):
        raise InputError(
            f"{len(missing)} attacked rows have nobody to be found: person {int(missing[0])} is "
            f"not in the {guides.source}; expected rows with a positive"
        )
    return columns


def classifier_cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """Cross-entropy in nats, (N, C) and (N,) to (N,), to maximise.

    Only a check: a retrieval network drops its classifier, so this attacks what nobody ranks.
    """
    return F.cross_entropy(logits, targets, reduction="none")


class IdentityLogits(nn.Module):
    """A classifier over the gallery's identities, of images in [0, 1], as the suites have them.

    Args:
        features_of: batch with images in [0, 255] to (N, D) features.
        batch: what goes with the images, row by row. Of one row, it goes with each of any number of
            images; a suite that drops solved images needs that, as the junk rule goes by row.
        guides: of the batch's rows.
        scale: see ``identity_logits``.
    """

    def __init__(
        self,
        features_of: Callable[[dict], Tensor],
        batch: dict,
        guides: Guides,
        scale: float = 1.0,
    ):
        super().__init__()
        self.features_of = features_of
        self.batch = batch
        self.guides = guides
        self.scale = scale

    def forward(self, images: Tensor) -> Tensor:
        """Images (N, ..., 3, H, W) in [0, 1] to (N, C)."""
        rows = len(self.batch["images"])
        assert rows in (1, len(images)), f"{len(images)} images for a batch of {rows} rows"
        repeats = len(images) // rows
        others = {key: _repeated(value, repeats) for key, value in self.batch.items()}
        features = self.features_of({**others, "images": 255 * images})
        return identity_logits(features, self.guides, self.scale)


def _repeated(values: Tensor | list, times: int) -> Tensor | list:
    return torch.cat([values] * times) if torch.is_tensor(values) else values * times


def _lift(logits: Tensor, winner: Tensor) -> Tensor:
    """(N, C): one float step in the winner's column of a row whose greatest logit is shared."""
    best = logits.amax(dim=1, keepdim=True)
    step = torch.nextafter(best, torch.full_like(best, torch.inf)) - best
    shared = (logits == best).sum(dim=1, keepdim=True) > 1
    return torch.zeros_like(logits).scatter(1, winner[:, None], step * shared)
