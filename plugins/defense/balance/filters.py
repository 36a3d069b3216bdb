"""Which generated images are kept: those of the right person and the right camera.

Legend: N candidates, P people, C cameras, D feature length.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from plugins.defense.balance.photographs import labels
from plugins.errors import InputError


class Verdict(NamedTuple):
    """On N candidates for one person and camera.

    Attributes:
        person_rank: (N,) int64, of the right person for the teacher, 1 the first.
        camera_probability: (N,) of the right camera.
        accepted: (N,) bool.
    """

    person_rank: Tensor
    camera_probability: Tensor
    accepted: Tensor

    def best(self) -> int | None:
        """The accepted candidate with the first rank and, of these, the surest camera."""
        if not self.accepted.any():
            return None
        return min(
            self.accepted.nonzero().flatten().tolist(),
            key=lambda row: (self.person_rank[row].item(), -self.camera_probability[row].item()),
        )


class CandidateFilter:
    """Two judges: a clean re-ID teacher for the person, a classifier for the camera."""

    def __init__(
        self,
        features_of: Callable[[Tensor], Tensor],
        prototypes: Tensor,
        people: Sequence[str],
        probabilities_of: Callable[[Tensor], Tensor],
        cameras: Sequence[str],
        top: int,
    ) -> None:
        """Take the judges.

        Args:
            features_of: the teacher, (N, 3, H, W) uint8 -> (N, D).
            prototypes: (P, D), its idea of each person, see :func:`mean_features`.
            people: P names.
            probabilities_of: the camera classifier, (N, 3, H, W) uint8 -> (N, C).
            cameras: C names.
            top: the right person must be among the first so many.

        Raises:
            InputError: ``top`` lets everybody pass, or nobody.
        """
        if not 1 <= top < len(people):
            raise InputError(
                f"DATASETS.BALANCE.TOP: {top}; expected 1 to {len(people) - 1}, for "
                f"{len(people)} people"
            )
        self._features_of, self._prototypes, self._people = features_of, prototypes, list(people)
        self._probabilities_of, self._cameras, self._top = probabilities_of, list(cameras), top

    def judge(self, images: Tensor, person: str, camera: str) -> Verdict:
        """Look at (N, 3, H, W) uint8 candidates for a person and a camera."""
        ranks = person_ranks(
            self._features_of(images), self._prototypes, self._people.index(person)
        )
        probabilities = self._probabilities_of(images)
        view = self._cameras.index(camera)
        accepted = (ranks <= self._top) & (probabilities.argmax(dim=1) == view)
        return Verdict(ranks, probabilities[:, view], accepted)


def person_ranks(features: Tensor, prototypes: Tensor, person: int) -> Tensor:
    """Place of a person among all, by cosine similarity; equal ones count against it.

    Args:
        features: (N, D).
        prototypes: (P, D).
        person: row of ``prototypes``.

    Returns:
        (N,) int64, from 1; P where a feature is not a number.
    """
    similarity = F.normalize(features) @ F.normalize(prototypes).T
    return prototypes.shape[0] - (similarity < similarity[:, [person]]).sum(dim=1)


def mean_features(features: Tensor, owners: Sequence[str], people: Sequence[str]) -> Tensor:
    """(P, D): mean of each person's normalised features, each person having at least one.

    Args:
        features: (N, D).
        owners: name of each feature's person.
        people: P names.
    """
    rows = labels(owners, people)
    total = torch.zeros(len(people), features.shape[1]).index_add_(0, rows, F.normalize(features))
    return total / torch.bincount(rows, minlength=len(people))[:, None]
