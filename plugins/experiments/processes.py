"""The processes of runs: how one is started, what it was started with, and what it left.

The running process keeps a lock on the log in its run's folder, so that no folder is ever used by
two.
"""

import fcntl
import os
import shlex
import shutil
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

import torch

from plugins.engine.defaults import EVALUATION, RESULTS
from plugins.experiments.runs import FINAL, LOG, MARKER, Run, RunError
from plugins.experiments.stages import TEST_MARKER, Stage
from plugins.utils.io import write_json


@dataclass(frozen=True)
class Job:
    """A run whose process is alive.

    Attributes:
        run: what is run.
        stage: the evaluation that the process does; None for the training.
        process: the process.
        started: monotonic seconds of its start.
        resumed: whether a training goes on.
    """

    run: Run
    stage: Stage | None
    process: subprocess.Popen
    started: float
    resumed: bool

    def check(self) -> None:
        """Look at what the process, which has ended, left.

        Raises:
            RunError: it failed.
        """
        log = self.run.folder / LOG
        if self.process.returncode:
            raise RunError(f"exit status {self.process.returncode}, see {log}{last_error(log)}")
        written = self.stage.folder / EVALUATION if self.stage else self.run.folder / RESULTS
        if not written.is_file():
            raise RunError(f"wrote no {written.name}, see {log}")
        if not self.stage and not self.resumed:
            seconds = round(time.monotonic() - self.started, 1)
            write_json(self.run.folder / MARKER, self.run.marker() | {"seconds": seconds}, indent=1)


def last_error(log: Path) -> str:
    """``": "`` and the one line that told a run's error, empty if none did."""
    lines = log.read_text(errors="replace").splitlines()
    told = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
    return f": {told[-1]}" if told else ""


def start(run: Run, train_net: Path, threads: int) -> Job:
    """Start a run, or go on with the one that its folder holds: its training, or its next test.

    Raises:
        RunError: another process has the folder, or it holds something else.
    """
    run.folder.mkdir(parents=True, exist_ok=True)
    with open(run.folder / LOG, "a") as log:
        try:
            fcntl.flock(log, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise RunError(f"{run.folder}: another process is at it; wait or end it") from error
        state = run.state().split(":")[0]
        stage = run.untested()[0] if state == "trained" else None
        if stage:
            command, dataset = run.test_command(stage, train_net), stage.part
            prepare_stage(run, stage)
        else:
            command, dataset = run.command(train_net), run.ablation.dataset
            prepare_training(run, threads, resume=state == "resumed")
            if state != "resumed":
                log.truncate(0)
        log.write(f"$ {shlex.join(command)}\n")
        log.flush()
        root = str(dataset.root().resolve())
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=os.environ | {"FASTREID_DATASETS": root, "OMP_NUM_THREADS": str(threads)},
            # Ctrl-C in the terminal reaches us alone; we end a run with all its loader's workers.
            start_new_session=True,
        )
    return Job(run, stage, process, time.monotonic(), resumed=state == "resumed")


def prepare_training(run: Run, threads: int, resume: bool) -> None:
    """Write what a training is started with into its folder, which is emptied unless it goes on."""
    before = run.marker() if resume else {}
    if not resume:
        clear(run.folder)
    about = sitting(run, before) | {"torch": torch.__version__, "threads": threads}
    about |= {"seconds": None}  # known when a run goes through at one go
    write_json(run.folder / MARKER, run.ablation.wanted(run.row) | about, indent=1)


def prepare_stage(run: Run, stage: Stage) -> None:
    """Write what a test is started with; a folder that began the same keeps what it holds."""
    marker = run.marker()
    write_json(run.folder / MARKER, marker | sitting(run, marker), indent=1)
    if stage.started():
        return
    if stage.folder.is_dir():
        shutil.rmtree(stage.folder)
    stage.folder.mkdir(parents=True)
    write_json(stage.folder / TEST_MARKER, stage.wanted(), indent=1)


def sitting(run: Run, before: dict) -> dict[str, str]:
    """Commits and devices of a run: code or a machine that changes during it is named."""
    now = {"commit": current_commit(), "device": device_name(run.row.settings)}
    return {key: extended(before.get(key), value) for key, value in now.items()}


def extended(names: str | None, name: str) -> str:
    """What a record says a run was made with, a new name at the end.

    >>> extended(None, "CPU"), extended("CPU", "CPU"), extended("CPU", "GPU")
    ('CPU', 'CPU', 'CPU, GPU')
    """
    known = names.split(", ") if names else []
    return ", ".join(known if name in known else [*known, name])


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
