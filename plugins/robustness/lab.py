"""What the checks of one report share: the model, its search, its queries, and every attack once.

Legend: Q attacked queries, R of them in a batch.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from plugins.attacks import Attack, Guides, build_attack
from plugins.attacks.black_box.transfer import Transferred
from plugins.attacks.features import preserved_random_state
from plugins.robustness.outcomes import Outcomes, Scores, worst_scores
from plugins.robustness.records import Record
from plugins.robustness.robust_evaluator import RobustEvaluator
from plugins.robustness.scenes import Scene
from plugins.robustness.searches import GuidedBatches, attack_search

# The attack by which Rank-1 is judged; the others are what the field reports.
MEASURE = "RankMargin"
# Rows of the batch on which the harness is tried.
SAMPLE = 4


@dataclass(frozen=True)
class Level:
    """How much a report does.

    Attributes:
        queries: attacked, drawn with ATTACK.SEED; 0 for all.
        probes: queries of the experiments that vary an attack, spread evenly over those.
        attacks: beside the measure; FNA is one of them.
        steps: gradient steps of the measure.
        restarts: of the measure.
        more_restarts: to which they are raised to see whether that matters.
        curve: budgets of the curve, in eps, beside eps itself and one far beyond.
        draws: of random noise.
        searches: forward passes of the random search.
        seeds: beside ATTACK.SEED, with which the measure is repeated.
        hops: probes of HopSkipJump; 0 for none.
    """

    queries: int
    probes: int
    attacks: tuple[str, ...]
    steps: int
    restarts: int
    more_restarts: int
    curve: tuple[float, ...]
    draws: int
    searches: int
    seeds: int
    hops: int


FIELD = ("SMA", "FNA")
OTHERS = ("MetricIFGSM", "MetricMIFGSM", "ODFA", "NearestPushPull", "SoftAP")
LEVELS = {
    "quick": Level(200, 32, FIELD, 20, 1, 2, (0.5, 2.0), 10, 100, 2, 0),
    "standard": Level(1000, 100, FIELD + OTHERS, 50, 1, 5, (0.25, 0.5, 2.0, 4.0), 20, 500, 2, 0),
    "full": Level(
        0, 500, FIELD + OTHERS, 100, 5, 10, (0.125, 0.25, 0.5, 2.0, 4.0), 50, 2000, 4, 16
    ),
}


class Lab:
    """Attacks one model on one search, none twice; also not after a kill.

    Attributes:
        cfg: whose ATTACK section is the threat model.
        adapter: the model as it is ranked.
        search: what is searched where.
        level: how much is done.
        rows: (Q,) attacked rows of query + gallery, ascending; each has a positive.
        guides: of these rows.
        clean: what they find when nobody attacks.
        probes: (R,) some of the rows.
        threat: the threat model.
        scene: the model and the search.
        trainings: the same of further trainings.
    """

    def __init__(
        self,
        evaluator: RobustEvaluator,
        direction: str,
        level: Level,
        folder: Path,
        twin: RobustEvaluator | None = None,
        trainings: Sequence[RobustEvaluator] = (),
    ) -> None:
        """Choose the queries.

        Args:
            evaluator: after its ``evaluate``.
            direction: of its data set.
            level: how much to do; ATTACK.QUERIES overrides its number of queries.
            folder: for the records of the attacks.
            twin: of the same model without its defence, after its ``evaluate``.
            trainings: of the same config trained with other seeds, likewise.
        """
        self.cfg, self.adapter, self.level = evaluator.cfg, evaluator.adapter, level
        self.scene = Scene(evaluator, direction)
        self.search = self.scene.search
        self.rows = self.search.draw(self.cfg.ATTACK.QUERIES or level.queries, self.cfg.ATTACK.SEED)
        self.guides = self.search.guides(self.rows)
        self.clean = self.search.score(self.rows, self.guides.clean)
        places = torch.linspace(0, len(self.rows) - 1, min(level.probes, len(self.rows)))
        self.probes = self.rows[places.long()]
        self.threat = self.attack(MEASURE).threat
        self.trainings = [Scene(one, direction) for one in trainings]
        self._folder = folder
        self._twin = twin and Scene(twin, direction)
        self._outcomes: dict[str, Outcomes] = {}

    def attack(
        self, name: str, eps: float | None = None, norm: str | None = None, **recipe: Any
    ) -> Attack:
        """The attack of that name, with another budget or recipe; the measure's is the level's.

        ATTACK.STEPS and RESTARTS make the measure stronger, never weaker.
        """
        attack = build_attack(name, self.cfg, "TEST.ATTACKS")
        if name == MEASURE:
            steps = max(self.level.steps, self.cfg.ATTACK.STEPS)
            restarts = max(self.level.restarts, self.cfg.ATTACK.RESTARTS)
            recipe = {"steps": steps, "restarts": restarts} | recipe
        changed = {"eps": eps, "norm": norm}
        changed = {field: value for field, value in changed.items() if value is not None}
        threat = replace(attack.threat, **changed)
        return type(attack)(threat, replace(attack.recipe, **recipe), attack.seed)

    def outcomes(self, name: str, **changes: Any) -> Outcomes:
        """An attack on all queries."""
        return self.run(name, self.attack(name, **changes), self.rows)

    def probe(self, name: str, **changes: Any) -> Outcomes:
        """An attack on the probes; if it was made on all queries, it is not made again."""
        attack = self.attack(name, **changes)
        done = self._outcomes.get(self._key(name, attack, self.rows, self.scene))
        return select_rows(done, self.probes) if done else self.run(name, attack)

    def run(
        self, name: str, attack: Attack, rows: Tensor | None = None, scene: Scene | None = None
    ) -> Outcomes:
        """Any attack on the probes, or what is known of it.

        Args:
            name: with threat, recipe and seed it tells one attack from another.
            attack: the attack.
            rows: others than the probes.
            scene: another than the lab's.
        """
        rows, scene = self.probes if rows is None else rows, scene or self.scene
        key = self._key(name, attack, rows, scene)
        if key not in self._outcomes:
            record = Record(self._folder, f"{name}_{key[:12]}".replace(" ", "_"), key)
            outcomes = record.read()
            if outcomes is None:
                search = scene.search
                attacked = attack_search(attack, scene.adapter, search, scene.batches(rows), record)
                outcomes = search.outcomes(attacked)
                told = {"attack": name, "search": search.name, "rows": len(rows)}
                told |= {"threat": asdict(attack.threat), "recipe": asdict(attack.recipe)}
                record.keep(outcomes, told | {"seed": attack.seed})
            self._outcomes[key] = outcomes
        return self._outcomes[key]

    def transferred(self) -> tuple[Outcomes, Outcomes] | None:
        """The measure made on the twin for the probes: tried there, and on the model."""
        if self._twin is None:
            return None
        twin, attack = self._twin, self.attack(MEASURE)
        carried = Transferred(attack, twin.adapter, twin.search.guides)
        name = f"{MEASURE} from the twin {twin.fingerprint[:12]}"
        return self.run(MEASURE, attack, scene=twin), self.run(name, carried)

    def attacks(self) -> dict[str, Outcomes]:
        """The level's attacks on all queries, the measure last."""
        return {name: self.outcomes(name) for name in (*self.level.attacks, MEASURE)}

    def worst(self) -> Scores:
        """What each query finds at worst: clean, or under any of the level's attacks."""
        return worst_scores({"clean": self.clean, **self.attacks()})

    def batches(self, rows: Tensor) -> GuidedBatches:
        """The clips of rows, in batches, with their guides."""
        return GuidedBatches(self.adapter, self.search, self.scene.batches(rows))

    @cached_property
    def sample(self) -> tuple[dict, Guides]:
        """A few probes in one batch, for checks that need no more, with their guides."""
        return next(iter(self.batches(self.probes[:: max(len(self.probes) // SAMPLE, 1)][:SAMPLE])))

    @property
    def camids(self) -> Tensor:
        """(Q,) cameras of the rows, on the CPU."""
        return self.search.camids[self.rows].cpu()

    def forward_change(self) -> float:
        """Relative difference of two forward passes of one batch; 0 for a deterministic model."""
        batch, _ = self.sample
        with torch.no_grad(), preserved_random_state():
            return relative_change(self.adapter(batch), self.adapter(batch))

    def all_outcomes(self) -> list[Outcomes]:
        """Everything that was run, for the bill."""
        return list(self._outcomes.values())

    def _key(self, name: str, attack: Attack, rows: Tensor, scene: Scene) -> str:
        told = (scene.fingerprint, scene.search.name, name, attack.threat, attack.recipe)
        return hashlib.sha256(repr((*told, attack.seed, rows.tolist())).encode()).hexdigest()


def relative_change(features: Tensor, others: Tensor) -> float:
    """Largest |a - b| / |b| over the rows of (R, D) and (R, D)."""
    gaps = (features.cpu() - others.cpu()).norm(dim=1)
    return float((gaps / others.cpu().norm(dim=1).clamp_min(1e-12)).max())


def select_rows(outcomes: Outcomes, rows: Tensor) -> Outcomes:
    """The outcomes of some rows; what it cost is that of all."""
    kept = torch.isin(outcomes.rows, rows.to(outcomes.rows.device))
    columns = {
        name: value[kept] for name, value in vars(outcomes).items() if torch.is_tensor(value)
    }
    return replace(outcomes, **columns)


def rank_1(outcomes: Scores) -> float:
    """Rank-1 in percent, over the queries that have a positive."""
    return 100 * float(outcomes.hit[outcomes.valid].double().mean())
