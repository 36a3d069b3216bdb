"""Plan one run of an ablation: a training in its own process and folder, and its tests.

The folder of a run holds ``run.json``, the settings that it was started with, and ``train.log``,
its output. The running process locks its log, so that two runs never use one folder.
"""

import sys
from dataclasses import dataclass
from pathlib import Path

from plugins.engine.output_folder import RESULTS
from plugins.errors import InputError
from plugins.evaluation import Evaluation
from plugins.experiments.gather import gather_blocks, gather_queries
from plugins.experiments.plan import Ablation, Row, difference
from plugins.experiments.records import read_marker, read_scores
from plugins.experiments.signs import gather_signs
from plugins.experiments.stages import Stage, plugin_words, spelt, stages_of

MARKER, LOG, CONFIG, FINAL = "run.json", "train.log", "config.yaml", "model_final.pth"
# What a record takes from run.json beside the settings of the row; None where it is unknown.
RECORDED_TEXTS = ("commit", "torch", "device")
RECORDED = ("commit", "torch", "threads", "seconds")


class RunError(InputError):
    """Report a run without a result; the message names its log."""


@dataclass(frozen=True)
class Run:
    """Describe one row with one seed, in its folder.

    Attributes:
        ablation: the ablation, with this seed's number in it.
        row: row of the ablation.
        seed: number of the seed.
        folder: OUTPUT_DIR of the training.
    """

    ablation: Ablation
    row: Row
    seed: int
    folder: Path

    def __str__(self) -> str:
        """Return the name for messages and folders."""
        return f"{self.row.name}/seed{self.seed}"

    def commands(self, train_net: Path) -> list[list[str]]:
        """List the command lines that a start would still run, in their order."""
        trained = self.state().split(":")[0] in ("finished", "trained")
        stages = self.untested() if trained else self.stages()
        training = [] if trained else [self.command(train_net)]
        return training + [self.test_command(stage, train_net) for stage in stages]

    def test_command(self, stage: Stage, train_net: Path) -> list[str]:
        """Build the command line of an evaluation after the training."""
        command = stage.command(train_net, self.folder / CONFIG, self.folder / FINAL)
        return [*command, *plugin_words(self.row.plugins)]

    def stages(self) -> list[Stage]:
        """List the evaluations after the training."""
        return stages_of(list(self.ablation.tests.values()), self.folder)

    def untested(self) -> list[Stage]:
        """List the evaluations that have no result for the current file."""
        return [stage for stage in self.stages() if not stage.finished()]

    def command(self, train_net: Path) -> list[str]:
        """Build the command line of the training, which evaluates once, after the last epoch."""
        options = {
            **self.row.options,
            "SEED": self.seed,
            "TEST.EVAL_PERIOD": self.row.epochs,
            "TEST.EXPECTED_RESULTS": [],
        }
        words = [word for key, value in options.items() for word in (key, spelt(value))]
        tool = [sys.executable, str(train_net), "--config-file", self.ablation.config, "--resume"]
        return [*tool, *plugin_words(self.row.plugins), *words, "OUTPUT_DIR", str(self.folder)]

    def started_with(self) -> dict:
        """Return the settings that the folder's run, which has begun, was started with."""
        marker = self.marker()
        assert marker is not None, f"{self.folder}: no run has begun there"
        return marker

    def marker(self) -> dict | None:
        """Read the settings that the folder's run was started with; None in a new folder.

        Raises:
            RunError: the folder holds something else.
            InputError: the file is damaged.
        """
        file = self.folder / MARKER
        if file.is_file():
            return read_marker(file, "what a run was started with", RECORDED_TEXTS)
        if any(path.name != LOG for path in self.folder.glob("[!.]*")):
            raise RunError(f"{self.folder}: has no {MARKER}, so it is left alone; move it away")
        return None

    def state(self) -> str:
        """Describe the folder as a start would find it.

        ``new``, ``resumed``, ``replaced: <why>``, ``trained: <what it is still tested on>`` or
        ``finished``.

        Raises:
            RunError: the folder is not of a run.
            InputError: a file of the run is damaged.
        """
        marker = self.marker()
        if marker is None:
            return "new"
        if differences := difference(marker, self.ablation.wanted(self.row)):
            return f"replaced: {', '.join(differences)}"
        if not (self.folder / RESULTS).is_file():
            return "resumed"
        self.scores()
        left = ", ".join(str(stage) for stage in self.untested())
        return f"trained: {left}" if left else "finished"

    def scores(self) -> dict:
        """Read what the training found; raise InputError for a file that is damaged."""
        return read_scores(self.folder / RESULTS, "epochs")

    def result(self) -> dict:
        """Build the record of a finished run.

        Raises:
            RunError: it is not of the last epoch, or lacks a metric.
            InputError: a file of the run is damaged, or a metric is no finite number.
        """
        marker, saved = self.started_with(), self.scores()
        if missing := [key for key in RECORDED if key not in marker]:
            raise RunError(f"{self.folder / MARKER}: has no {', '.join(missing)}")
        if saved["epochs"] != self.row.epochs:
            raise RunError(f"{self.folder / RESULTS}: of epoch {saved['epochs']}, not the last")
        gathered = gather_blocks(self.ablation, self.row, self.folder, self.stages())
        blocks = {
            f"{dataset}/{name}" if len(gathered) > 1 else name: block
            for dataset, rows in gathered.items()
            for name, block in rows.items()
        }
        for task, metric in self.ablation.metrics:
            if metric not in blocks.get(task, {}):
                raise RunError(
                    f"{self.folder / RESULTS}: has no {task}/{metric}, which the ablation's "
                    f"metrics name; its directions: {', '.join(blocks)}"
                )
        tests = {name: test.record() for name, test in self.ablation.tests.items()}
        signs = gather_signs(self.folder)
        return {
            "row": self.row.name,
            "dataset": marker["dataset"],
            "seed": self.seed,
            "overrides": marker["overrides"],
            "commit": marker["commit"],
            "metrics": blocks,
            "epochs": saved["epochs"],
            "seconds": marker["seconds"],
            "torch": marker["torch"],
            "device": marker.get("device"),
            "threads": marker["threads"],
            "render": marker["render"],
            "settings": marker["settings"],
            "start": marker.get("start"),
            **({"images": marker["images"]} if "images" in marker else {}),
            **({"tests": tests} if tests else {}),
            **({"signs": signs} if signs else {}),
        }

    def queries(self) -> Evaluation | None:
        """Gather the results of each query; None for a run of an older version."""
        return gather_queries(self.ablation, self.row, self.folder, self.stages())


def plan_runs(
    ablation: Ablation, rows: list[Row], seeds: list[int] | None, logs: Path
) -> list[Run]:
    """List the runs of the grid, seed by seed, so that a stopped ablation has compared all rows.

    Args:
        ablation: ablation of the rows.
        rows: rows to run.
        seeds: seeds to run; None for those of each row.
        logs: folder of the logs of all ablations.
    """
    everything = dict.fromkeys(seed for row in rows for seed in (seeds or row.seeds))
    runs = []
    for seed in everything:
        at = ablation.at(seed)
        runs += [
            Run(at, at.rows[row.name], seed, logs / at.folder / row.name / f"seed{seed}")
            for row in rows
            if seed in (seeds or row.seeds)
        ]
    return runs
