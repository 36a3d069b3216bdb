"""Mean features of people, of one batch or running, and which of them is farthest.

Legend: B features in the batch, P people with a centroid, C training people, D feature length.
Features are as the metric compares them: of length 1 for "cosine" (``attacks.guides.compared``).
"""

import torch
from fastreid.config import CfgNode
from fastreid.modeling.losses.utils import concat_all_gather
from fastreid.utils import comm
from torch import Tensor, nn

from plugins.errors import InputError
from plugins.modeling.losses.functional import pairwise_distances

SOURCES = ("batch", "bank")


@torch.no_grad()
def batch_centroids(features: Tensor, pids: Tensor) -> tuple[Tensor, Tensor]:
    """The mean feature of each person of the batch.

    Args:
        features: (B, D), as the metric compares them.
        pids: (B,) people.

    Returns:
        Centroids (P, D) float32, without gradient, and their people (P,), ascending.
    """
    people = pids.unique()
    # A product of matrices, because index_add adds in any order on a GPU and ranks would differ.
    with torch.autocast(features.device.type, enabled=False):
        member = (people[:, None] == pids).float()
        return member @ features.float() / member.sum(dim=1, keepdim=True), people


@torch.no_grad()
def farthest_negative(features: Tensor, pids: Tensor, centroids: Tensor, people: Tensor) -> Tensor:
    """The other person whose centroid is farthest from each feature.

    Args:
        features: (B, D), as the metric compares them.
        pids: (B,) people.
        centroids: (P, D), likewise.
        people: (P,), each once.

    Returns:
        (B,) people: of several as far the first in ``people``, and the feature's own person where
        there is no other.
    """
    if not len(people):
        return pids
    distances = pairwise_distances(features.float(), centroids.float())
    negative = pids[:, None] != people
    farthest = people[distances.masked_fill(~negative, -torch.inf).argmax(dim=1)]
    return torch.where(negative.any(dim=1), farthest, pids)


class CentroidBank(nn.Module):
    """Running centroids of all training people; the same on all ranks.

    A person's first batch sets the centroid c, each later one moves it to m c + (1 - m) * mean of
    the person's features over all ranks. Its ``state_dict`` belongs into the checkpoint.
    """

    def __init__(self, classes: int, dim: int, momentum: float):
        """An empty bank.

        Args:
            classes: C.
            dim: D; 0: that of the first features.
            momentum: m, in [0, 1).
        """
        super().__init__()
        self.momentum = momentum
        self.register_buffer("means", torch.zeros(classes, dim))
        self.register_buffer("seen", torch.zeros(classes, dtype=torch.bool))

    @classmethod
    def from_config(cls, cfg: CfgNode) -> "CentroidBank | None":
        """Read ``DEFENSE.CENTROIDS``; None where the centroids are those of a batch.

        Raises:
            InputError: there is no such source, or the momentum is out of its range.
        """
        source, momentum = cfg.DEFENSE.CENTROIDS.SOURCE, cfg.DEFENSE.CENTROIDS.MOMENTUM
        if source not in SOURCES:
            raise InputError(
                f"DEFENSE.CENTROIDS.SOURCE: '{source}'; expected {' or '.join(SOURCES)}"
            )
        if not 0 <= momentum < 1:
            raise InputError(
                f"DEFENSE.CENTROIDS.MOMENTUM: {momentum}; expected at least 0 and below 1"
            )
        if source == "batch":
            return None
        # The head and the temporal part together decide the length of a feature.
        return cls(cfg.MODEL.HEADS.NUM_CLASSES, 0, momentum).to(cfg.MODEL.DEVICE)

    def load_state_dict(self, state_dict: dict, *args, **kwargs) -> object:
        """Restore the centroids, whatever their length."""
        self.means = torch.zeros_like(state_dict["means"], device=self.means.device)
        return super().load_state_dict(state_dict, *args, **kwargs)

    @torch.no_grad()
    def update(self, features: Tensor, pids: Tensor) -> None:
        """Take in a batch; every rank must call this, with as many features as the others.

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
        """Centroids (P, D) and people (P,) seen so far, ascending."""
        return self.means[self.seen], self.seen.nonzero().flatten()
