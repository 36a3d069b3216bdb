"""Evaluates a model clean and under every attack of TEST.ATTACKS."""

import logging
import math
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

from plugins.attacks import Adapter, Attack, build_attack
from plugins.attacks.attack import read_attack
from plugins.attacks.budget import check_reach, warn_once
from plugins.data.clips import ClipDataset
from plugins.data.loaders import loader_workers
from plugins.data.outside import require_outside
from plugins.errors import InputError
from plugins.evaluation import RankingResult, VVIEvaluator
from plugins.evaluation.scores import RANKS, scores
from plugins.evaluation.vvi_evaluator import EvaluatedSet, SearchedTrial
from plugins.registry import EVALUATOR
from plugins.robustness.aims import aimed_success
from plugins.robustness.batches import RowBatches
from plugins.robustness.export import AttackedSet
from plugins.robustness.outcomes import (
    Outcomes,
    Scores,
    person_deviation,
    worst_case,
    worst_ranking,
    worst_scores,
)
from plugins.robustness.records import Record, fingerprint
from plugins.robustness.searches import Search, attack_search, reread_features
from plugins.utils.io import make_folder

logger = logging.getLogger(__name__)

FOLDER = "robustness"  # in OUTPUT_DIR


@EVALUATOR.register()
class RobustEvaluator(VVIEvaluator):
    """VVIEvaluator's rows, then of each direction one row per attack and their worst case.

    "I2V" is clean and of all queries; "I2V+clean" of the attacked ones, where these are others:
    ATTACK.QUERIES drew some, or there are several trials; "I2V+FNA" of these under attack;
    "I2V+worst" their worst case, see ``worst_case``, in which an attacker may also do nothing. With
    ATTACK.SIDE gallery the rows are "I2V+gallery+FNA" and so on, and say what all clean queries
    find in an attacked gallery, see ``Search``. "mAP-std" says how people differ. Of attacks that
    aim at an item the row also says how often they brought it where they wanted it, see
    ``aimed_success``.

    With ATTACK.SAVE_IMAGES a row "I2V+FNA (files)" stands below "I2V+FNA": what queries find with
    the images as they were saved, in whole gray levels, read from their files.

    Of a direction with several trials the first is attacked, as each would need its own guides; the
    row "I2V" is still the mean of all. Re-ranked lists are not attacked. The clean features are
    computed once; outcomes are kept in OUTPUT_DIR/robustness, see ``Record``, and read if nothing
    they depend on has changed.

    After ``evaluate``, in every process, ``collected`` is there, and ``outcomes`` holds
    {search: {attack: Outcomes}}.
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
        """As of VVIEvaluator; raises InputError also for an attack that cannot be.

        There is none of that name, a key of ATTACK has no such value, or see ``check_reach``.
        """
        super().check_config(cfg)
        for name in cfg.TEST.ATTACKS:
            attack = read_attack(name, cfg, "TEST.ATTACKS")
            check_reach(name, attack.threat, attack.recipe)

    def reset(self) -> None:
        """Forget what was collected."""
        super().reset()
        self.clip_rows: Tensor | None = None
        self.outcomes: dict[str, dict[str, Outcomes]] = {}

    def row_names(self) -> list[str]:
        """Also those under attack; "+clean" though it may be left out."""
        side = "+gallery" if self.cfg.ATTACK.SIDE == "gallery" else ""
        return super().row_names() + [
            f"{direction}{self.options}{side}+{attack}"
            for direction in self.directions
            for attack in ("clean", *self.attacks, *map(of_files, self.saved), "worst")
        ]

    def evaluate(self) -> OrderedDict:
        """Score every direction clean and attacked.

        Returns:
            On the main process the blocks of the rows above; and "metric", the mean over the
            directions of theirs, clean or, with TEST.SELECT worst, of the worst case. Elsewhere an
            empty dict.

        Raises:
            InputError: as VVIEvaluator, from an attack, or images that were saved are gone.
        """
        clean = super().evaluate()
        self.collected, self.clip_rows = from_main((self.collected, self.clip_rows))
        results, worst = OrderedDict(), []
        for direction in self.directions:
            own = [direction + self.options + suffix for suffix in self.searches]
            results |= {name: clean[name] for name in own if name in clean}
            search = self.search(direction)
            attacked = self.attack(search)
            results |= attacked
            worst += [attacked[f"{search.name}+worst"]["metric"]] if attacked else []
        if not comm.is_main_process():
            return OrderedDict()
        chosen = self.cfg.TEST.SELECT == "worst" and worst
        results["metric"] = sum(worst) / len(worst) if chosen else clean["metric"]
        return results

    def search(self, direction: str) -> Search:
        """The first trial of a direction, on the model's device, with ATTACK.SIDE attacked."""
        device = next(self.adapter.model.parameters()).device
        protocol = self.directions[direction]
        query_rows, gallery_rows = (torch.as_tensor(rows) for rows in protocol.trials[0])
        items = self.collected
        tensors = query_rows, gallery_rows, items.features, items.pids, items.camids
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
        rows = self._draw(search)
        features = search.features[rows]
        blocks, people = {}, search.people(rows)
        clean = search.ranking(rows, features)
        clean_scores = search.score(rows, features, clean)
        drawn = search.side == "query" and len(rows) < len(search.candidates())
        others = drawn or search.trials > 1
        rankings, saved = {}, {}
        if others or search.side == "query":
            name = f"{search.name}+clean" if others else search.name
            blocks[name] = scores(clean) | deviation(clean_scores, people)
            rankings[name] = clean
        outcomes = self.outcomes[search.name] = {}
        for name in self.attacks:
            row = f"{search.name}+{name}"
            outcomes[name], rankings[row], blocks[row] = self._attack_once(name, search, rows)
            if self.saved:
                saved[of_files(row)], blocks[of_files(row)] = self._of_files(name, search, rows)
        everything = {"clean": clean_scores, **outcomes}
        worst, wins = worst_case(everything)
        worst |= deviation(worst_scores(everything), people)
        blocks[f"{search.name}+worst"] = worst
        rankings[f"{search.name}+worst"] = worst_ranking([clean, *rankings.values()])
        scored = search.scored_rows(rows).cpu().numpy()
        found = rankings | saved
        self.searched |= {name: [SearchedTrial(scored, each)] for name, each in found.items()}
        if comm.is_main_process():
            aims = {
                name: {
                    key: value
                    for key, value in blocks[f"{search.name}+{name}"].items()
                    if key.startswith("success")
                }
                for name in outcomes
            }
            table = attacks_table(outcomes, wins, aims)
            logger.info("%s %s:\n%s", self.name, search.name, table)
        return blocks

    def _draw(self, search: Search) -> Tensor:
        return search.draw(self.cfg.ATTACK.QUERIES, self.cfg.ATTACK.SEED)

    def _attack_once(
        self, name: str, search: Search, rows: Tensor
    ) -> tuple[Outcomes, RankingResult, dict[str, float | int]]:
        """The outcomes of one attack, from its record or now, their ranking and its row."""
        key = fingerprint(
            self.cfg,
            self.adapter.model,
            self.items,
            attack=name,
            recipe=asdict(self.attacks[name].recipe),
            **own_settings(self.attacks[name]),
            **search.told,
        )
        record = Record(Path(self.cfg.OUTPUT_DIR, FOLDER), self._stem(name, search), key)
        exported = self._exported(name, search) if self.saved else None
        outcomes = from_main(record.read() if comm.is_main_process() else None)
        if outcomes is not None:
            if exported and not exported.manifest.is_file():
                raise InputError(
                    f"ATTACK.SAVE_IMAGES: {exported.manifest}: no such file; the attack has ended, "
                    f"and saves images only while it runs: delete {record.path} to attack anew"
                )
            logger.info("%s %s: read from its record", search.name, name)
            ranking = search.ranking(outcomes.rows, outcomes.features)
            return outcomes, ranking, self._block(name, search, outcomes, ranking)
        others = ()
        if self.attacks[name].both_sides:
            others = self.batches(self._draw(search.other_side()))
        attacked = attack_search(
            self.attacks[name],
            self.adapter,
            search,
            self.batches(rows),
            record,
            exported.add if exported else None,
            workers=loader_workers(self.cfg),
            others=others,
        )
        ranking = search.ranking(attacked.rows, attacked.features)
        outcomes = search.outcomes(attacked, ranking)
        block = self._block(name, search, outcomes, ranking)
        if comm.is_main_process():
            if exported:
                logger.info("Attacked images: %s", exported.write_manifest(search, outcomes.rows))
            record.keep(outcomes, self._summary(name, search, outcomes, block))
        return outcomes, ranking, block

    def _of_files(
        self, name: str, search: Search, rows: Tensor
    ) -> tuple[RankingResult, dict[str, float | int]]:
        """Rank the images as one attack saved them; return the ranking and its row."""
        read, seed = self._exported(name, search).read, self.attacks[name].seed
        features = reread_features(self.adapter, self.batches(rows), read, seed)
        ranking = search.ranking(rows, features)
        block = scores(ranking)
        block |= deviation(search.score(rows, features, ranking), search.people(rows))
        return ranking, block | aimed_success(self.attacks[name], search, rows, features, RANKS)

    def _exported(self, name: str, search: Search) -> AttackedSet:
        folder = Path(self.cfg.ATTACK.SAVE_IMAGES, self._stem(name, search))
        return AttackedSet(folder, self.cfg, self.items, self.clip_rows)

    def _stem(self, name: str, search: Search) -> str:
        return f"{self.name}_{search.name}_{name}".replace(" ", "_")

    def _block(
        self, name: str, search: Search, outcomes: Outcomes, ranking: RankingResult
    ) -> dict[str, float | int]:
        """The row of the table, from the outcomes and their ranking."""
        rows, features = outcomes.rows, outcomes.features
        block = scores(ranking)
        block |= deviation(outcomes, search.people(rows))
        return block | aimed_success(self.attacks[name], search, rows, features, RANKS)

    def _summary(
        self, name: str, search: Search, outcomes: Outcomes, block: dict[str, float | int]
    ) -> dict[str, Any]:
        attack = self.attacks[name]
        return {
            "dataset": self.name,
            "search": search.name,
            "trial": f"1 of {search.trials}",
            "attack": name,
            "threat": asdict(attack.threat),
            "recipe": asdict(attack.recipe),
            "seed": attack.seed,
            "scores": block,
            **figures(outcomes),
        }

    def _gather_items(self, features: Tensor, pids: Tensor, camids: Tensor, rows: Tensor) -> None:
        super()._gather_items(features, pids, camids, rows)
        # In the order of the test clips, as the processes' shares are consecutive.
        self.clip_rows = rows


def of_files(attack: str) -> str:
    """Name the row of an attack whose images come from the files they were saved in."""
    return f"{attack} (files)"


def warn_of_fractions(cfg: CfgNode) -> None:
    """Warn, once, of a budget that files of whole gray levels cannot hold."""
    eps = cfg.ATTACK.EPS
    if cfg.ATTACK.NORM == "linf" and not float(eps).is_integer():
        warn_once(
            f"ATTACK.EPS: {eps:g} with ATTACK.SAVE_IMAGES: files hold whole gray levels, so that "
            f"saved images differ by {math.floor(eps)} at most; their own rows, "
            f"'{of_files('ATTACK')}', tell what they are worth"
        )


def own_settings(attack: Attack) -> dict[str, Any]:
    """Numbers and words that an attack was told beside the shared ones, such as GOAT its guides."""
    own = vars(attack).keys() - {"threat", "recipe", "seed"}
    values = {name: getattr(attack, name) for name in own}
    return {name: value for name, value in values.items() if isinstance(value, (int, float, str))}


def from_main(value: Any) -> Any:
    """The main process' value, in every process."""
    if comm.get_world_size() == 1:
        return value
    box = [value]
    dist.broadcast_object_list(box, src=0)
    return box[0]


def deviation(outcomes: Scores, people: Tensor) -> dict[str, float]:
    """The entry "mAP-std" of a row, see ``person_deviation``."""
    return {"mAP-std": person_deviation(outcomes, people)}


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


def attacks_table(
    outcomes: dict[str, Outcomes], wins: dict[str, int], aims: dict[str, dict[str, float]]
) -> str:
    """What the attacks did, the queries whose Rank-1 only this one breaks, the aims reached."""
    rows = [
        {"attack": name, "unique wins": wins[name]}
        | (figures(outcomes[name]) | aims[name] if name in outcomes else {})
        for name in wins
    ]
    return tabulate(rows, headers="keys", tablefmt="pipe", floatfmt=".3g", numalign="left")
