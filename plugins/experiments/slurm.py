"""Run the processes of an ablation as jobs of a Slurm cluster, through submitit (an extra).

A job outlives the command that submitted it: the same command finds it again, by the file that it
leaves beside the run's folder. Folders, data and environment must be the same on all nodes.
"""

import logging
import os
import re
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from plugins.errors import InputError, one_line
from plugins.experiments.processes import Process, Task, device_name
from plugins.utils.io import read_mapping, write_json
from plugins.utils.values import json_value

SUBMITTED = "submitted.json"
CPUS = "cpus-per-task"
MOST_TIMEOUTS = 1000  # times that a job is queued again
MINUTES = 240  # of a job; one that needs more is queued again and goes on
SAVING = 60.0  # seconds that a command has to save; Slurm tells 90 seconds before the end
QUIET = 15.0  # seconds that a result may take from the node's disk to ours
ENDED_BADLY = 1


class NodeCommand:
    """What a node does: run a command, with its output at the end of a log.

    Attributes:
        words: the command line.
        log: file of its output.
        environment: what it is to find in its environment besides the node's own.
        settings: config keys of the run, which tell its device.
    """

    def __init__(
        self, words: Sequence[str], log: Path, environment: Mapping[str, str], settings: dict
    ) -> None:
        self.words, self.log = list(words), log
        self.environment, self.settings = dict(environment), settings
        self._process: subprocess.Popen | None = None
        self._goes_on = False

    def __call__(self) -> dict[str, Any]:
        """Run it; return exit status, device, and seconds unless it goes on from an earlier job."""
        started = time.monotonic()
        with open(self.log, "a") as log:
            self._process = subprocess.Popen(
                self.words,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=os.environ | self.environment,
                # Slurm tells all processes that the time is over, but only we answer.
                preexec_fn=lambda: signal.signal(signal.SIGUSR2, signal.SIG_IGN),
            )
        # Not wait(), whose lock the handler of a signal would wait for in vain.
        while (status := self._process.poll()) is None:
            time.sleep(0.2)
        seconds = None if self._goes_on else round(time.monotonic() - started, 1)
        return {"status": status, "seconds": seconds, "device": device_name(self.settings)}

    def checkpoint(self) -> Any:
        """Let the command save and end as the time is over; queued again, it goes on."""
        import submitit

        if self._process is not None:
            end = time.monotonic() + SAVING
            self._process.terminate()
            while self._process.poll() is None and time.monotonic() < end:
                time.sleep(0.2)
            self._process, self._goes_on = None, True  # a process cannot be pickled
        return submitit.helpers.DelayedSubmission(self)


class Submitted(Process):
    """A job of a cluster, as a process."""

    def __init__(self, job: Any, cluster: str, log: IO[str]) -> None:
        """Watch a job of submitit, and hold the lock of its log for it, as no node does."""
        self._job, self._cluster = job, cluster
        self._lock: IO[str] | None = os.fdopen(os.dup(log.fileno()), "a")
        self._lost_since: float | None = None

    def poll(self) -> int | None:
        """Return the exit status; None while the job waits or runs."""
        if self.returncode is None:
            if self._job.paths.result_pickle.is_file():
                self._close()
            elif self._is_lost():
                self.returncode = ENDED_BADLY
                self.error = f"job {self._job.job_id} ended without a result"
            if self.returncode is not None:
                self.release()
        return self.returncode

    def release(self) -> None:
        """Give the lock back."""
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def terminate(self) -> None:
        """Let the job save and end; one that waits is taken from the queue."""
        self._job.cancel(check=False)

    def kill(self) -> None:
        """End the job at once."""
        if self._cluster == "slurm":
            words = ["scancel", "--signal=KILL", "--full", str(self._job.job_id)]
            subprocess.run(words, capture_output=True)
        else:
            self._job.cancel(check=False)

    def wait(self, seconds: float | None = None) -> None:
        """Wait until the job has ended, at most so long."""
        end = None if seconds is None else time.monotonic() + seconds
        while self.poll() is None and (end is None or time.monotonic() < end):
            time.sleep(0.5)

    def _close(self) -> None:
        error = self._job.exception()
        if error:
            self.returncode, self.error = ENDED_BADLY, one_line(error)[-300:]
            return
        result = self._job.result()
        self.returncode, self.seconds = result["status"], result["seconds"]
        self.device = result["device"]

    def _is_lost(self) -> bool:
        """Tell whether the cluster does not know the job any more, and its result is overdue."""
        if self._cluster != "slurm":
            return self._job.done()
        if is_queued(self._job.job_id):
            self._lost_since = None
            return False
        self._lost_since = self._lost_since or time.monotonic()
        return time.monotonic() - self._lost_since > QUIET


class SlurmExecutor:
    """Submits commands; see ``processes.Executor``.

    Attributes:
        options: options of sbatch, such as ``{"partition": "gpu", "gres": "gpu:1"}``.
        cluster: "slurm"; "local" runs the jobs here, for a trial.
    """

    def __init__(self, options: Mapping[str, str], cluster: str = "slurm") -> None:
        """Check that submitit and the cluster are there.

        Raises:
            InputError: says which of both is missing, or that the number of CPUs is none.
        """
        try:
            import submitit
        except ImportError as error:
            raise InputError(
                "--executor slurm needs submitit: pip install fastreid-plugins[slurm]"
            ) from error
        # Its calls of sacct fail where no accounts are kept; squeue tells enough.
        logging.getLogger("submitit").setLevel(logging.ERROR)
        self.options, self.cluster, self._submitit = dict(options), cluster, submitit
        if not (cpus := self.options.get(CPUS, "1")).isdecimal():
            raise InputError(f"--slurm {CPUS}={cpus}: expected a whole number")
        self._minutes = minutes(self.options.get("time", str(MINUTES)))
        if cluster == "slurm" and not is_there():
            raise InputError("--executor slurm: no cluster answers; expected `sinfo` to list nodes")

    def start(self, task: Task) -> Process:
        """Submit a job, or find the one that an earlier command submitted for the run."""
        folder = task.folder
        place = folder.with_name(f"{folder.name}.{self.cluster}").resolve()
        found = self._submitted(place, task.log)
        if found is not None and not task.new:
            return found
        if found is not None:  # for other settings
            found.kill()
            found.wait(QUIET)
            found.release()
        executor = self._submitit.AutoExecutor(
            place, cluster=self.cluster, slurm_max_num_timeout=MOST_TIMEOUTS
        )
        executor.update_parameters(name=f"{folder.parent.name}-{folder.name}", **self._resources())
        log = Path(task.log.name).resolve()
        command = NodeCommand(task.words, log, task.environment, task.settings)
        try:
            job = executor.submit(command)
        except self._submitit.core.utils.FailedJobError as error:
            raise InputError(f"--slurm: {one_line(error)}") from error
        write_json(place / SUBMITTED, {"job": str(job.job_id)})
        return Submitted(job, self.cluster, task.log)

    def device(self, settings: dict) -> str | None:
        """Return None: only the node knows its device."""
        return None

    def _resources(self) -> dict[str, Any]:
        if self.cluster != "slurm":
            return {"timeout_min": MINUTES}
        options = {name: value for name, value in self.options.items() if name != "time"}
        return {
            "timeout_min": self._minutes,
            "cpus_per_task": int(options.pop(CPUS, 1)),
            "slurm_additional_parameters": options,
        }

    def _submitted(self, place: Path, log: IO[str]) -> Submitted | None:
        """Return the job that was submitted from a folder, if it waits or runs."""
        file = place / SUBMITTED
        if self.cluster != "slurm" or not file.is_file():
            return None
        number = job_number(file)
        if not is_queued(number):
            return None
        job: Any = self._submitit.SlurmJob(folder=place, job_id=number)
        return Submitted(job, self.cluster, log)


def job_number(file: Path) -> str:
    """Read the number of a submitted job from its folder.

    Raises:
        InputError: the file holds none; the message says how to go on.
    """
    number = read_mapping(file, expected := "the number of a submitted job").get("job")
    if not isinstance(number, str) or not re.fullmatch(r"\d+(_\d+)?", number):
        raise InputError(
            f"{file}: job: found {json_value(number)}; expected {expected}, such as '123'; if "
            "squeue lists no job of this run, remove the file"
        )
    return number


def minutes(text: str) -> int:
    """Read a time as sbatch does: minutes, M:S, H:M:S, D-H, D-H:M or D-H:M:S; seconds count up.

    >>> minutes("90"), minutes("4:00:00"), minutes("1-2"), minutes("0:30")
    (90, 240, 1560, 1)

    Raises:
        InputError: it is written in another way.
    """
    if not re.fullmatch(r"\d+(:\d+){0,2}|\d+-\d+(:\d+){0,2}", text):
        raise InputError(f"--slurm time={text}: expected minutes, H:M:S or D-H:M:S")
    days, _, clock = text.rpartition("-")
    numbers = [int(number) for number in clock.split(":")]
    if not days and len(numbers) < 3:  # they begin with minutes
        numbers = [0, *numbers]
    hours, mins, seconds = (*numbers, 0, 0)[:3]
    return (int(days or 0) * 24 + hours) * 60 + mins + -(-seconds // 60)


def is_there() -> bool:
    """Tell whether a Slurm cluster answers."""
    try:
        return (
            subprocess.run(["sinfo", "--noheader"], capture_output=True, timeout=60).stdout != b""
        )
    except (OSError, subprocess.TimeoutExpired):
        return False


def is_queued(job: int | str) -> bool:
    """Tell whether a job waits or runs, as squeue says."""
    words = ["squeue", "--noheader", "--format=%T", f"--jobs={job}"]
    done = subprocess.run(words, capture_output=True, text=True)
    if done.returncode and "Invalid job id" not in done.stderr:
        return True  # the controller does not answer now
    return bool(done.stdout.strip())
