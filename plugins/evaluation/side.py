"""One side of a search: the queries, the gallery, or both after one another.

Legend: N items, D feature length.
"""

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Side:
    """Items on one side of a search, with their features and labels.

    Attributes:
        features: (N, D), finite.
        pids: (N,) persons.
        camids: (N,) cameras.
    """

    features: Tensor
    pids: Tensor
    camids: Tensor

    def __len__(self) -> int:
        return len(self.pids)

    def select(self, rows: Tensor | np.ndarray) -> "Side":
        """Return the items of these rows, int64 indices or a bool mask, in their order."""
        rows = torch.as_tensor(rows)
        return Side(self.features[rows], self.pids[rows], self.camids[rows])

    def with_features(self, features: Tensor) -> "Side":
        """Return the same items with other features (N, D)."""
        return replace(self, features=features)

    def cpu(self) -> "Side":
        """Return the side on the CPU."""
        return Side(self.features.cpu(), self.pids.cpu(), self.camids.cpu())
