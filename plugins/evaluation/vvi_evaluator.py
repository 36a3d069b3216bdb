"""Evaluates a model in every direction from one pass over query and gallery."""

import logging
from collections import OrderedDict
from collections.abc import Sequence
from typing import NamedTuple, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from fastreid.config import CfgNode
from fastreid.evaluation import DatasetEvaluator
from fastreid.utils import comm
from torch import Tensor

from plugins.errors import InputError
from plugins.evaluation.distance import all_tie, check_metric
from plugins.evaluation.ranking import RankingResult, evaluate_distances, evaluate_ranking
from plugins.evaluation.rerank import check_parameters, rerank
from plugins.evaluation.scores import RANKS, mean_scores, scores
from plugins.evaluation.views import average_clips, options_suffix
from plugins.registry import EVALUATOR

logger = logging.getLogger(__name__)

UNSUPPORTED = ("AQE", "ROC")


class SearchProtocol(Protocol):
    """How one direction is searched; ``plugins.data.datasets.protocol`` holds the data sets' own.

    Attributes:
        trials: (query rows, gallery rows) of each search, int64 rows of ``query + gallery``.
        junk: name of a rule in ``plugins.evaluation.ranks.JUNK``.
        cmc: name in ``plugins.evaluation.ranks.CMC``.
    """

    trials: Sequence[tuple[np.ndarray, np.ndarray]]
    junk: str
    cmc: str


class SearchedTrial(NamedTuple):
    """What the queries of one trial found.

    Attributes:
        rows: (Q,) int64 rows of ``query + gallery``.
        ranking: of these queries, in the same order.
    """

    rows: np.ndarray
    ranking: RankingResult


class EvaluatedSet(Protocol):
    """What an evaluator reads of a data set."""

    query: Sequence
    gallery: Sequence

    def directions(self) -> dict[str, SearchProtocol]:
        """Name -> its searches and their rules."""


@EVALUATOR.register()
class VVIEvaluator(DatasetEvaluator):
    """Visible-infrared evaluator: CMC, mAP and mINP of each direction.

    The processes share the clips of ``query + gallery`` in any way; the main process puts them
    together by their ``rows``. Plain and re-ranked scores come from the same features.

    After ``evaluate``, on the main process, ``features`` (N, D) float32, ``pids`` (N,) and
    ``camids`` (N,) hold what was collected, an entry per item, and ``rankings`` the RankingResult
    of each direction's first trial; under the direction's name + "+rerank" the re-ranked one.
    ``searched`` holds every row of the table: what each of its trials' queries found.
    """

    def __init__(self, cfg: CfgNode, dataset: EvaluatedSet):
        """Prepare for one data set.

        Args:
            cfg: TEST.METRIC is read, "cosine" or "euclidean"; TEST.RERANK; TEST.CLIPS; and
                TEST.FLIP for the names of the results.
            dataset: whose ``query + gallery`` will be processed.

        Raises:
            InputError: there is no such metric, a parameter of TEST.RERANK is out of its range, or
                TEST asks for a part of fastreid's evaluator that this one lacks.
        """
        self.check_config(cfg)
        self.metric = cfg.TEST.METRIC
        self.several_clips = cfg.TEST.CLIPS != 1
        self.options = options_suffix(cfg)
        self.rerank_parameters = rerank_parameters(cfg)
        self.searches = {"": self.rank}
        if cfg.TEST.RERANK.ENABLED:
            self.searches["+rerank"] = self.rerank
        self.directions = dataset.directions()
        self.num_items = len(dataset.query) + len(dataset.gallery)
        self.reset()

    @classmethod
    def check_config(cls, cfg: CfgNode) -> None:
        """Check what can be known without model and data; called before any data is read.

        Raises:
            InputError: as the constructor.
        """
        for name in UNSUPPORTED:
            if cfg.TEST[name].ENABLED:
                raise InputError(
                    f"TEST.{name}.ENABLED: True; expected False, as there are only FLIP and RERANK"
                )
        check_metric(cfg.TEST.METRIC)
        if cfg.TEST.RERANK.ENABLED:
            check_parameters(**rerank_parameters(cfg))

    def reset(self) -> None:
        """Forget what was collected."""
        self._collected: list[tuple[Tensor, Tensor, Tensor, Tensor]] = []
        self.features: Tensor | None = None
        self.pids: Tensor | None = None
        self.camids: Tensor | None = None
        self.rankings: dict[str, RankingResult] = {}
        self.searched: dict[str, list[SearchedTrial]] = {}

    def row_names(self) -> list[str]:
        """Names of the rows of the table that ``evaluate`` will give."""
        return [
            direction + self.options + suffix
            for direction in self.directions
            for suffix in self.searches
        ]

    def plain_rows(self) -> set[str]:
        """Names of the rows that test a direction as the config says: not re-ranked, no attack."""
        return {direction + self.options for direction in self.directions}

    def process(self, inputs: dict, outputs: Tensor) -> None:
        """Keep the (B, D) features of one batch and whose they are, on the CPU."""
        columns = (outputs.float(), inputs["targets"], inputs["camids"], inputs["rows"])
        self._collected.append(tuple(column.cpu() for column in columns))

    def evaluate(self) -> OrderedDict:
        """Score every direction.

        Returns:
            On the main process ``scores`` of each direction, averaged over its trials, by its name
            + ``options_suffix``, those of re-ranked lists by that + "+rerank"; and "metric", the
            mean "metric" without re-ranking. Elsewhere an empty dict.

        Raises:
            InputError: a feature is not finite, or a trial has no query with a positive.
        """
        shard = concatenate(self._collected) if self._collected else None
        self._collected = []
        shards = [shard for shard in comm.gather(shard) if shard is not None]
        if not comm.is_main_process():
            return OrderedDict()
        assert shards, f"expected {self.num_items} items, found none: process() was never called"
        self._gather_items(*concatenate(shards))
        self._warn_of_ties()

        results, plain = OrderedDict(), []
        for direction, protocol in self.directions.items():
            for suffix, search in self.searches.items():
                try:
                    rankings = [search(protocol, *trial) for trial in protocol.trials]
                except InputError as error:
                    raise InputError(f"{direction}: {error}") from error
                block = mean_scores([scores(ranking) for ranking in rankings])
                self.rankings[direction + suffix] = rankings[0]
                name = direction + self.options + suffix
                results[name] = block
                self.searched[name] = [
                    SearchedTrial(np.asarray(query_rows), ranking)
                    for (query_rows, _), ranking in zip(protocol.trials, rankings, strict=True)
                ]
                if not suffix:
                    plain.append(block["metric"])
        results["metric"] = float(np.mean(plain))
        return results

    def _gather_items(self, features: Tensor, pids: Tensor, camids: Tensor, rows: Tensor) -> None:
        """Set features, persons and cameras of the items from those of the clips."""
        counts = rows.bincount(minlength=self.num_items)
        found = int((counts > 0).sum()) if self.several_clips else len(rows)
        assert found == self.num_items, f"expected {self.num_items} items, found {found}"
        assert len(counts) == self.num_items and counts.all(), "an item is missing"
        self.features = average_clips(features, rows, counts)
        if self.several_clips and self.metric == "cosine":
            self.features = F.normalize(self.features, dim=1)
        self.pids, self.camids = (
            ids.new_empty(self.num_items).index_copy_(0, rows, ids) for ids in (pids, camids)
        )
        check_finite(self.features)

    def _warn_of_ties(self) -> None:
        tied = [
            direction
            for direction, protocol in self.directions.items()
            if all_tie(*pick(self.features, *protocol.trials[0]), self.metric)
        ]
        if tied:
            logger.warning(
                "%s: all distances tie, so that each list is the gallery in its own order and the "
                "scores say nothing; check the weights (MODEL.WEIGHTS)",
                ", ".join(tied),
            )

    def rank(
        self, protocol: SearchProtocol, query_rows: np.ndarray, gallery_rows: np.ndarray
    ) -> RankingResult:
        """Score one trial of ``protocol`` on what was collected."""
        return evaluate_ranking(
            *pick(self.features, query_rows, gallery_rows),
            *pick(self.pids, query_rows, gallery_rows),
            *pick(self.camids, query_rows, gallery_rows),
            metric=self.metric,
            junk=protocol.junk,
            cmc=protocol.cmc,
            max_rank=max(RANKS),
        )

    def rerank(
        self, protocol: SearchProtocol, query_rows: np.ndarray, gallery_rows: np.ndarray
    ) -> RankingResult:
        """Score one trial of ``protocol`` after k-reciprocal re-ranking (TEST.RERANK)."""
        distances = rerank(
            *pick(self.features, query_rows, gallery_rows),
            metric=self.metric,
            **self.rerank_parameters,
        )
        return evaluate_distances(
            distances,
            *pick(self.pids, query_rows, gallery_rows),
            *pick(self.camids, query_rows, gallery_rows),
            junk=protocol.junk,
            cmc=protocol.cmc,
            max_rank=max(RANKS),
        )


def rerank_parameters(cfg: CfgNode) -> dict[str, float]:
    """Read TEST.RERANK under the names that ``plugins.evaluation.rerank`` has for its numbers."""
    settings = cfg.TEST.RERANK
    return {"k1": settings.K1, "k2": settings.K2, "lambda_value": settings.LAMBDA}


def pick(values: Tensor, query_rows: np.ndarray, gallery_rows: np.ndarray) -> tuple[Tensor, Tensor]:
    """The entries of the queries and those of the gallery."""
    return values[torch.as_tensor(query_rows)], values[torch.as_tensor(gallery_rows)]


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
