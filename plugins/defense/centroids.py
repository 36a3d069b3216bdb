"""Mean features of people, over one batch or running, and the farthest other person.

Legend: B features in the batch, P people with a centroid, C training people, D feature length.
Features are as the metric compares them: normalized for "cosine" (``attacks.guides.compared``).
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from fastreid.config import CfgNode
from fastreid.modeling.losses.utils import concat_all_gather
from fastreid.utils import comm
from torch import Tensor, nn

from plugins.modeling.losses.functional import pairwise_distances


@torch.no_grad()
def batch_centroids(features: Tensor, pids: Tensor) -> tuple[Tensor, Tensor]:
    """Compute the mean feature of each person of the batch.

    Args:
        features: (B, D), as the metric compares them.
        pids: (B,) people.

    Returns:
        Centroids (P, D) float32, without gradient, and their people (P,), ascending.
    """
    people = pids.unique()
    # A matrix product, because index_add adds in any order on a GPU, so that ranks would differ.
    with torch.autocast(features.device.type, enabled=False):
        member = (people[:, None] == pids).float()
        return member @ features.float() / member.sum(dim=1, keepdim=True), people


@torch.no_grad()
def farthest_negative(features: Tensor, pids: Tensor, centroids: Tensor, people: Tensor) -> Tensor:
    """Find the other person whose centroid is farthest from each feature.

    Args:
        features: (B, D), as the metric compares them.
        pids: (B,) people.
        centroids: (P, D), likewise.
        people: (P,), each once.

    Returns:
        (B,) people: the first in ``people`` if several are equally far, and the feature's own
        person if there is no other.
    """
    if not len(people):
        return pids
    distances = pairwise_distances(features.float(), centroids.float())
    negative = pids[:, None] != people
    farthest = people[distances.masked_fill(~negative, -torch.inf).argmax(dim=1)]
    return torch.where(negative.any(dim=1), farthest, pids)


class CentroidBank(nn.Module):
    """Keeps running centroids of all training people, the same on all ranks.

    A person's first batch sets the centroid c, each later one moves it to m c + (1 - m) * mean of
    the person's features over all ranks. The ``state_dict`` belongs into the checkpoint.
    """

    means: Tensor
    seen: Tensor

    def __init__(self, classes: int, dim: int, momentum: float) -> None:
        """Start with an empty bank.

        Args:
            classes: C.
            dim: D; 0 to take the length of the first features.
            momentum: m, in [0, 1).
        """
        super().__init__()
        self.momentum = momentum
        self.register_buffer("means", torch.zeros(classes, dim))
        self.register_buffer("seen", torch.zeros(classes, dtype=torch.bool))

    @classmethod
    def from_config(cls, cfg: CfgNode) -> "CentroidBank | None":
        """Read ``DEFENSE.CENTROIDS``; return None if the centroids are those of a batch."""
        if cfg.DEFENSE.CENTROIDS.SOURCE == "batch":
            return None
        momentum = cfg.DEFENSE.CENTROIDS.MOMENTUM
        # The head and the temporal part together determine the length of a feature.
        return cls(cfg.MODEL.HEADS.NUM_CLASSES, 0, momentum).to(cfg.MODEL.DEVICE)

    def load_state_dict(
        self, state_dict: Mapping[str, Any], *args: Any, **kwargs: Any
    ) -> NamedTuple:
        """Restore the centroids, whatever their length."""
        self.means = torch.zeros_like(state_dict["means"], device=self.means.device)
        return super().load_state_dict(state_dict, *args, **kwargs)

    @torch.no_grad()
    def update(self, features: Tensor, pids: Tensor) -> None:
        """Add a batch; every rank must call this, with as many features as the others.

        Args:
            features: (B, D), as the metric compares them.
            pids: (B,) people, below C.
        """
        features, pids = features.to(self.means), pids.to(self.means.device)
        if not self.means.shape[1]:
            self.means = self.means.new_zeros(len(self.means), features.shape[1])
        if comm.get_world_size() > 1:
            features, pids = concat_all_gather(features), concat_all_gather(pids)
        means, people = batch_centroids(features, pids)
        kept = self.momentum * self.seen[people, None]
        self.means[people] = kept * self.means[people] + (1 - kept) * means
        self.seen[people] = True

    def centroids(self) -> tuple[Tensor, Tensor]:
        """Return centroids (P, D) and people (P,) seen so far, ascending."""
        return self.means[self.seen], self.seen.nonzero().flatten()
