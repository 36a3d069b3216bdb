"""Evaluates a model clean and under every attack of TEST.ATTACKS."""

import contextlib
import logging
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from fastreid.config import CfgNode
from fastreid.evaluation import inference_on_dataset
from fastreid.utils import comm
from tabulate import tabulate
from torch import Tensor, nn
from torch.utils.data import BatchSampler, SequentialSampler

from plugins.attacks import Adapter, Attack, build_attack
from plugins.attacks.attack import read_attack
from plugins.attacks.budget import check_reach
from plugins.attacks.own_objective import try_own_objective
from plugins.attacks.own_set import try_own_set
from plugins.data import build_test_loader
from plugins.data.build import build_test_clips
from plugins.data.clips import ClipDataset
from plugins.data.datasets.training_people import TrainingPeople
from plugins.data.loaders import DeviceLoader, loader_workers, make_loader
from plugins.data.outside import require_outside
from plugins.evaluation import RankingResult, VVIEvaluator
from plugins.evaluation.scores import RANKS, scores
from plugins.evaluation.views import viewed
from plugins.evaluation.vvi_evaluator import EvaluatedSet, SearchedTrial
from plugins.registry import EVALUATOR
from plugins.robustness.attack_rows import attack_rows, reread_features
from plugins.robustness.batches import RowBatches
from plugins.robustness.export import AttackedSet, row_of_files, warn_of_fractions
from plugins.robustness.fingerprint import fingerprint
from plugins.robustness.results import (
    AttackStats,
    Record,
    Scores,
    person_deviation,
    worst_case,
    worst_ranking,
    worst_scores,
)
from plugins.robustness.targeted import targeted_success_rate
from plugins.robustness.task import RetrievalTask
from plugins.utils.io import make_folder
from plugins.utils.locks import hold

logger = logging.getLogger(__name__)

T = TypeVar("T")
# A row of the table: metric to value.
Block = dict[str, float | int]

FOLDER = "robustness"  # in OUTPUT_DIR


@EVALUATOR.register()
class RobustEvaluator(VVIEvaluator):
    """Evaluates as VVIEvaluator does, then each direction under each attack and at worst.

    "I2V" is the clean row of all queries. "I2V+clean" is the clean row of the attacked queries,
    where these are not all: ATTACK.QUERIES drew some, or there are several trials. "I2V+FNA" is the
    row of the attacked queries under that attack, and "I2V+worst" that of their worst case, see
    ``worst_case``, in which an attacker may also do nothing. With ATTACK.SIDE gallery the rows are
    "I2V+gallery+FNA" and so on: all clean queries search an attacked gallery, see
    ``RetrievalTask``. "mAP-std" is the standard deviation over people. For targeted attacks the row
    also holds ``targeted_success_rate``.

    With ATTACK.SAVE_IMAGES a row "I2V+FNA (files)" follows "I2V+FNA": the scores of the images as
    they were saved, in whole gray levels, read from their files.

    The first trial of a direction with several trials is attacked, as each would need its own
    guides; the row "I2V" is still the mean of all trials. Re-ranked lists are not attacked. The
    clean features are computed once. The results of attacks are kept in OUTPUT_DIR/robustness, see
    ``Record``, and read if nothing they depend on has changed.

    Attributes:
        attack_stats: after ``evaluate``, in every process, task -> attack -> AttackStats.
        collected: likewise the clean items of ``query + gallery``.
    """

    def __init__(
        self, cfg: CfgNode, dataset: EvaluatedSet, model: nn.Module, clips: ClipDataset, name: str
    ) -> None:
        """Prepare for one data set.

        Args:
            cfg: the evaluator reads what VVIEvaluator reads; TEST.ATTACKS and ATTACK; OUTPUT_DIR.
            dataset: its ``query + gallery`` will be processed.
            model: the attacked model, without TEST.FLIP's wrapper.
            clips: clips of the test loader.
            name: name of the data set in DATASETS.TESTS.

        Raises:
            InputError: see ``check_config``.
        """
        super().__init__(cfg, dataset)
        self.attacks = {name: build_attack(name, cfg, "TEST.ATTACKS") for name in cfg.TEST.ATTACKS}
        self.saved = list(self.attacks) if cfg.ATTACK.SAVE_IMAGES else []
        self.adapter = Adapter(model, cfg)
        self.dataset, self.items = dataset, [*dataset.query, *dataset.gallery]
        if self.saved:
            require_outside("ATTACK.SAVE_IMAGES", cfg.ATTACK.SAVE_IMAGES, self.items)
            make_folder(cfg.ATTACK.SAVE_IMAGES, "ATTACK.SAVE_IMAGES")
            warn_of_fractions(cfg)
        self.cfg, self.clips, self.name = cfg, clips, name

    @classmethod
    def check_config(cls, cfg: CfgNode) -> None:
        """Check as VVIEvaluator does, and every attack.

        Raises:
            InputError: also where there is no attack of that name, a key of ATTACK is out of its
                range, or see ``check_reach``.
        """
        super().check_config(cfg)
        for name in cfg.TEST.ATTACKS:
            attack = read_attack(name, cfg, "TEST.ATTACKS")
            check_reach(name, attack.threat, attack.recipe)
            try_own_objective(attack, name, "TEST.ATTACKS", cfg)
            try_own_set(attack, name, "TEST.ATTACKS", cfg)

    def reset(self) -> None:
        """Forget what was collected."""
        super().reset()
        self.clip_rows: Tensor | None = None
        self.attack_stats: dict[str, dict[str, AttackStats]] = {}

    def row_names(self) -> list[str]:
        """Name all rows, also those under attack; "+clean" is named though it may be left out."""
        side = "+gallery" if self.cfg.ATTACK.SIDE == "gallery" else ""
        return super().row_names() + [
            f"{direction}{self.options}{side}+{attack}"
            for direction in self.directions
            for attack in ("clean", *self.attacks, *map(row_of_files, self.saved), "worst")
        ]

    def evaluate(self) -> OrderedDict:
        """Score every direction clean and attacked.

        Returns:
            On the main process the blocks of the rows above; and "metric", the mean over the
            directions of their "metric", clean or, with TEST.SELECT worst, of the worst case. In
            other processes an empty dict.

        Raises:
            InputError: as VVIEvaluator, from an attack, or saved images are missing, or another
                process saves images in the same folder.
        """
        with contextlib.ExitStack() as held:
            if self.saved and comm.is_main_process():
                folder = self.cfg.ATTACK.SAVE_IMAGES
                held.enter_context(hold(folder, "ATTACK.SAVE_IMAGES", "attack"))
            return self._evaluate()

    def _evaluate(self) -> OrderedDict:
        clean = super().evaluate()
        self.collected, self.clip_rows = from_main((self.collected, self.clip_rows))
        results: OrderedDict[str, Any] = OrderedDict()
        worst = []
        for direction in self.directions:
            names = [direction + self.options + suffix for suffix in self.searches]
            results |= {name: clean[name] for name in names if name in clean}
            task = self.task(direction)
            attacked = self.attack_task(task)
            results |= attacked
            worst += [attacked[f"{task.name}+worst"]["metric"]] if attacked else []
        if not comm.is_main_process():
            return OrderedDict()
        chosen = self.cfg.TEST.SELECT == "worst" and worst
        results["metric"] = sum(worst) / len(worst) if chosen else clean["metric"]
        return results

    def task(self, direction: str) -> RetrievalTask:
        """Return the first trial of a direction, on the model's device, with ATTACK.SIDE attacked.

        Args:
            direction: name of a direction of the data set.
        """
        items, protocol = self.collected, self.directions[direction]
        assert items is not None, "nothing was evaluated"
        device = next(self.adapter.model.parameters()).device
        query_rows, gallery_rows = (torch.as_tensor(rows) for rows in protocol.trials[0])
        task = RetrievalTask(
            direction + self.options,
            query_rows.to(device),
            gallery_rows.to(device),
            items.features.to(device),
            items.pids.to(device),
            items.camids.to(device),
            metric=self.metric,
            junk=protocol.junk,
            cmc=protocol.cmc,
            trials=len(protocol.trials),
        )
        return task.swapped() if self.cfg.ATTACK.SIDE == "gallery" else task

    def batches(self, rows: Tensor) -> RowBatches:
        """Return the clips of rows of query + gallery, ATTACK.BATCH rows at a time."""
        assert self.clip_rows is not None, "nothing was evaluated"
        return RowBatches(self.clips, self.clip_rows, rows, self.cfg.ATTACK.BATCH)

    def attack_task(self, task: RetrievalTask) -> dict[str, Block]:
        """Run every attack on a task; return its blocks by the name of the row."""
        if not self.attacks:
            return {}
        rows = self._draw(task)
        clean = task.ranking(rows, task.features[rows])
        clean_scores = task.score(rows, task.features[rows], clean)
        people, blocks = task.people(rows), {}
        drawn = task.side == "query" and len(rows) < len(task.candidates())
        fewer = drawn or task.trials > 1
        rankings, saved_rankings = {}, {}
        if fewer or task.side == "query":
            name = f"{task.name}+clean" if fewer else task.name
            blocks[name] = scores(clean) | deviation(clean_scores, people)
            rankings[name] = clean
        stats = self.attack_stats[task.name] = {}
        for name in self.attacks:
            row = f"{task.name}+{name}"
            stats[name], rankings[row], blocks[row] = self._attack_once(name, task, rows)
            if self.saved:
                files = row_of_files(row)
                saved_rankings[files], blocks[files] = self._score_files(name, task, rows)
        all_scores = {"clean": clean_scores, **stats}
        worst, wins = worst_case(all_scores)
        blocks[f"{task.name}+worst"] = worst | deviation(worst_scores(all_scores), people)
        rankings[f"{task.name}+worst"] = worst_ranking([clean, *rankings.values()])
        scored = task.scored_rows(rows).cpu().numpy()
        rankings |= saved_rankings
        self.searched |= {name: [SearchedTrial(scored, each)] for name, each in rankings.items()}
        if comm.is_main_process():
            table = attacks_table(
                stats, wins, {name: blocks[f"{task.name}+{name}"] for name in stats}
            )
            logger.info("%s %s:\n%s", self.name, task.name, table)
        return blocks

    def gather_items(self, features: Tensor, pids: Tensor, camids: Tensor, rows: Tensor) -> None:
        """Set ``collected``, and remember the row of each clip."""
        super().gather_items(features, pids, camids, rows)
        # In the order of the test clips, as the processes' shares are consecutive.
        self.clip_rows = rows

    def _draw(self, task: RetrievalTask) -> Tensor:
        return task.draw(self.cfg.ATTACK.QUERIES, self.cfg.ATTACK.SEED)

    def _attack_once(
        self, name: str, task: RetrievalTask, rows: Tensor
    ) -> tuple[AttackStats, RankingResult, Block]:
        """Return statistics, ranking and table row of one attack, from its record or made now."""
        record = self._record(name, task)
        exported = self._exported(name, task) if self.saved else None
        stats = from_main(record.read() if comm.is_main_process() else None)
        if stats is not None:
            if exported:
                exported.require(record)
            logger.info("%s %s: read from its record", task.name, name)
            ranking = task.ranking(stats.rows, stats.features)
            return stats, ranking, self._block(name, task, stats, ranking)
        if exported and comm.is_main_process():
            exported.begin(record)
        from_main(None)  # no process reads the record before that
        attack = self.attacks[name]
        row_stats = attack_rows(
            attack,
            self.adapter,
            task,
            self.batches(rows),
            record,
            exported.add if exported else None,
            workers=loader_workers(self.cfg),
            others=self.batches(self._draw(task.other_side())) if attack.both_sides else (),
        )
        ranking = task.ranking(row_stats.rows, row_stats.features)
        stats = task.with_scores(row_stats, ranking)
        block = self._block(name, task, stats, ranking)
        if comm.is_main_process():
            if exported:
                logger.info("Attacked images: %s", exported.write_manifest(task, stats.rows))
            record.keep(stats, self._summary(name, task, stats, block))
        return stats, ranking, block

    def _record(self, name: str, task: RetrievalTask) -> Record:
        """Return the record of an attack, whose key names all that its result depends on."""
        key = fingerprint(
            self.cfg,
            self.adapter.model,
            self.items,
            attack=name,
            recipe=asdict(self.attacks[name].recipe),
            **attack_settings(self.attacks[name]),
            **task.settings,
        )
        return Record(Path(self.cfg.OUTPUT_DIR, FOLDER), self._stem(name, task), key)

    def _score_files(
        self, name: str, task: RetrievalTask, rows: Tensor
    ) -> tuple[RankingResult, Block]:
        """Rank the images as one attack saved them; return the ranking and its table row."""
        attack = self.attacks[name]
        read = self._exported(name, task).read
        features = reread_features(self.adapter, self.batches(rows), read, attack.seed)
        ranking = task.ranking(rows, features)
        block = scores(ranking)
        block |= deviation(task.score(rows, features, ranking), task.people(rows))
        return ranking, block | targeted_success_rate(attack, task, rows, features, RANKS)

    def _exported(self, name: str, task: RetrievalTask) -> AttackedSet:
        assert self.clip_rows is not None, "nothing was evaluated"
        folder = Path(self.cfg.ATTACK.SAVE_IMAGES, self._stem(name, task))
        return AttackedSet(folder, self.cfg, self.items, self.clip_rows, self.dataset)

    def _stem(self, name: str, task: RetrievalTask) -> str:
        return f"{self.name}_{task.name}_{name}".replace(" ", "_")

    def _block(
        self, name: str, task: RetrievalTask, stats: AttackStats, ranking: RankingResult
    ) -> Block:
        """Return the table row of an attack, from its statistics and ranking."""
        rows, features = stats.rows, stats.features
        block = scores(ranking) | deviation(stats, task.people(rows))
        return block | targeted_success_rate(self.attacks[name], task, rows, features, RANKS)

    def _summary(
        self, name: str, task: RetrievalTask, stats: AttackStats, block: Block
    ) -> dict[str, Any]:
        attack = self.attacks[name]
        return {
            "dataset": self.name,
            "task": task.name,
            "trial": f"1 of {task.trials}",
            "attack": name,
            "threat": asdict(attack.threat),
            "recipe": asdict(attack.recipe),
            "seed": attack.seed,
            "scores": block,
            **stats.numbers(),
        }


def evaluate_clean(cfg: CfgNode, model: nn.Module, name: str) -> RobustEvaluator:
    """Evaluate a data set without attacks; return the evaluator with its clean features."""
    loader, dataset = build_test_loader(cfg, name)
    return _evaluate(cfg, model, dataset, name, loader)


def evaluate_set(
    cfg: CfgNode, model: nn.Module, data: TrainingPeople, name: str
) -> RobustEvaluator:
    """Evaluate, as ``evaluate_clean`` does, a set that has no registered name."""
    clips = build_test_clips(cfg, data.query, data.gallery, data.directions())
    order = BatchSampler(SequentialSampler(clips), cfg.TEST.IMS_PER_BATCH, drop_last=False)
    return _evaluate(cfg, model, data, name, make_loader(cfg, clips, order))


def _evaluate(
    cfg: CfgNode, model: nn.Module, data: EvaluatedSet, name: str, loader: DeviceLoader
) -> RobustEvaluator:
    cfg = cfg.clone()
    cfg.defrost()
    cfg.TEST.ATTACKS = []  # a report has attacks of its own
    evaluator = RobustEvaluator(cfg, data, model, loader.dataset, name)
    inference_on_dataset(viewed(model, cfg), loader, evaluator)
    return evaluator


def attack_settings(attack: Attack) -> dict[str, Any]:
    """Return the numbers and words of an attack besides the shared ones, such as GOAT's guides."""
    names = vars(attack).keys() - {"threat", "recipe", "seed"}
    values = {name: getattr(attack, name) for name in names}
    return {name: value for name, value in values.items() if isinstance(value, (int, float, str))}


def from_main(value: T) -> T:
    """Return the main process' value, in every process."""
    if comm.get_world_size() == 1:
        return value
    box = [value]
    dist.broadcast_object_list(box, src=0)
    return box[0]


def deviation(attacked: Scores, people: Tensor) -> Block:
    """Return the entry "mAP-std" of a row, see ``person_deviation``."""
    return {"mAP-std": person_deviation(attacked, people)}


def attacks_table(
    stats: Mapping[str, AttackStats], wins: Mapping[str, int], blocks: Mapping[str, Block]
) -> str:
    """Tabulate what each attack did, its unique wins and its success rates.

    Args:
        stats: attack -> statistics.
        wins: attack, or "clean", -> number of queries whose Rank-1 only this attack breaks.
        blocks: attack -> row of the table, whose success rates are shown.
    """
    rows: list[dict[str, Any]] = []
    for name, number in wins.items():
        row: dict[str, Any] = {"attack": name, "unique wins": number}
        if name in stats:
            rates = {k: v for k, v in blocks[name].items() if k.startswith("success")}
            row |= stats[name].numbers() | rates
        rows.append(row)
    return tabulate(rows, headers="keys", tablefmt="pipe", floatfmt=".3g", numalign="left")
