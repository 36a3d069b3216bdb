"""Evaluates a model clean and under every attack of TEST.ATTACKS."""

import logging
from collections import OrderedDict
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from fastreid.config import CfgNode
from fastreid.utils import comm
from tabulate import tabulate
from torch import Tensor, nn

from plugins.attacks import Adapter, build_attack
from plugins.data.clips import ClipDataset
from plugins.errors import InputError
from plugins.evaluation import VVIEvaluator
from plugins.evaluation.vvi_evaluator import EvaluatedSet, scores
from plugins.registry import EVALUATOR
from plugins.robustness.batches import RowBatches
from plugins.robustness.export import AttackedSet
from plugins.robustness.outcomes import Outcomes, worst_case
from plugins.robustness.records import Record, fingerprint
from plugins.robustness.searches import SIDES, Search, attack_search

logger = logging.getLogger(__name__)

FOLDER = "robustness"  # in OUTPUT_DIR


@EVALUATOR.register()
class RobustEvaluator(VVIEvaluator):
    """VVIEvaluator's rows, then of each direction one row per attack and their worst case.

    "I2V" is clean and of all queries; "I2V+clean" of the attacked ones, where these are others:
    ATTACK.QUERIES drew some, or there are several trials; "I2V+FNA" of these under attack;
    "I2V+worst" their worst case, see ``worst_case``, in which an attacker may also do nothing. With
    ATTACK.SIDE gallery the rows are "I2V+gallery+FNA" and so on, and say what all clean queries
    find in an attacked gallery, see ``Search``.

    Of a direction with several trials the first is attacked, as each would need its own guides; the
    row "I2V" is still the mean of all. Re-ranked lists are not attacked. The clean features are
    computed once; outcomes are kept in OUTPUT_DIR/robustness, see ``Record``, and read if nothing
    they depend on has changed.

    After ``evaluate``, in every process, ``features``, ``pids`` and ``camids`` are there, and
    ``outcomes`` holds {search: {attack: Outcomes}}.
    """

    def __init__(
        self, cfg: CfgNode, dataset: EvaluatedSet, model: nn.Module, clips: ClipDataset, name: str
    ) -> None:
        """Prepare for one data set.

        Args:
            cfg: what VVIEvaluator reads; TEST.ATTACKS and ATTACK; OUTPUT_DIR.
            dataset: whose ``query + gallery`` will be processed.
            model: the attacked model, without TEST.FLIP's wrapper.
            clips: the test loader's.
            name: of the data set in DATASETS.TESTS.

        Raises:
            InputError: there is no such attack, or a key has no such value.
        """
        super().__init__(cfg, dataset)
        check_settings(cfg)
        self.attacks = {name: build_attack(name, cfg, "TEST.ATTACKS") for name in cfg.TEST.ATTACKS}
        self.adapter = Adapter(model, cfg)
        self.items = [*dataset.query, *dataset.gallery]
        self.cfg, self.clips, self.name = cfg, clips, name

    def reset(self) -> None:
        """Forget what was collected."""
        super().reset()
        self.clip_rows: Tensor | None = None
        self.outcomes: dict[str, dict[str, Outcomes]] = {}

    def evaluate(self) -> OrderedDict:
        """Score every direction clean and attacked.

        Returns:
            On the main process the blocks of the rows above, and VVIEvaluator's "metric", which is
            clean; elsewhere an empty dict.

        Raises:
            InputError: as VVIEvaluator, or from an attack.
        """
        clean = super().evaluate()
        collected = self.features, self.pids, self.camids, self.clip_rows
        self.features, self.pids, self.camids, self.clip_rows = from_main(collected)
        results = OrderedDict()
        for direction in self.directions:
            own = [direction + self.options + suffix for suffix in self.searches]
            results |= {name: clean[name] for name in own if name in clean}
            results |= self.attack(self.search(direction))
        if not comm.is_main_process():
            return OrderedDict()
        results["metric"] = clean["metric"]
        return results

    def search(self, direction: str) -> Search:
        """The first trial of a direction, on the model's device, with ATTACK.SIDE attacked."""
        device = next(self.adapter.model.parameters()).device
        protocol = self.directions[direction]
        query_rows, gallery_rows = (torch.as_tensor(rows) for rows in protocol.trials[0])
        tensors = query_rows, gallery_rows, self.features, self.pids, self.camids
        search = Search(
            direction + self.options,
            *(tensor.to(device) for tensor in tensors),
            metric=self.metric,
            junk=protocol.junk,
            cmc=protocol.cmc,
            trials=len(protocol.trials),
        )
        return search.swapped() if self.cfg.ATTACK.SIDE == "gallery" else search

    def batches(self, rows: Tensor) -> RowBatches:
        """The clips of rows of query + gallery, ATTACK.BATCH rows at a time."""
        return RowBatches(self.clips, self.clip_rows, rows, self.cfg.ATTACK.BATCH)

    def attack(self, search: Search) -> dict[str, dict]:
        """Run every attack on a search; returns its blocks by the name of the row."""
        if not self.attacks:
            return {}
        rows = search.draw(self.cfg.ATTACK.QUERIES, self.cfg.ATTACK.SEED)
        features = search.features[rows]
        blocks = {}
        drawn = search.side == "query" and len(rows) < len(search.candidates())
        if drawn or search.trials > 1:
            blocks[f"{search.name}+clean"] = scores(search.ranking(rows, features))
        outcomes = self.outcomes[search.name] = {}
        for name in self.attacks:
            outcomes[name] = self._attack_once(name, search, rows)
            ranking = search.ranking(outcomes[name].rows, outcomes[name].features)
            blocks[f"{search.name}+{name}"] = scores(ranking)
        worst, wins = worst_case({"clean": search.score(rows, features), **outcomes})
        blocks[f"{search.name}+worst"] = worst
        if comm.is_main_process():
            logger.info("%s %s:\n%s", self.name, search.name, attacks_table(outcomes, wins))
        return blocks

    def _attack_once(self, name: str, search: Search, rows: Tensor) -> Outcomes:
        """The outcomes of one attack: from its record, or now."""
        stem = f"{self.name}_{search.name}_{name}".replace(" ", "_")
        key = fingerprint(
            self.cfg,
            self.adapter.model,
            self.items,
            attack=name,
            recipe=asdict(self.attacks[name].recipe),
            queries=search.query_rows.tolist(),
            gallery=search.gallery_rows.tolist(),
            rules=[search.junk, search.cmc],
        )
        record = Record(Path(self.cfg.OUTPUT_DIR, FOLDER), stem, key)
        outcomes = from_main(record.read() if comm.is_main_process() else None)
        if outcomes is not None:
            logger.info("%s %s: read from its record", search.name, name)
            return outcomes
        exported = None
        if self.cfg.ATTACK.SAVE_IMAGES:
            folder = Path(self.cfg.ATTACK.SAVE_IMAGES, stem)
            exported = AttackedSet(folder, self.cfg, self.items, self.clip_rows)
        outcomes = attack_search(
            self.attacks[name],
            self.adapter,
            search,
            self.batches(rows),
            record,
            exported.add if exported else None,
            workers=self.cfg.DATALOADER.NUM_WORKERS,
        )
        if comm.is_main_process():
            if exported:
                logger.info("Attacked images: %s", exported.write_manifest(search, outcomes.rows))
            record.keep(outcomes, self._summary(name, search, outcomes))
        return outcomes

    def _summary(self, name: str, search: Search, outcomes: Outcomes) -> dict[str, Any]:
        attack = self.attacks[name]
        return {
            "dataset": self.name,
            "search": search.name,
            "trial": f"1 of {search.trials}",
            "attack": name,
            "threat": asdict(attack.threat),
            "recipe": asdict(attack.recipe),
            "seed": attack.seed,
            "scores": scores(search.ranking(outcomes.rows, outcomes.features)),
            **figures(outcomes),
        }

    def _gather_items(self, features: Tensor, pids: Tensor, camids: Tensor, rows: Tensor) -> None:
        super()._gather_items(features, pids, camids, rows)
        # In the order of the test clips, as the processes' shares are consecutive.
        self.clip_rows = rows


def check_settings(cfg: CfgNode) -> None:
    """Raise InputError for a value of ATTACK that says not which rows to attack, or how many."""
    if cfg.ATTACK.SIDE not in SIDES:
        raise InputError(f"ATTACK.SIDE: '{cfg.ATTACK.SIDE}'; expected {' or '.join(SIDES)}")
    for key, least in (("QUERIES", 0), ("BATCH", 1)):
        if cfg.ATTACK[key] < least:
            raise InputError(f"ATTACK.{key}: {cfg.ATTACK[key]}; expected {least} or more")


def from_main(value: Any) -> Any:
    """The main process' value, in every process."""
    if comm.get_world_size() == 1:
        return value
    box = [value]
    dist.broadcast_object_list(box, src=0)
    return box[0]


def figures(outcomes: Outcomes) -> dict[str, float | int]:
    """What an attack did, in a few numbers: means over its rows, counts, seconds."""
    return {
        "rows": len(outcomes.rows),
        "moved": float(outcomes.moved.mean()),
        "reached": float(outcomes.reached.max()),
        "stuck": int(outcomes.stuck.sum()),
        "forwards": outcomes.forwards,
        "backwards": outcomes.backwards,
        "seconds": outcomes.seconds,
    }


def attacks_table(outcomes: dict[str, Outcomes], wins: dict[str, int]) -> str:
    """What the attacks did, and the queries whose Rank-1 only this one breaks."""
    rows = [
        {"attack": name, "unique wins": wins[name]}
        | (figures(outcomes[name]) if name in outcomes else {})
        for name in wins
    ]
    return tabulate(rows, headers="keys", tablefmt="pipe", floatfmt=".3g", numalign="left")
