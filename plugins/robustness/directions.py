"""A model and a direction in which it is searched, with the variants that a report also attacks.

Legend: N items of query + gallery.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import cached_property
from typing import Protocol, cast

from fastreid.config import CfgNode
from torch import Tensor

from plugins.attacks import Adapter
from plugins.data.datasets.own_names import camera_name, person_name
from plugins.data.datasets.tracklet import Tracklet, as_tracklet
from plugins.data.datasets.training_people import TrainingPeople
from plugins.robustness.batches import RowBatches
from plugins.robustness.evaluator import RobustEvaluator, evaluate_clean, evaluate_set
from plugins.robustness.fingerprint import fingerprint
from plugins.robustness.task import RetrievalTask


class SearchedDirection(ABC):
    """What a report needs to know of a model and the direction in which it is searched.

    Attributes:
        cfg: config whose ATTACK section is the threat model.
        adapter: the model as it is ranked.
        task: the retrieval task, with clean features.
        fingerprint: hash of settings, model, items and task.
    """

    cfg: CfgNode
    adapter: Adapter
    task: RetrievalTask
    fingerprint: str

    @abstractmethod
    def batches(self, rows: Tensor) -> RowBatches | Sequence[dict]:
        """Return the clips of rows, in batches."""

    @abstractmethod
    def mirrored(self) -> "SearchedDirection":
        """Evaluate the same direction with TEST.FLIP inverted."""

    def training_people(self) -> "SearchedDirection | None":
        """Evaluate people of the training set by the same rules; None where there are none."""
        return None

    def items(self) -> Sequence[Tracklet]:
        """Return the N items with their files; empty where there are no files."""
        return ()

    def person_name(self, label: int) -> str:
        """Return the data set's own name of a person."""
        return str(label)

    def camera_name(self, label: int) -> str:
        """Return the data set's own name of a camera."""
        return str(label)


class SetWithTraining(Protocol):
    """The part of a data set that holds its training items."""

    train: Sequence[tuple]


class EvaluatedDirection(SearchedDirection):
    """One direction of an evaluated data set.

    Attributes:
        evaluator: evaluator after its ``evaluate``.
        name: name of a direction of its set.
    """

    def __init__(self, evaluator: RobustEvaluator, name: str) -> None:
        """Take a direction of an evaluated set."""
        self.evaluator, self.name = evaluator, name
        self.cfg, self.adapter = evaluator.cfg, evaluator.adapter

    @cached_property
    def task(self) -> RetrievalTask:  # type: ignore[override]
        """The retrieval task, with clean features."""
        return self.evaluator.task(self.name)

    @cached_property
    def fingerprint(self) -> str:  # type: ignore[override]
        """Hash of settings, model, items and task."""
        return fingerprint(self.cfg, self.adapter.model, self.evaluator.items, **self.task.settings)

    def batches(self, rows: Tensor) -> RowBatches:
        """Return the clips of rows, in batches."""
        return self.evaluator.batches(rows)

    def mirrored(self) -> "EvaluatedDirection":
        """Evaluate the same direction with TEST.FLIP inverted."""
        cfg = inverted_flip(self.cfg)
        again = evaluate_clean(cfg, self.adapter.model, self.evaluator.name)
        return EvaluatedDirection(again, self.name)

    def training_people(self) -> "EvaluatedDirection | None":
        """Evaluate people of the training set by the same rules.

        As many people, drawn by ATTACK.SEED, as the task has, so that the galleries are about
        equally large.

        Returns:
            The direction; None if no training query has a positive.
        """
        evaluator, task, items = self.evaluator, self.task, self.items()
        data = TrainingPeople(
            self.name,
            evaluator.directions[self.name],
            cast(SetWithTraining, evaluator.dataset).train,
            query_modalities={items[row].modality for row in task.query_rows.tolist()},
            gallery_modalities={items[row].modality for row in task.gallery_rows.tolist()},
            people=len(task.pids[task.query_rows].unique()),
            seed=self.cfg.ATTACK.SEED,
        )
        if not data.searchable:
            return None
        again = evaluate_set(self.cfg, self.adapter.model, data, f"{evaluator.name} seen")
        return EvaluatedDirection(again, self.name)

    def items(self) -> Sequence[Tracklet]:
        """Return the N items with their files."""
        return [as_tracklet(item) for item in self.evaluator.items]

    def person_name(self, label: int) -> str:
        """Return the data set's own name of a person."""
        return person_name(self.evaluator.dataset, label)

    def camera_name(self, label: int) -> str:
        """Return the data set's own name of a camera."""
        return camera_name(self.evaluator.dataset, label)


def inverted_flip(cfg: CfgNode) -> CfgNode:
    """Return the config with TEST.FLIP inverted."""
    cfg = cfg.clone()
    cfg.defrost()
    cfg.TEST.FLIP.ENABLED = not cfg.TEST.FLIP.ENABLED
    return cfg
