"""Start the processes of runs, record their settings and check their results.

The running process locks the log in its run's folder, so that two runs never use one folder.
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

from plugins.engine.output_folder import EVALUATION, RESULTS
from plugins.experiments.runs import FINAL, LOG, MARKER, Run, RunError
from plugins.experiments.stages import TEST_MARKER, Stage
from plugins.utils.io import write_json


@dataclass(frozen=True)
class Job:
    """Hold a run whose process is alive.

    Attributes:
        run: run that the process works for.
        stage: evaluation that the process does; None for the training.
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
        """Check the files that the ended process left.

        Raises:
            RunError: the process failed.
        """
        log = self.run.folder / LOG
        if self.process.returncode:
            raise RunError(f"exit status {self.process.returncode}, see {log}{last_error(log)}")
        written = self.stage.folder / EVALUATION if self.stage else self.run.folder / RESULTS
        if not written.is_file():
            raise RunError(f"wrote no {written.name}, see {log}")
        if not self.stage and not self.resumed:
            seconds = round(time.monotonic() - self.started, 1)
            marker = self.run.started_with() | {"seconds": seconds}
            write_json(self.run.folder / MARKER, marker, indent=1)


def last_error(log: Path) -> str:
    """Return ``": "`` and the last error line of a log; empty without one."""
    lines = log.read_text(errors="replace").splitlines()
    errors = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
    return f": {errors[-1]}" if errors else ""


def start(run: Run, train_net: Path, threads: int) -> Job:
    """Start a run, or continue the run in its folder: its training, or its next test.

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
    """Write the settings of a training into its folder, which is emptied unless it is resumed."""
    before = run.started_with() if resume else {}
    if not resume:
        clear(run.folder)
    about = sitting(run, before) | {"torch": torch.__version__, "threads": threads}
    about |= {"seconds": None}  # known when a run goes through at one go
    write_json(run.folder / MARKER, run.ablation.wanted(run.row) | about, indent=1)


def prepare_stage(run: Run, stage: Stage) -> None:
    """Write the settings of a test; a folder with the same settings keeps its files."""
    marker = run.started_with()
    write_json(run.folder / MARKER, marker | sitting(run, marker), indent=1)
    if stage.started():
        return
    if stage.folder.is_dir():
        shutil.rmtree(stage.folder)
    stage.folder.mkdir(parents=True)
    write_json(stage.folder / TEST_MARKER, stage.wanted(), indent=1)


def sitting(run: Run, before: dict) -> dict[str, str]:
    """Collect the commits and devices of a run, all of them where they change during it."""
    now = {"commit": current_commit(), "device": device_name(run.row.settings)}
    return {key: extended(before.get(key), value) for key, value in now.items()}


def extended(names: str | None, name: str) -> str:
    """Append a new name to the names in a record.

    >>> extended(None, "CPU"), extended("CPU", "CPU"), extended("CPU", "GPU")
    ('CPU', 'CPU', 'CPU, GPU')
    """
    known = names.split(", ") if names else []
    return ", ".join(known if name in known else [*known, name])


def clear(folder: Path) -> None:
    """Empty the folder of a run, but for its locked log and the marker, which is replaced."""
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
    """Return the hash of the commit, with "+dirty" if more than results has changed since."""
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
    """Name the device of a run with these settings: ``CPU``, or the GPU's own name."""
    device = str(settings.get("MODEL.DEVICE", "cuda"))
    wanted = device.startswith("cuda") and torch.cuda.is_available()
    return torch.cuda.get_device_name(device) if wanted else "CPU"
