"""What can be attacked: a model with clean features of a set, seen in one way or another."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import torch
from fastreid.config import CfgNode
from fastreid.evaluation import inference_on_dataset
from torch import nn
from torch.utils.data import BatchSampler, SequentialSampler

from plugins.attacks import Adapter
from plugins.data import build_test_loader
from plugins.data.build import build_test_clips
from plugins.data.datasets.tracklet import as_tracklet
from plugins.data.datasets.training_people import TrainingPeople
from plugins.data.loaders import make_loader
from plugins.evaluation.views import viewed
from plugins.evaluation.vvi_evaluator import EvaluatedSet
from plugins.robustness.batches import RowBatches
from plugins.robustness.records import fingerprint
from plugins.robustness.robust_evaluator import RobustEvaluator
from plugins.robustness.searches import Search


@dataclass(frozen=True, eq=False)
class Scene:
    """One direction of an evaluated set.

    Attributes:
        evaluator: after its ``evaluate``.
        direction: of its set.
    """

    evaluator: RobustEvaluator
    direction: str

    @property
    def adapter(self) -> Adapter:
        """The model as it is ranked."""
        return self.evaluator.adapter

    @cached_property
    def search(self) -> Search:
        """What is searched where."""
        return self.evaluator.search(self.direction)

    @cached_property
    def fingerprint(self) -> str:
        """Of settings, model, items and search."""
        return fingerprint(
            self.evaluator.cfg, self.adapter.model, self.evaluator.items, **self.search.told
        )

    def batches(self, rows: torch.Tensor) -> RowBatches:
        """The clips of rows."""
        return self.evaluator.batches(rows)

    def mirrored(self) -> "Scene":
        """The same with TEST.FLIP the other way round."""
        evaluator, cfg = self.evaluator, self.evaluator.cfg.clone()
        cfg.defrost()
        cfg.TEST.FLIP.ENABLED = not cfg.TEST.FLIP.ENABLED
        again = evaluate_clean(cfg, self.adapter.model, evaluator.name)
        return Scene(again, self.direction)

    def seen(self) -> "Scene | None":
        """The training people searched by the same rules; None if nobody of them can be found.

        As many of them, drawn by ATTACK.SEED, as the search has people, so that its gallery is
        about as large.
        """
        evaluator, search = self.evaluator, self.search
        protocol = evaluator.directions[self.direction]
        items = [as_tracklet(item) for item in evaluator.items]
        data = TrainingPeople(
            self.direction,
            protocol,
            evaluator.dataset.train,
            query_modalities={items[row].modality for row in search.query_rows.tolist()},
            gallery_modalities={items[row].modality for row in search.gallery_rows.tolist()},
            people=len(search.pids[search.query_rows].unique()),
            seed=evaluator.cfg.ATTACK.SEED,
        )
        if not data.searchable:
            return None
        again = evaluate_set(evaluator.cfg, self.adapter.model, data, f"{evaluator.name} seen")
        return Scene(again, self.direction)


def evaluate_clean(cfg: CfgNode, model: nn.Module, name: str) -> RobustEvaluator:
    """The evaluator of a data set with its clean features."""
    loader, dataset = build_test_loader(cfg, name)
    return _evaluate(cfg, model, dataset, name, loader)


def evaluate_set(
    cfg: CfgNode, model: nn.Module, data: TrainingPeople, name: str
) -> RobustEvaluator:
    """As ``evaluate_clean``, of a set that has no registered name."""
    clips = build_test_clips(cfg, data.query, data.gallery, data.directions())
    order = BatchSampler(SequentialSampler(clips), cfg.TEST.IMS_PER_BATCH, drop_last=False)
    return _evaluate(cfg, model, data, name, make_loader(cfg, clips, order))


def _evaluate(
    cfg: CfgNode, model: nn.Module, data: EvaluatedSet, name: str, loader: Iterable[dict]
) -> RobustEvaluator:
    cfg = cfg.clone()
    cfg.defrost()
    cfg.TEST.ATTACKS = []  # they are the level's
    evaluator = RobustEvaluator(cfg, data, model, loader.dataset, name)
    inference_on_dataset(viewed(model, cfg), loader, evaluator)
    return evaluator
