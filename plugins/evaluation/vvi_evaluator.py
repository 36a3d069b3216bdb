"""Evaluate a model in every direction from one pass over query and gallery."""

import logging
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
import torch.distributed as dist
from fastreid.config import CfgNode
from fastreid.evaluation import DatasetEvaluator
from fastreid.utils import comm
from torch import Tensor

from plugins.config import check_value
from plugins.errors import InputError
from plugins.evaluation.distance import Grid, all_tie
from plugins.evaluation.ranking import (
    QueryRanks,
    RankingResult,
    evaluate_distances,
    query_ranks,
)
from plugins.evaluation.rerank import check_parameters, rerank
from plugins.evaluation.scores import RANKS, mean_scores, scores
from plugins.evaluation.side import Side
from plugins.evaluation.verification import accept_rates
from plugins.evaluation.views import item_features, options_suffix
from plugins.protocol import Direction, Trial
from plugins.registry import EVALUATOR

logger = logging.getLogger(__name__)

UNSUPPORTED = ("AQE",)
Shard = tuple[Tensor, ...]  # features, persons, cameras and rows of the clips of a process


class SearchedTrial(NamedTuple):
    """The queries of one trial and their ranking.

    Attributes:
        rows: (Q,) int64 rows of ``query + gallery``.
        ranking: the scores of these queries, in the same order.
    """

    rows: np.ndarray
    ranking: RankingResult


class EvaluatedSet(Protocol):
    """The part of a data set that an evaluator reads."""

    query: Sequence
    gallery: Sequence

    def directions(self) -> dict[str, Direction]:
        """Return the searches and their rules, by the name of the direction."""


@EVALUATOR.register()
class VVIEvaluator(DatasetEvaluator):
    """Visible-infrared evaluator: CMC, mAP and mINP of each direction.

    The processes share the clips of ``query + gallery`` in any way; each puts them together by
    their ``rows`` and ranks a share of the queries. Plain and re-ranked scores come from the same
    features.

    Attributes:
        collected: after ``evaluate``, on the main process, all items of ``query + gallery``.
        rankings: likewise the RankingResult of each direction's first trial; under the direction's
            name + "+rerank" the re-ranked one.
        searched: likewise the trials of each row of the table.
    """

    def __init__(self, cfg: CfgNode, dataset: EvaluatedSet):
        """Prepare for one data set.

        Args:
            cfg: the evaluator reads TEST.METRIC, TEST.RERANK, TEST.ROC, TEST.CLIPS, and TEST.FLIP
                for the names of the results.
            dataset: its ``query + gallery`` will be processed.

        Raises:
            InputError: there is no such metric, a parameter of TEST.RERANK is out of its range, or
                TEST asks for a part of fastreid's evaluator that this one lacks.
        """
        self.check_config(cfg)
        self.cfg = cfg
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
                    f"TEST.{name}.ENABLED: True; expected False, as there are only FLIP, RERANK "
                    "and ROC"
                )
        check_value("TEST.METRIC", cfg.TEST.METRIC)
        if cfg.TEST.RERANK.ENABLED:
            check_parameters(**rerank_parameters(cfg))

    def reset(self) -> None:
        """Forget all batches and results."""
        self._batches: list[tuple[Tensor, ...]] = []
        self.collected: Side | None = None
        self.rankings: dict[str, RankingResult] = {}
        self.searched: dict[str, list[SearchedTrial]] = {}
        self._ranked: dict[int, QueryRanks] = {}

    def row_names(self) -> list[str]:
        """Name the rows of the table that ``evaluate`` will give."""
        return [
            direction + self.options + suffix
            for direction in self.directions
            for suffix in self.searches
        ]

    def plain_rows(self) -> set[str]:
        """Name the rows that test a direction as the config says: not re-ranked, no attack."""
        return {direction + self.options for direction in self.directions}

    def process(self, inputs: dict, outputs: Tensor) -> None:
        """Keep (B, D) features of one batch, with their persons, cameras and rows, on the CPU."""
        columns = (outputs.float(), inputs["targets"], inputs["camids"], inputs["rows"])
        self._batches.append(tuple(column.cpu() for column in columns))

    def evaluate(self) -> OrderedDict:
        """Score every direction.

        Returns:
            On the main process the entries of each direction, averaged over its trials, by its name
            + ``options_suffix``: its ``scores``, and with TEST.ROC ``accept_rates``; the scores of
            re-ranked lists by that name + "+rerank"; and "metric", the mean "metric" without
            re-ranking. In other processes an empty dict.

        Raises:
            InputError: a feature is not finite, or a trial has no query with a positive.
        """
        shard = concatenate(self._batches) if self._batches else None
        self._batches = []
        shards = [shard for shard in shards_of_all(shard) if shard is not None]
        assert shards, f"expected {self.num_items} items, found none: process() was not called"
        self.gather_items(*concatenate(shards))
        self._rank_trials()
        if not comm.is_main_process():
            self.collected = None
            return OrderedDict()
        self._warn_of_ties()

        results: OrderedDict[str, Any] = OrderedDict()
        plain = []
        for name, direction in self.directions.items():
            for suffix, search in self.searches.items():
                try:
                    rankings = [search(direction, trial) for trial in direction.trials]
                except InputError as error:
                    raise InputError(f"{name}: {error}") from error
                blocks = [scores(ranking) for ranking in rankings]
                if self.cfg.TEST.ROC.ENABLED and not suffix:
                    for block, trial in zip(blocks, direction.trials, strict=True):
                        block |= self.verify(direction, trial)
                block = mean_scores(blocks)
                self.rankings[name + suffix] = rankings[0]
                row = name + self.options + suffix
                results[row] = block
                self.searched[row] = [
                    SearchedTrial(np.asarray(trial.query), ranking)
                    for trial, ranking in zip(direction.trials, rankings, strict=True)
                ]
                if not suffix:
                    plain.append(block["metric"])
        results["metric"] = float(np.mean(plain))
        return results

    def gather_items(self, features: Tensor, pids: Tensor, camids: Tensor, rows: Tensor) -> None:
        """Set ``collected`` from the features, persons, cameras and rows of all clips.

        Every process calls this; the main one refuses features that are not finite.
        """
        counts = rows.bincount(minlength=self.num_items)
        number = int((counts > 0).sum()) if self.several_clips else len(rows)
        assert number == self.num_items, f"expected {self.num_items} items, found {number}"
        assert len(counts) == self.num_items and counts.all(), "an item is missing"
        features = item_features(features, rows, counts, self.cfg)
        if comm.is_main_process():  # one line for all processes
            check_finite(features)
        labels = [ids.new_empty(self.num_items).index_copy_(0, rows, ids) for ids in (pids, camids)]
        self.collected = Side(features, *labels)

    def sides(self, trial: Trial) -> tuple[Side, Side]:
        """Return the queries and the gallery of a trial, with what was collected of them."""
        assert self.collected is not None, "nothing was evaluated"
        return self.collected.select(trial.query), self.collected.select(trial.gallery)

    def _warn_of_ties(self) -> None:
        tied = []
        for name, direction in self.directions.items():
            query, gallery = self.sides(direction.trials[0])
            if all_tie(query.features, gallery.features, self.metric):
                tied.append(name)
        if tied:
            logger.warning(
                "%s: all distances tie, so that each list is the gallery in its own order and the "
                "scores say nothing; check the weights (MODEL.WEIGHTS)",
                ", ".join(tied),
            )

    def _rank_trials(self) -> None:
        """Let each process rank a share of the queries, and the main process know all ranks.

        The features of all items set the grid, so that the shares are those of one process.
        """
        if comm.get_world_size() == 1:
            return
        trials = [(each, trial) for each in self.directions.values() for trial in each.trials]
        ranked = []
        for direction, trial in trials:
            share = np.array_split(trial.query, comm.get_world_size())[comm.get_rank()]
            ranked.append(self._rank_share(direction, trial, share))
        shares = comm.gather(ranked)
        if comm.is_main_process():
            for (_, trial), *parts in zip(trials, *shares, strict=True):
                self._ranked[id(trial)] = QueryRanks(*concatenate(parts))

    def _rank_share(self, direction: Direction, trial: Trial, share: np.ndarray) -> QueryRanks:
        """Rank some of the queries of a trial; ``share`` are their rows."""
        assert self.collected is not None, "nothing was evaluated"
        query, gallery = self.sides(trial)
        return query_ranks(
            self.collected.select(share),
            gallery,
            metric=self.metric,
            junk=direction.junk,
            cmc=direction.cmc,
            grid=Grid(self.metric, query.features, gallery.features),
        )

    def rank(self, direction: Direction, trial: Trial) -> RankingResult:
        """Score one trial of a direction."""
        ranks = self._ranked.get(id(trial)) or self._rank_share(direction, trial, trial.query)
        return RankingResult.of_queries(*ranks, max_rank=max(RANKS))

    def verify(self, direction: Direction, trial: Trial) -> dict[str, float]:
        """Compute the true accept rates of one trial (TEST.ROC)."""
        names = (name for name, each in self.directions.items() if each is direction)
        sides, junk = self.sides(trial), direction.junk
        return accept_rates(*sides, metric=self.metric, junk=junk, name=next(names, ""))

    def rerank(self, direction: Direction, trial: Trial) -> RankingResult:
        """Score one trial of a direction after k-reciprocal re-ranking (TEST.RERANK)."""
        query, gallery = self.sides(trial)
        distances = rerank(
            query.features, gallery.features, metric=self.metric, **self.rerank_parameters
        )
        return evaluate_distances(
            distances,
            query,
            gallery,
            junk=direction.junk,
            cmc=direction.cmc,
            max_rank=max(RANKS),
        )


def rerank_parameters(cfg: CfgNode) -> dict[str, Any]:
    """Read TEST.RERANK; the keys are the names of the parameters of ``rerank``."""
    settings = cfg.TEST.RERANK
    return {"k1": settings.K1, "k2": settings.K2, "lambda_value": settings.LAMBDA}


def shards_of_all(shard: Shard | None) -> list[Shard | None]:
    """Give every process the tensors of each process, in their order; all must call this.

    fastreid's ``gather`` pickles what it sends, which takes several times as long.
    """
    if comm.get_world_size() == 1:
        return [shard]
    group = comm._get_global_gloo_group()
    about = [(tensor.shape, tensor.dtype) for tensor in shard] if shard else None
    everyone: list[Any] = [None] * comm.get_world_size()
    dist.all_gather_object(everyone, about, group=group)
    shards: list[Shard | None] = []
    for rank, tensors in enumerate(everyone):
        if tensors is None:
            shards.append(None)
            continue
        own = shard if rank == comm.get_rank() else None
        shards.append(own or tuple(torch.empty(shape, dtype=dtype) for shape, dtype in tensors))
        for tensor in shards[-1] or ():
            dist.broadcast(tensor, src=rank, group=group)
    return shards


def concatenate(parts: Sequence[Shard]) -> Shard:
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
