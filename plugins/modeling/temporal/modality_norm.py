"""Normalize a clip's descriptors by the statistics of their modality.

Legend: B clips, T frames, K cells, C channels, M sets of statistics (a set per modality, or one).

A trunk's descriptors of two people differ by a small part of their size: descriptors have a large
common mean. The output of a layer that reads them directly depends on the mean. LayerNorm and
cosines work within one descriptor and leave the common pattern; only statistics over clips remove
it. The statistics belong to a modality, because the offset between the modalities is as large as
the distance between people.
"""

from typing import Any

import torch
import torch.distributed as dist
from fastreid.config import CfgNode
from fastreid.utils import comm
from torch import Tensor, nn

MODALITIES = 2
# Fewer values have no variance.
LEAST_VALUES = 2


class _SumOverRanks(torch.autograd.Function):
    """Sums a tensor over the ranks; the gradient of a rank is the sum of all ranks' gradients."""

    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        total = values.contiguous().clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return _SumOverRanks.apply(gradient)


class ModalityNorm(nn.BatchNorm1d):
    """gamma (x - mean_m) / sqrt(var_m + eps) + beta, with m the modality of x's clip.

    Mean and variance are taken per cell and channel, over the clips and the frames of a modality;
    gamma and beta are shared by the modalities. Training uses the statistics of the batch and
    records them, evaluation uses the recorded ones. A modality with fewer than two values in a
    batch is normalized by its recorded statistics.

    The k-th recorded batch weighs max(momentum, 1 / k), so that the initial statistics have no
    effect after a few batches. Momentum 0.1 after 20 batches would keep 12 % of a wrong mean, and a
    common mean is 15 times the distance between people.

    It is a BatchNorm1d, so that it takes part in frozen_statistics, a second branch for attacked
    batches, PreciseBN, averages over ranks and of weights, and weight decay of norms.

    Args:
        cells: K.
        channels: C.
        joint: one set of statistics for both modalities.
        momentum: least weight of the newest batch in the recorded statistics.
        synchronized: take the statistics over the batches of all ranks.
    """

    running_mean: Tensor
    running_var: Tensor
    num_batches_tracked: Tensor

    def __init__(
        self,
        cells: int,
        channels: int,
        *,
        joint: bool = False,
        momentum: float = 0.05,
        synchronized: bool = False,
    ):
        super().__init__(cells * channels, momentum=momentum)
        self.sets = 1 if joint else MODALITIES
        self.synchronized = synchronized
        self.running_mean = torch.zeros(self.sets, self.num_features)
        self.running_var = torch.ones(self.sets, self.num_features)
        self.num_batches_tracked = torch.zeros(self.sets, dtype=torch.long)

    @classmethod
    def from_cfg(cls, cfg: CfgNode, cells: int, channels: int) -> "ModalityNorm":
        """Read ``MODEL.TEMPORAL.NORM`` and whether ``MODEL.BACKBONE.NORM`` gathers statistics."""
        settings = cfg.MODEL.TEMPORAL.NORM
        return cls(
            cells,
            channels,
            joint=settings.STATISTICS == "joint",
            momentum=settings.MOMENTUM,
            synchronized=cfg.MODEL.BACKBONE.NORM == "syncBN",
        )

    def forward(self, descriptors: Tensor, modalities: Tensor | None = None) -> Tensor:
        """Normalize descriptors.

        Args:
            descriptors: (B, T, K, C) float32; T may be 0.
            modalities: (B,) 0 visible, 1 infrared; they are needed.

        Returns:
            (B, T, K, C).
        """
        assert modalities is not None, "statistics belong to modalities"
        values, sets = descriptors.flatten(2), self.sets_of(modalities)
        if self.training:
            mean, variance = self.input_statistics(descriptors, modalities)
        else:
            mean, variance = self.running_mean, self.running_var
        scale = self.weight / (variance + self.eps).sqrt()  # (M, K * C)
        normalized = (values - mean[sets][:, None]) * scale[sets][:, None] + self.bias
        if self.training and self.track_running_stats:
            self.record(mean, variance, self.counts(values, sets))
        return normalized.view_as(descriptors)

    def sets_of(self, modalities: Tensor) -> Tensor:
        """Return the set of statistics, (B,), of clips of modalities (B,)."""
        return modalities if self.sets > 1 else torch.zeros_like(modalities)

    def input_statistics(self, descriptors: Tensor, modalities: Tensor) -> tuple[Tensor, Tensor]:
        """Compute mean and biased variance, (M, K * C) both, by which training normalizes a batch.

        A set with too few values gets its recorded statistics.
        """
        values, sets = descriptors.flatten(2), self.sets_of(modalities)  # (B, T, K * C), (B,)
        members = self.members(sets, values)
        counts = self.counts(values, sets)
        divisors = counts.clamp_min(1)[:, None]
        mean = self.over_ranks(members @ values.sum(dim=1)) / divisors
        # From centered values: squares of a large common mean would swallow the variance.
        squares = (values - mean[sets][:, None]).square().sum(dim=1)
        variance = self.over_ranks(members @ squares) / divisors
        enough = (counts >= LEAST_VALUES)[:, None]
        # Copies: recording changes the buffers in place.
        return (
            torch.where(enough, mean, self.running_mean.clone()),
            torch.where(enough, variance, self.running_var.clone()),
        )

    def members(self, sets: Tensor, values: Tensor) -> Tensor:
        """Return (M, B), with a 1 where a clip belongs to a set."""
        return nn.functional.one_hot(sets, self.sets).T.to(values.dtype)

    def counts(self, values: Tensor, sets: Tensor) -> Tensor:
        """Count values per cell and channel, (M,), over all ranks if these are synchronized."""
        return self.over_ranks(self.members(sets, values).sum(dim=1) * values.shape[1])

    @torch.no_grad()
    def record(self, mean: Tensor, variance: Tensor, counts: Tensor) -> None:
        """Move the recorded statistics of sets that have enough values towards the batch's."""
        enough = counts >= LEAST_VALUES
        self.num_batches_tracked += enough
        cumulative = 1 / self.num_batches_tracked.clamp_min(1)
        share = cumulative if self.momentum is None else cumulative.clamp_min(self.momentum)
        share = (share * enough)[:, None]
        unbiased = variance * (counts / (counts - 1).clamp_min(1))[:, None]
        self.running_mean += share * (mean - self.running_mean)
        self.running_var += share * (unbiased - self.running_var)

    def over_ranks(self, values: Tensor) -> Tensor:
        """Sum over the ranks, if statistics are synchronized.

        Every rank takes part for every modality, so that a rank without one does not block others.
        """
        if self.synchronized and comm.get_world_size() > 1:
            return _SumOverRanks.apply(values)
        return values

    def extra_repr(self) -> str:
        """Add the number of sets to the text of BatchNorm1d."""
        return f"{super().extra_repr()}, sets={self.sets}, synchronized={self.synchronized}"
