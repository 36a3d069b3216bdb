"""One run of an ablation: a real training in a process and a folder of its own.

A run's folder holds ``run.json``, what it was started with, and ``train.log``, what it printed. The
running process keeps a lock on its log, so that no folder is ever used by two.
"""

import fcntl
import keyword
import os
import shlex
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import torch

from plugins.engine.defaults import RESULTS
from plugins.errors import InputError
from plugins.experiments.plan import Ablation, Row, difference
from plugins.utils.io import read_json, write_json

MARKER, LOG, FINAL = "run.json", "train.log", "model_final.pth"


class RunError(InputError):
    """A run that gave no result; the message names its log."""


@dataclass(frozen=True)
class Run:
    """One row with one seed, in its folder."""

    ablation: Ablation
    row: Row
    seed: int
    folder: Path

    def __str__(self) -> str:
        """As in messages and folders."""
        return f"{self.row.name}/seed{self.seed}"

    def command(self, train_net: Path) -> list[str]:
        """The command line; evaluates once, after the last epoch."""
        options = {
            **self.row.options,
            "SEED": self.seed,
            "TEST.EVAL_PERIOD": self.row.epochs,
            "TEST.EXPECTED_RESULTS": [],
        }
        words = [word for key, value in options.items() for word in (key, spelt(value))]
        tool = [sys.executable, str(train_net), "--config-file", self.ablation.config, "--resume"]
        return [*tool, *words, "OUTPUT_DIR", str(self.folder)]

    def marker(self) -> dict | None:
        """What the folder's run was started with; None in a new folder.

        Raises:
            RunError: the folder holds something else.
        """
        file = self.folder / MARKER
        if file.is_file():
            return read_json(file, "what a run was started with")
        if any(path.name != LOG for path in self.folder.glob("[!.]*")):
            raise RunError(f"{self.folder}: has no {MARKER}, so it is left alone; move it away")
        return None

    def state(self) -> str:
        """What a start would do: ``new``, ``resumed``, ``finished`` or ``replaced: <why>``."""
        marker = self.marker()
        if marker is None:
            return "new"
        if differences := difference(marker, self.ablation.wanted(self.row)):
            return f"replaced: {', '.join(differences)}"
        return "finished" if (self.folder / RESULTS).is_file() else "resumed"

    def result(self) -> dict:
        """The record of a finished run.

        Raises:
            RunError: it is not of the last epoch, or lacks a metric.
        """
        marker, saved = self.marker(), read_json(self.folder / RESULTS)
        (blocks,) = saved["results"].values()
        blocks = {name: block for name, block in blocks.items() if isinstance(block, dict)}
        if self.row.settings.get("TEST.ATTACKS"):
            blocks = by_attack(blocks)
        if saved["epochs"] != self.row.epochs:
            raise RunError(f"{self.folder / RESULTS}: of epoch {saved['epochs']}, not the last")
        for direction, metric in self.ablation.metrics:
            if metric not in blocks.get(direction, {}):
                raise RunError(
                    f"{self.folder / RESULTS}: has no {direction}/{metric}, which the ablation's "
                    f"metrics name; its directions: {', '.join(blocks)}"
                )
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
        }


def by_attack(blocks: dict[str, dict]) -> dict[str, dict]:
    """Blocks under attack, by direction; where there is one direction, by attack.

    >>> by_attack({"Q2G": {"mAP": 9.0}, "Q2G+FNA": {"mAP": 1.0}})
    {'clean': {'mAP': 9.0}, 'FNA': {'mAP': 1.0}}
    """
    direction, *others = {name.split("+")[0] for name in blocks}
    if others or direction not in blocks:
        return blocks
    return {name.partition("+")[2] or "clean": block for name, block in blocks.items()}


@dataclass(frozen=True)
class Job:
    """A run whose process is alive."""

    run: Run
    process: subprocess.Popen
    started: float
    resumed: bool

    def result(self) -> dict:
        """The record of the run, whose process has ended.

        Raises:
            RunError: it failed.
        """
        if self.process.returncode:
            log = self.run.folder / LOG
            raise RunError(f"exit status {self.process.returncode}, see {log}{last_error(log)}")
        if not (self.run.folder / RESULTS).is_file():
            raise RunError(f"wrote no {RESULTS}, see {self.run.folder / LOG}")
        if not self.resumed:
            seconds = round(time.monotonic() - self.started, 1)
            write_json(self.run.folder / MARKER, self.run.marker() | {"seconds": seconds}, indent=1)
        return self.run.result()


def last_error(log: Path) -> str:
    """``": "`` and the one line that told a run's error, empty if none did."""
    lines = log.read_text(errors="replace").splitlines()
    told = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
    return f": {told[-1]}" if told else ""


def plan_runs(ablation: Ablation, rows: list[Row], seeds: list[int], logs: Path) -> list[Run]:
    """The grid, seed by seed, so that an ablation that is stopped has compared all rows."""
    return [
        Run(ablation, row, seed, logs / ablation.folder / row.name / f"seed{seed}")
        for seed in seeds
        for row in rows
    ]


def start(run: Run, train_net: Path, threads: int) -> Job:
    """Start a run, or go on with the one that its folder holds.

    Raises:
        RunError: another process has the folder, or it holds something else.
    """
    run.folder.mkdir(parents=True, exist_ok=True)
    with open(run.folder / LOG, "a") as log:
        try:
            fcntl.flock(log, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise RunError(f"{run.folder}: another process is at it; wait or end it") from error
        marker = run.marker() if run.state() == "resumed" else None
        if marker is None:
            clear(run.folder)
            log.truncate(0)
        # Code or a machine that changes during a run is named, not hidden.
        now = {"commit": current_commit(), "device": device_name(run.row.settings)}
        about = {key: extended((marker or {}).get(key), value) for key, value in now.items()}
        about |= {"torch": torch.__version__, "threads": threads}
        about |= {"seconds": None}  # known when a run goes through at one go
        write_json(run.folder / MARKER, run.ablation.wanted(run.row) | about, indent=1)
        command = run.command(train_net)
        log.write(f"$ {shlex.join(command)}\n")
        log.flush()
        root = str(run.ablation.dataset.root().resolve())
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=os.environ | {"FASTREID_DATASETS": root, "OMP_NUM_THREADS": str(threads)},
            # Ctrl-C in the terminal reaches us alone; we end a run with all its loader's workers.
            start_new_session=True,
        )
    return Job(run, process, time.monotonic(), resumed=marker is not None)


def extended(names: str | None, name: str) -> str:
    """What a record says a run was made with, a new name at the end.

    >>> extended(None, "CPU"), extended("CPU", "CPU"), extended("CPU", "GPU")
    ('CPU', 'CPU', 'CPU, GPU')
    """
    known = names.split(", ") if names else []
    return ", ".join(known if name in known else [*known, name])


def spelt(value: object) -> str:
    """A config value on a command line, where yacs would read a bare '50' as a number.

    >>> spelt("STIG"), spelt("50"), spelt([1, 2])
    ('STIG', "'50'", '[1, 2]')
    """
    bare = isinstance(value, str) and value.isidentifier() and not keyword.iskeyword(value)
    return value if bare else repr(value)


def clear(folder: Path) -> None:
    """Empty a run's folder but for its locked log, and the marker, which is replaced in one go."""
    for path in folder.iterdir():
        if path.is_dir():
            shutil.rmtree(path)
        elif path.name not in (LOG, MARKER):
            path.unlink()


def keep_only_final(folder: Path) -> None:
    """Remove the checkpoints that a recorded run no longer needs."""
    for path in folder.glob("model_*.pth"):
        if path.name != FINAL:
            path.unlink()


def current_commit() -> str:
    """Hash of the checkout's commit, "+dirty" if more than results has changed since."""
    root = Path(__file__).resolve().parents[2]

    def git(*words: str) -> str:
        done = subprocess.run(["git", "-C", root, *words], capture_output=True, text=True)
        return done.stdout.strip() if done.returncode == 0 else ""

    commit = git("rev-parse", "HEAD")
    if not commit:
        return "unknown"
    others = git("status", "--porcelain", "--", ".", ":(exclude,glob)projects/*/results/**")
    return commit + ("+dirty" if others else "")


def device_name(settings: dict) -> str:
    """What a run with these settings computes on: ``CPU``, or what the GPU calls itself."""
    device = str(settings.get("MODEL.DEVICE", "cuda"))
    wanted = device.startswith("cuda") and torch.cuda.is_available()
    return torch.cuda.get_device_name(device) if wanted else "CPU"
