"""Evaluates a model in every direction from one pass over query and gallery."""

from collections import OrderedDict
from collections.abc import Sequence
from typing import Protocol

import numpy as np
import torch
import torch.nn.functional as F
from fastreid.config import CfgNode
from fastreid.evaluation import DatasetEvaluator
from fastreid.utils import comm
from torch import Tensor, nn

from plugins.errors import InputError
from plugins.evaluation.ranking import RankingResult, evaluate_ranking
from plugins.registry import EVALUATOR

RANKS = (1, 5, 10, 20)


class EvaluatedSet(Protocol):
    """What an evaluator reads of a data set."""

    query: Sequence
    gallery: Sequence

    def directions(self) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        """Name -> (query rows, gallery rows), int64 rows of ``query + gallery``."""


@EVALUATOR.register()
class VVIEvaluator(DatasetEvaluator):
    """Visible-infrared evaluator: CMC, mAP and mINP of each direction.

    Each process sees a contiguous shard of ``query + gallery``, in order, as fastreid's
    InferenceSampler deals them; the main process puts them together.

    After ``evaluate``, on the main process, ``features`` (N, D) float32, ``pids`` (N,) and
    ``camids`` (N,) hold what was collected and ``rankings`` the RankingResult of each direction.
    """

    def __init__(self, cfg: CfgNode, dataset: EvaluatedSet):
        """Prepare for one data set.

        Args:
            cfg: TEST.METRIC is read, "cosine" or "euclidean".
            dataset: whose ``query + gallery`` will be processed.
        """
        self.metric = cfg.TEST.METRIC
        self.directions = dataset.directions()
        self.num_items = len(dataset.query) + len(dataset.gallery)
        self.reset()

    def reset(self) -> None:
        """Forget what was collected."""
        self._collected: list[tuple[Tensor, Tensor, Tensor]] = []
        self.features: Tensor | None = None
        self.pids: Tensor | None = None
        self.camids: Tensor | None = None
        self.rankings: dict[str, RankingResult] = {}

    def process(self, inputs: dict, outputs: Tensor) -> None:
        """Keep the (B, D) features of one batch, its persons and its cameras, on the CPU."""
        columns = (outputs.float(), inputs["targets"], inputs["camids"])
        self._collected.append(tuple(column.cpu() for column in columns))

    def evaluate(self) -> OrderedDict:
        """Score every direction.

        Returns:
            On the main process ``scores`` of each direction by its name, and "metric", their mean
            "metric"; elsewhere an empty dict.

        Raises:
            InputError: a feature is not finite, or a direction has no query with a positive.
        """
        shard = concatenate(self._collected) if self._collected else None
        self._collected = []
        shards = [shard for shard in comm.gather(shard) if shard is not None]
        if not comm.is_main_process():
            return OrderedDict()
        assert shards, f"expected {self.num_items} items, found none: process() was never called"
        self.features, self.pids, self.camids = concatenate(shards)
        found = len(self.features)
        assert found == self.num_items, f"expected {self.num_items} items, found {found}"
        check_finite(self.features)

        results = OrderedDict()
        for name, (query_rows, gallery_rows) in self.directions.items():
            queries, gallery = torch.as_tensor(query_rows), torch.as_tensor(gallery_rows)
            try:
                self.rankings[name] = evaluate_ranking(
                    self.features[queries],
                    self.features[gallery],
                    self.pids[queries],
                    self.pids[gallery],
                    self.camids[queries],
                    self.camids[gallery],
                    metric=self.metric,
                    max_rank=max(RANKS),
                )
            except InputError as error:
                raise InputError(f"{name}: {error}") from error
            results[name] = scores(self.rankings[name])
        results["metric"] = float(np.mean([block["metric"] for block in results.values()]))
        return results


class FlipAverage(nn.Module):
    """A model whose features are averaged over the images and their mirror images.

    fastreid's ``inference_on_dataset(flip_test=True)`` flips dimension 3, in a clip the height, and
    replaces the images of the batch; here the width is flipped and the batch is left as it is.
    """

    def __init__(self, model: nn.Module):
        """Wrap ``model``, whose forward takes a batch and gives (B, D) features."""
        super().__init__()
        self.model = model
        # inference_on_dataset puts back the mode that it reads from the wrapper.
        self.training = model.training

    def forward(self, batch: dict) -> Tensor:
        """(B, D) mean feature of both views, of length 1."""
        mirrored = {**batch, "images": batch["images"].flip(dims=[-1])}
        return F.normalize(self.model(batch) + self.model(mirrored), dim=1)


def scores(ranking: RankingResult) -> dict[str, float | int]:
    """A direction's row of the table.

    Returns:
        "Rank-1", "Rank-5", "Rank-10", "Rank-20", "mAP", "mINP" and "metric", the mean of mAP and
        Rank-1 as in fastreid, in percent; "queries", the number of valid ones.
    """
    block = {f"Rank-{rank}": 100 * float(ranking.cmc[rank - 1]) for rank in RANKS}
    block["mAP"] = 100 * ranking.mean_average_precision
    block["mINP"] = 100 * ranking.mean_inverse_negative_penalty
    block["metric"] = (block["mAP"] + block["Rank-1"]) / 2
    block["queries"] = ranking.num_valid
    return block


def concatenate(parts: list[tuple[Tensor, ...]]) -> tuple[Tensor, ...]:
    """Join a list of tuples of tensors along the first dimension of each."""
    return tuple(torch.cat(column) for column in zip(*parts, strict=True))


def check_finite(features: Tensor) -> None:
    """Raise InputError, naming how many rows of (N, D) are not finite and the first of them."""
    bad = (~features.isfinite().all(dim=1)).nonzero().flatten()
    if len(bad):
        raise InputError(
            f"features of {len(bad)} of {len(features)} tracklets are NaN or infinite, the first "
            f"is row {int(bad[0])} of query + gallery; check the weights (MODEL.WEIGHTS)"
        )
