"""Filters that keep generated images of the right person and the right camera.

Legend: N candidates, P people, C cameras, D feature length.
"""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from plugins.balancing.photographs import labels
from plugins.config import check_value
from plugins.errors import InputError


class Verdict(NamedTuple):
    """The judgment of N candidates for one person and camera.

    Attributes:
        person_rank: (N,) int64, the teacher's rank of the right person, from 1.
        camera_probability: (N,) probability of the right camera.
        accepted: (N,) bool.
    """

    person_rank: Tensor
    camera_probability: Tensor
    accepted: Tensor

    def best(self) -> int | None:
        """Return the accepted candidate with the lowest rank, then the most probable camera."""
        if not self.accepted.any():
            return None
        return min(
            self.accepted.nonzero().flatten().tolist(),
            key=lambda row: (self.person_rank[row].item(), -self.camera_probability[row].item()),
        )


class CandidateFilter:
    """Judges the person with a clean re-ID teacher, and the camera with a classifier."""

    def __init__(
        self,
        features_of: Callable[[Tensor], Tensor],
        prototypes: Tensor,
        people: Sequence[str],
        probabilities_of: Callable[[Tensor], Tensor],
        cameras: Sequence[str],
        top: int,
        least_margin: float = -math.inf,
    ) -> None:
        """Take the judges.

        Args:
            features_of: the teacher, (N, 3, H, W) uint8 -> (N, D).
            prototypes: (P, D) the teacher's feature of each person, see :func:`mean_features`.
            people: P names.
            probabilities_of: the camera classifier, (N, 3, H, W) uint8 -> (N, C).
            cameras: C names.
            top: largest accepted rank of the right person.
            least_margin: smallest accepted margin, see :func:`person_margins`.

        Raises:
            InputError: ``top`` accepts every person or none.
        """
        if not 1 <= top < len(people):
            raise InputError(
                f"DATASETS.BALANCE.TOP: {top}; expected 1 to {len(people) - 1}, for "
                f"{len(people)} people"
            )
        self._features_of, self._prototypes, self._people = features_of, prototypes, list(people)
        self._probabilities_of, self._cameras = probabilities_of, list(cameras)
        self._top, self._least_margin = top, least_margin

    def judge(self, images: Tensor, person: str, camera: str) -> Verdict:
        """Judge candidates (N, 3, H, W) uint8 for a person and a camera."""
        features, row = self._features_of(images), self._people.index(person)
        ranks = person_ranks(features, self._prototypes, row)
        clear = person_margins(features, self._prototypes, row) >= self._least_margin
        probabilities = self._probabilities_of(images)
        view = self._cameras.index(camera)
        accepted = (ranks <= self._top) & clear & (probabilities.argmax(dim=1) == view)
        return Verdict(ranks, probabilities[:, view], accepted)


def person_ranks(features: Tensor, prototypes: Tensor, person: int) -> Tensor:
    """Rank a person among all by cosine similarity; ties count against the person.

    Args:
        features: (N, D).
        prototypes: (P, D).
        person: row of ``prototypes``.

    Returns:
        (N,) int64, from 1; P if a feature is not a number.
    """
    similarity = F.normalize(features) @ F.normalize(prototypes).T
    return prototypes.shape[0] - (similarity < similarity[:, [person]]).sum(dim=1)


def person_margins(features: Tensor, prototypes: Tensor, person: int) -> Tensor:
    """Subtract the largest cosine similarity of another person from that of the person.

    Args:
        features: (N, D).
        prototypes: (P, D), P at least 2.
        person: row of ``prototypes``.

    Returns:
        (N,), from -2 to 2.
    """
    similarity = F.normalize(features) @ F.normalize(prototypes).T
    others = similarity.clone()
    others[:, person] = -math.inf
    return similarity[:, person] - others.amax(dim=1)


def margin_quantile(
    features: Tensor, owners: Sequence[str], prototypes: Tensor, people: Sequence[str], share: float
) -> float:
    """Compute the quantile ``share`` of the margins of images, each for its own person.

    Args:
        features: (N, D).
        owners: name of each feature's person.
        prototypes: (P, D).
        people: P names.
        share: 0 to 1; 0 gives minus infinity.

    Raises:
        InputError: the share is out of its range.
    """
    check_value("DATASETS.BALANCE.CLEAR", share)
    if share == 0:
        return -math.inf
    rows = labels(owners, people).tolist()
    margins = [
        person_margins(feature[None], prototypes, row)
        for feature, row in zip(features, rows, strict=True)
    ]
    return torch.cat(margins).quantile(share).item()


def mean_features(features: Tensor, owners: Sequence[str], people: Sequence[str]) -> Tensor:
    """Average the normalized features of each person, who has at least one: (P, D).

    Args:
        features: (N, D).
        owners: name of each feature's person.
        people: P names.
    """
    rows = labels(owners, people)
    total = torch.zeros(len(people), features.shape[1]).index_add_(0, rows, F.normalize(features))
    return total / torch.bincount(rows, minlength=len(people))[:, None]
