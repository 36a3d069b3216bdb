"""Runs as jobs of a cluster: by submitit on this machine, and by Slurm where there is one."""

import json
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from plugins.errors import InputError
from plugins.experiments import execute, plan_runs, read_ablation, slurm
from plugins.experiments.jobs import end
from plugins.experiments.processes import device_name, start
from plugins.experiments.runs import LOG, MARKER
from plugins.experiments.slurm import SlurmExecutor, is_queued, is_there
from tests.helpers.ablation_files import STAND_IN, write
from tests.helpers.small_runs import ROOT

needs_slurm = pytest.mark.skipif(not is_there(), reason="no Slurm cluster answers")
CLUSTERS = ["local", pytest.param("slurm", marks=needs_slurm)]
pytestmark = pytest.mark.slow


def runs_of(folder: Path, seeds: list[int]):
    ablation = read_ablation(write(folder, seeds=seeds))
    return plan_runs(ablation, ablation.choose(["margin"]), None, folder / "logs")


@pytest.mark.parametrize("cluster", CLUSTERS)
def test_jobs_end_as_processes_do(tmp_path, cluster):
    tool, results = tmp_path / "train.py", []
    tool.write_text(STAND_IN)
    runs = runs_of(tmp_path, [0, 1, 2])
    executor = SlurmExecutor({}, cluster)
    failures, stopped_by = execute(runs, tool, 3, 1, lambda one, _: results.append(one), executor)
    assert stopped_by is None
    (result,) = results
    assert result["metrics"]["I2V"]["Rank-1"] == 0.0
    assert result["device"] == device_name({"MODEL.DEVICE": "cpu"})
    assert 0 < result["seconds"] < 60  # of the process, without its time in the queue
    assert failures["margin/seed1"] == f"exit status 1, see {runs[1].folder / LOG}: boom"
    assert failures["margin/seed2"] == f"wrote no results.json, see {runs[2].folder / LOG}"


SAVES = """
import pathlib, signal, sys, time
words = dict(zip(sys.argv[4::2], sys.argv[5::2]))
folder = pathlib.Path(words["OUTPUT_DIR"])
def save(*_):
    (folder / "model_0000.pth").touch()
    sys.exit(143)
signal.signal(signal.SIGTERM, save)
(folder / "begun").touch()
time.sleep(120)
"""


def wait_for(condition, seconds=90.0):
    limit = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < limit
        time.sleep(0.2)


@pytest.fixture
def saver(tmp_path):
    tool = tmp_path / "train.py"
    tool.write_text(SAVES)
    return tool


def test_a_command_whose_time_is_over_saves_and_goes_on(tmp_path, saver):
    """What submitit calls in a handler of Slurm's signal, while the command is waited for."""
    words = [sys.executable, str(saver), *"xxx", "OUTPUT_DIR", str(tmp_path)]
    command = slurm.NodeCommand(words, tmp_path / "log", {}, {"MODEL.DEVICE": "cpu"})
    again = []

    def time_is_over(*_):
        again.append(command.checkpoint())
        sys.exit()  # as submitit does

    time_over = signal.SIGALRM  # here, for the signal of the cluster
    before = signal.signal(time_over, time_is_over)
    try:
        waiting = threading.Thread(
            target=lambda: (
                wait_for((tmp_path / "begun").exists),
                os.kill(os.getpid(), time_over),
            )
        )
        waiting.start()
        with pytest.raises(SystemExit):
            command()
        waiting.join()
    finally:
        signal.signal(time_over, before)
    assert (tmp_path / "model_0000.pth").exists()
    kept = pickle.loads(pickle.dumps(again[0].function))
    kept.words = [sys.executable, "-c", "pass"]
    assert kept() == {"status": 0, "seconds": None, "device": "CPU"}


@needs_slurm
def test_a_job_that_is_stopped_saves_first(tmp_path, saver):
    (run,) = runs_of(tmp_path, [3])
    job = start(run, saver, 1, SlurmExecutor({}))
    wait_for((run.folder / "begun").exists)
    end([job.process])
    assert (run.folder / "model_0000.pth").exists()
    assert job.process.returncode == 143


@needs_slurm
def test_a_job_holds_its_folder(tmp_path, saver):
    (run,) = runs_of(tmp_path, [3])
    job = start(run, saver, 1, SlurmExecutor({}))
    with pytest.raises(InputError, match="another process is at it"):
        start(run, saver, 1)
    end([job.process])
    end([start(run, saver, 1).process])


@needs_slurm
def test_a_job_is_found_again(tmp_path, saver):
    (run,) = runs_of(tmp_path, [3])
    executor = SlurmExecutor({"time": "5"})
    first = start(run, saver, 1, executor)
    wait_for((run.folder / "begun").exists)
    first.process.release()  # as if this process had been killed
    again = start(run, saver, 1, executor)
    file = run.folder.with_name(f"{run.folder.name}.slurm") / slurm.SUBMITTED
    number = json.loads(file.read_text())["job"]
    assert is_queued(number)
    assert again.process.poll() is None and len(list(file.parent.glob("*_submitted.pkl"))) == 1
    subprocess.run(["scancel", "--signal=KILL", "--full", number], check=True)  # by someone else
    wait_for(lambda: again.process.poll() is not None)
    assert again.process.returncode
    wait_for(lambda: not is_queued(number))
    assert "device" not in json.loads((run.folder / MARKER).read_text())


def ablate(folder: Path, *words: str, **environment: str) -> subprocess.CompletedProcess:
    command = [sys.executable, str(ROOT / "tools/ablate.py"), str(write(folder)), *words]
    return subprocess.run(
        command, capture_output=True, text=True, cwd=folder, env=os.environ | environment
    )


def test_without_a_cluster_nothing_begins(tmp_path):
    done = ablate(tmp_path, "--executor", "slurm", PATH=str(Path(sys.executable).parent))
    assert done.returncode == 2
    assert done.stderr == (
        "error: --executor slurm: no cluster answers; expected `sinfo` to list nodes\n"
    )
    assert not (tmp_path / "logs").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--slurm", "partition=gpu"], "--slurm: given without --executor slurm"),
        (
            ["--executor", "slurm", "--slurm", "gpu"],
            "--slurm gpu: expected OPTION=VALUE, such as partition=gpu",
        ),
    ],
)
def test_options_are_checked(tmp_path, words, message):
    done = ablate(tmp_path, *words)
    assert (done.returncode, done.stderr) == (2, f"error: {message}\n")


@needs_slurm
@pytest.mark.parametrize("option", ["partition=nowhere", "gres=nothing:1"])
def test_what_sbatch_refuses_is_one_line(tmp_path, option):
    (run,) = runs_of(tmp_path, [0])
    executor = SlurmExecutor(dict([option.split("=")]))
    with pytest.raises(InputError, match=r"^--slurm: sbatch: error: [Ii]nvalid [^\n]*$"):
        start(run, tmp_path / "train.py", 1, executor)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("5", 5), ("5:30", 6), ("4:00:00", 240), ("1-0", 1440), ("1-2:3", 1563), ("2-0:0:1", 2881)],
)
def test_times_are_those_of_sbatch(text, expected):
    assert slurm.minutes(text) == expected


@pytest.mark.parametrize("text", ["never", "", "1:2:3:4", "-5", "4h"])
def test_another_time_is_refused(text):
    with pytest.raises(InputError, match=f"--slurm time={text}: expected minutes"):
        SlurmExecutor({"time": text}, "local")


def test_a_number_of_cpus_is_one():
    with pytest.raises(InputError, match="--slurm cpus-per-task=x: expected a whole number"):
        SlurmExecutor({"cpus-per-task": "x"}, "local")


def test_a_missing_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "submitit", None)
    with pytest.raises(InputError, match=r"needs submitit: pip install fastreid-plugins\[slurm\]"):
        SlurmExecutor({})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[1]", r": found \[1\]; expected a mapping, the number of a submitted job"),
        ("{}", r": job: found null; expected the number of a submitted job, such as '123'; if"),
        ('{"job": "--all"}', r": job: found '--all'; expected the number of a submitted job"),
        ("{", r":1: .*; expected the number of a submitted job"),
    ],
)
def test_a_damaged_note_of_a_job_is_one_line(text, message, tmp_path):
    file = tmp_path / slurm.SUBMITTED
    file.write_text('{"job": "123"}')
    assert slurm.job_number(file) == "123"
    file.write_text(text)
    with pytest.raises(InputError, match=rf"^{file}{message}"):
        slurm.job_number(file)
