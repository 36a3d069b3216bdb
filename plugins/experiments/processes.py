"""Start the processes of runs, record their settings and check their results.

The running process locks the log in its run's folder, so that two runs never use one folder.
"""

import contextlib
import fcntl
import os
import shlex
import shutil
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Protocol

import torch

from plugins.engine.output_folder import EVALUATION, RESULTS
from plugins.experiments.runs import FINAL, LOG, MARKER, Run, RunError
from plugins.experiments.stages import TEST_MARKER, Stage
from plugins.utils.io import write_json


class Process:
    """A process of a run, wherever it runs.

    Attributes:
        returncode: exit status; None before it is known.
        seconds: how long it ran; None where that is not known.
        device: name of its device, if only the process knows it.
        error: why there is no exit status of its own.
    """

    returncode: int | None = None
    seconds: float | None = None
    device: str | None = None
    error: str = ""

    def poll(self) -> int | None:
        """Return the exit status; None before the end."""
        raise NotImplementedError

    def terminate(self) -> None:
        """Let it save and end."""
        raise NotImplementedError

    def kill(self) -> None:
        """End it at once, with its children."""
        raise NotImplementedError

    def wait(self, seconds: float | None = None) -> None:
        """Wait for its end, at most so long."""
        raise NotImplementedError


class LocalProcess(Process):
    """A process of this machine."""

    def __init__(self, words: Sequence[str], log: IO[str], environment: Mapping[str, str]) -> None:
        """Start it with its output at the end of a log."""
        self._started = time.monotonic()
        self._process = subprocess.Popen(
            words,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=os.environ | environment,
            # Ctrl-C in the terminal reaches us alone; we end a run with all its loader's workers.
            start_new_session=True,
        )

    def poll(self) -> int | None:
        """Return the exit status; None before the end."""
        if self.returncode is None:
            self.returncode = self._process.poll()
            if self.returncode is not None:
                self.seconds = round(time.monotonic() - self._started, 1)
        return self.returncode

    def terminate(self) -> None:
        """Send SIGTERM to it and its children."""
        self._signal(signal.SIGTERM)

    def kill(self) -> None:
        """Send SIGKILL to it and its children."""
        self._signal(signal.SIGKILL)

    def wait(self, seconds: float | None = None) -> None:
        """Wait for its end, at most so long."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(seconds)
        self.poll()

    def _signal(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, number)


@dataclass(frozen=True)
class Task:
    """Describe what a process is to do.

    Attributes:
        words: the command line.
        log: file at whose end its output goes; the process holds its lock.
        environment: variables besides those that there are.
        folder: folder of the run.
        settings: config keys of the run.
        new: whether the run starts anew, so that an earlier process must not go on.
    """

    words: Sequence[str]
    log: IO[str]
    environment: Mapping[str, str]
    folder: Path
    settings: dict
    new: bool


class Executor(Protocol):
    """Starts the processes of runs somewhere."""

    def start(self, task: Task) -> Process:
        """Start a process, or find the one that an earlier command started for the same run."""

    def device(self, settings: dict) -> str | None:
        """Name the device that a run will have; None if only its process knows."""


@dataclass(frozen=True)
class LocalExecutor:
    """Starts processes of this machine."""

    def start(self, task: Task) -> Process:
        """Start a process; an earlier one would still hold the lock."""
        return LocalProcess(task.words, task.log, task.environment)

    def device(self, settings: dict) -> str | None:
        """Name the device of a run with these settings."""
        return device_name(settings)


LOCAL = LocalExecutor()


@dataclass(frozen=True)
class Job:
    """Hold a run whose process is alive.

    Attributes:
        run: run that the process works for.
        stage: evaluation that the process does; None for the training.
        process: the process.
        resumed: whether a training goes on.
    """

    run: Run
    stage: Stage | None
    process: Process
    resumed: bool

    def check(self) -> None:
        """Check the files that the ended process left.

        Raises:
            RunError: the process failed.
        """
        log, process = self.run.folder / LOG, self.process
        if process.returncode:
            why = process.error or f"exit status {process.returncode}"
            raise RunError(f"{why}, see {log}{last_error(log)}")
        written = self.stage.folder / EVALUATION if self.stage else self.run.folder / RESULTS
        if not written.is_file():
            raise RunError(f"wrote no {written.name}, see {log}")
        marker = self.run.started_with()
        known: dict[str, object] = {}
        if process.device:
            known["device"] = extended(marker.get("device"), process.device)
        if not self.stage and not self.resumed:
            known["seconds"] = process.seconds
        if known:
            write_json(self.run.folder / MARKER, marker | known, indent=1)


def last_error(log: Path) -> str:
    """Return ``": "`` and the last error line of a log; empty without one."""
    lines = log.read_text(errors="replace").splitlines()
    errors = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
    return f": {errors[-1]}" if errors else ""


def start(run: Run, train_net: Path, threads: int, executor: Executor = LOCAL) -> Job:
    """Start a run, or continue the run in its folder: its training, or its next test.

    Raises:
        RunError: another process has the folder, or it holds something else.
    """
    run.folder.mkdir(parents=True, exist_ok=True)
    with open(run.folder / LOG, "a") as log:
        try:
            fcntl.flock(log, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise RunError(
                f"{run.folder}: another process is at it, as after a kill of the command that "
                "started it; wait for it or end it, then repeat the command"
            ) from error
        return _start(run, train_net, threads, executor, log)


def _start(run: Run, train_net: Path, threads: int, executor: Executor, log: IO[str]) -> Job:
    state = run.state().split(":")[0]
    stage = run.untested()[0] if state == "trained" else None
    device = executor.device(run.row.settings)
    if stage:
        command, dataset = run.test_command(stage, train_net), stage.part
        prepare_stage(run, stage, device)
    else:
        command, dataset = run.command(train_net), run.ablation.dataset
        prepare_training(run, threads, device, resume=state == "resumed")
        if state != "resumed":
            log.truncate(0)
    log.write(f"$ {shlex.join(command)}\n")
    log.flush()
    root = str(dataset.root().resolve())
    task = Task(
        command,
        log,
        {"FASTREID_DATASETS": root, "OMP_NUM_THREADS": str(threads)},
        run.folder,
        run.row.settings,
        new=state in ("new", "replaced"),
    )
    return Job(run, stage, executor.start(task), state == "resumed")


def prepare_training(run: Run, threads: int, device: str | None, resume: bool) -> None:
    """Write the settings of a training into its folder, which is emptied unless it is resumed."""
    before = run.started_with() if resume else {}
    if not resume:
        clear(run.folder)
    about = sitting(before, device) | {"torch": torch.__version__, "threads": threads}
    about |= {"seconds": None}  # known when a run goes through at one go
    write_json(run.folder / MARKER, run.ablation.wanted(run.row) | about, indent=1)


def prepare_stage(run: Run, stage: Stage, device: str | None) -> None:
    """Write the settings of a test; a folder with the same settings keeps its files."""
    marker = run.started_with()
    write_json(run.folder / MARKER, marker | sitting(marker, device), indent=1)
    if stage.started():
        return
    if stage.folder.is_dir():
        shutil.rmtree(stage.folder)
    stage.folder.mkdir(parents=True)
    write_json(stage.folder / TEST_MARKER, stage.wanted(), indent=1)


def sitting(before: dict, device: str | None) -> dict[str, str]:
    """Collect the commits and devices of a run, all of them where they change during it."""
    now = {"commit": current_commit()} | ({"device": device} if device else {})
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
