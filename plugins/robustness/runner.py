"""The attacks of one report: each made once, on one model and one retrieval task.

Legend: Q attacked queries, R of them in a batch or in the subset.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from plugins.attacks import Attack, Guides, build_attack
from plugins.attacks.black_box.transfer import Transferred
from plugins.attacks.features import attacking, preserved_random_state
from plugins.robustness.attack_rows import GuidedBatches, RunsOnBatches, attack_rows
from plugins.robustness.directions import SearchedDirection
from plugins.robustness.evaluator import attack_settings
from plugins.robustness.levels import REFERENCE_ATTACK, Level
from plugins.robustness.results import AttackStats, Record, Scores, worst_scores
from plugins.robustness.task import RetrievalTask

# Rows of the batch on which the harness is tried.
SAMPLE = 4
# Relative difference of two forward passes that is rounding.
DETERMINISTIC = 1e-5


class AttackRunner:
    """Runs attacks on one model and one retrieval task.

    Each result is cached, also on disk, so that an interrupted report resumes.

    Attributes:
        cfg: config whose ATTACK section is the threat model.
        adapter: the model as it is ranked.
        task: the retrieval task.
        level: how much is attacked.
        rows: (Q,) attacked rows of query + gallery, ascending; each has a positive.
        guides: guides of these rows.
        clean_scores: scores of these queries without an attack.
        subset: (R,) some of the rows, for checks that vary an attack.
        threat: the threat model.
        direction: model and task together.
        other_seeds: the same direction with models of other training seeds.
    """

    def __init__(
        self,
        direction: SearchedDirection,
        level: Level,
        folder: Path,
        undefended: SearchedDirection | None = None,
        other_seeds: Sequence[SearchedDirection] = (),
    ) -> None:
        """Choose the queries.

        Args:
            direction: model and task to attack.
            level: how much to attack; ATTACK.QUERIES overrides its number of queries.
            folder: folder for the records of the attacks.
            undefended: the same direction with the same model without its defense.
            other_seeds: the same direction with models of the same config and other training seeds.
        """
        self.cfg, self.adapter, self.level = direction.cfg, direction.adapter, level
        self.direction, self.task = direction, direction.task
        self.rows = self._draw(self.task)
        self.guides = self.task.guides(self.rows)
        self.clean_scores = self.task.score(self.rows, self.guides.clean)
        indices = torch.linspace(0, len(self.rows) - 1, min(level.subset, len(self.rows)))
        self.subset = self.rows[indices.long()]
        self.threat = self.make_attack(REFERENCE_ATTACK).threat
        self.other_seeds = list(other_seeds)
        self._folder, self._undefended = folder, undefended
        self._stats: dict[str, AttackStats] = {}

    def make_attack(
        self, name: str, eps: float | None = None, norm: str | None = None, **recipe: Any
    ) -> Attack:
        """Build the attack of that name, with another budget or recipe where given.

        ATTACK.STEPS and RESTARTS make the reference attack stronger than the level does, never
        weaker.
        """
        attack = build_attack(name, self.cfg, "TEST.ATTACKS")
        if name == REFERENCE_ATTACK:
            steps = max(self.level.steps, self.cfg.ATTACK.STEPS)
            restarts = max(self.level.restarts, self.cfg.ATTACK.RESTARTS)
            recipe = {"steps": steps, "restarts": restarts} | recipe
        attack.threat = replace(
            attack.threat,
            eps=attack.threat.eps if eps is None else eps,
            norm=attack.threat.norm if norm is None else norm,
        )
        attack.recipe = replace(attack.recipe, **recipe)
        return attack

    def run_on_all(self, name: str, **changes: Any) -> AttackStats:
        """Run an attack of ``make_attack`` on all queries."""
        return self.run(name, self.make_attack(name, **changes), self.rows)

    def run_on_subset(self, name: str, **changes: Any) -> AttackStats:
        """Run an attack on the subset; a run on all queries is not repeated."""
        attack = self.make_attack(name, **changes)
        return self._select_subset(name, attack) or self.run(name, attack)

    def breaking(self, name: str, **changes: Any) -> Attack:
        """Build the attack of ``make_attack`` so that it leaves a query as soon as Rank-1 fails.

        It suits checks that compare Rank-1 alone. Of a random model a query may fail by luck, so
        that its attack goes on.
        """
        return self.make_attack(name, skip_successful=self.deterministic, **changes)

    def break_subset(self, name: str, **changes: Any) -> AttackStats:
        """Run an attack of ``breaking`` on the subset; a run on all queries is not repeated."""
        whole = self._select_subset(name, self.make_attack(name, **changes))
        return whole or self.run(name, self.breaking(name, **changes))

    def _select_subset(self, name: str, attack: Attack) -> AttackStats | None:
        """Return the subset's part of a run on all queries; None if there was no such run."""
        stats = self._stats.get(self._key(name, attack, self.rows, self.direction))
        return stats.select(self.subset) if stats else None

    def run(
        self,
        name: str,
        attack: RunsOnBatches,
        rows: Tensor | None = None,
        direction: SearchedDirection | None = None,
    ) -> AttackStats:
        """Run any attack, or return its cached result.

        Args:
            name: name that, with threat, recipe and seed, distinguishes the attack from others.
            attack: the attack.
            rows: rows to attack; by default the subset.
            direction: model and task to attack; by default those of the report.
        """
        rows = self.subset if rows is None else rows
        direction = direction or self.direction
        key = self._key(name, attack, rows, direction)
        if key not in self._stats:
            record = Record(self._folder, f"{name}_{key[:12]}".replace(" ", "_"), key)
            stats = record.read()
            if stats is None:
                task, batches = direction.task, direction.batches(rows)
                both = isinstance(attack, Attack) and attack.both_sides
                others = direction.batches(self._draw(task.other_side())) if both else ()
                row_stats = attack_rows(
                    attack, direction.adapter, task, batches, record, others=others
                )
                stats = task.with_scores(row_stats)
                record.keep(stats, describe_run(name, attack, task, rows))
            self._stats[key] = stats
        return self._stats[key]

    def transferred(self) -> tuple[AttackStats, AttackStats] | None:
        """Craft images on the undefended model for the subset; score them on both models."""
        surrogate = self._undefended
        if surrogate is None:
            return None
        attack = self.make_attack(REFERENCE_ATTACK)
        carried = Transferred(attack, surrogate.adapter, surrogate.task.guides)
        name = f"{REFERENCE_ATTACK} from undefended {surrogate.fingerprint[:12]}"
        return self.run(REFERENCE_ATTACK, attack, direction=surrogate), self.run(name, carried)

    @property
    def level_attacks(self) -> tuple[str, ...]:
        """Names of the attacks of the level, the reference attack last."""
        return (*self.level.attacks, REFERENCE_ATTACK)

    def run_level(self) -> dict[str, AttackStats]:
        """Run the attacks of the level on all queries."""
        return {name: self.run_on_all(name) for name in self.level_attacks}

    def worst_scores(self) -> Scores:
        """Return the per-query worst of the clean scores and all attacks of the level."""
        return worst_scores({"clean": self.clean_scores, **self.run_level()})

    def batches(self, rows: Tensor) -> GuidedBatches:
        """Return the clips of rows, in batches, with their guides."""
        return GuidedBatches(self.adapter, self.task, self.direction.batches(rows))

    @cached_property
    def sample(self) -> tuple[dict, Guides]:
        """A few queries of the subset in one batch, with their guides."""
        return next(iter(self.batches(self.subset[:: max(len(self.subset) // SAMPLE, 1)][:SAMPLE])))

    def attacked_sample(self, name: str) -> Tensor:
        """Return the images of the sample under an attack of one start that saw no other rows."""
        attack = self.make_attack(name, restarts=1)
        with attacking(self.adapter.model):
            attack = attack.prepare(self.adapter, [self.sample])
        return attack.run(self.adapter, *self.sample).images

    @property
    def camids(self) -> Tensor:
        """(Q,) cameras of the rows, on the CPU."""
        return self.task.camids[self.rows].cpu()

    def person_name(self, label: int) -> str:
        """Return the data set's own name of a person."""
        return self.direction.person_name(label)

    def camera_name(self, label: int) -> str:
        """Return the data set's own name of a camera."""
        return self.direction.camera_name(label)

    @property
    def deterministic(self) -> bool:
        """Whether two forward passes agree up to rounding."""
        return self.forward_change <= DETERMINISTIC

    @cached_property
    def forward_change(self) -> float:
        """Compare two forward passes of one batch; return 0 for a deterministic model."""
        batch, _ = self.sample
        with torch.no_grad(), preserved_random_state():
            return relative_change(self.adapter(batch), self.adapter(batch))

    def all_stats(self) -> list[AttackStats]:
        """Return the statistics of everything that was run, for the cost of the report."""
        return list(self._stats.values())

    def _draw(self, task: RetrievalTask) -> Tensor:
        return task.draw(self.cfg.ATTACK.QUERIES or self.level.queries, self.cfg.ATTACK.SEED)

    def _key(
        self, name: str, attack: RunsOnBatches, rows: Tensor, direction: SearchedDirection
    ) -> str:
        parts = (direction.fingerprint, direction.task.name, name, attack.threat, attack.recipe)
        own = sorted(attack_settings(attack).items()) if isinstance(attack, Attack) else ()
        values = (*parts, attack.seed, rows.tolist(), *own)
        return hashlib.sha256(repr(values).encode()).hexdigest()


def describe_run(name: str, attack: RunsOnBatches, task: RetrievalTask, rows: Tensor) -> dict:
    """Describe one run by plain values."""
    return {
        "attack": name,
        "task": task.name,
        "rows": len(rows),
        "threat": asdict(attack.threat),
        "recipe": asdict(attack.recipe),
        "seed": attack.seed,
    }


def relative_change(features: Tensor, others: Tensor) -> float:
    """Compute the largest |a - b| / |b| over the rows of (R, D) and (R, D)."""
    gaps = (features.cpu() - others.cpu()).norm(dim=1)
    return float((gaps / others.cpu().norm(dim=1).clamp_min(1e-12)).max())
