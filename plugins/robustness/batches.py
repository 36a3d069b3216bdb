"""Batches of whole rows: all clips of an item together, as an attack needs them."""

import torch
from torch import Tensor
from torch.utils.data import Dataset

from plugins.data.clips import ClipDataset
from plugins.data.loaders import collate


class RowBatches(Dataset):
    """Reads the clips of chosen rows of query + gallery, a few rows at a time.

    Attributes:
        rows: rows of each batch, int64, in the order given.
    """

    def __init__(self, clips: ClipDataset, clip_rows: Tensor, rows: Tensor, size: int) -> None:
        """Cut ``rows`` into batches; nothing is read yet.

        Args:
            clips: all test clips.
            clip_rows: (M,) int64, the row of each of them.
            rows: rows to read.
            size: rows in a batch; the last batch may have fewer.
        """
        self.rows = list(rows.cpu().split(size))
        self._clips, self._clip_rows = clips, clip_rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, number: int) -> dict:
        """Return the batch of that number, on the CPU."""
        clips = torch.isin(self._clip_rows, self.rows[number]).nonzero().flatten().tolist()
        return collate([self._clips[clip] for clip in clips])
