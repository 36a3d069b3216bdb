"""A disk that is full, two runs in one folder, a rank that is lost."""

import os
import random
import re
import signal
import subprocess
import time
from pathlib import Path

from plugins.engine.checkpoint import read_checkpoint
from tests.helpers.small_disk import small_disk
from tests.helpers.small_runs import command, environment

LONGEST = 600.0


def full_disk(videos: Path, folder: Path, generator: random.Random) -> dict | None:
    """Train on a disk that has room for one checkpoint, but not for two.

    Returns:
        ``status`` of the process, whether the last line it printed ``tells`` the full disk, how
        many checkpoints are ``whole`` and ``damaged``; None where no disk can be mounted.
    """
    run = folder / "probe"
    done = subprocess.run(
        command(output=run, SOLVER__MAX_EPOCH=1, TEST__EVAL_PERIOD=9),
        env=environment(videos),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    size = (run / "model_final.pth").stat().st_size
    with small_disk(folder / "small", int(size * generator.uniform(1.3, 1.8))) as small:
        if small is None:
            return None
        done = subprocess.run(
            command(output=small / "run", TEST__EVAL_PERIOD=9),
            env=environment(videos),
            capture_output=True,
            text=True,
        )
        lines = (done.stdout + done.stderr).strip().splitlines()
        whole, damaged = 0, 0
        for file in (small / "run").glob("*.pth"):
            try:
                read_checkpoint(str(file))
                whole += 1
            except Exception:
                damaged += 1
    last = done.stderr.strip().splitlines()[-1] if done.stderr.strip() else lines[-1]
    tells = "No space left" in last and "Traceback" not in done.stderr
    return {"status": done.returncode, "tells": tells, "whole": whole, "damaged": damaged}


def two_runs(videos: Path, folder: Path) -> dict:
    """Start two runs in one folder at once.

    Returns:
        Sorted exit ``statuses``, expected 0 and 2, and whether the loser ``tells`` why.
    """
    # Nothing is saved before the end: the second one, however late it comes, finds a lock.
    period = dict.fromkeys(("SOLVER__MAX_EPOCH", "SOLVER__CHECKPOINT_PERIOD"), 12)
    words = command(output=folder / "shared", **period, TEST__EVAL_PERIOD=12, SOLVER__STEPS="[9]")
    both = [
        subprocess.Popen(
            words,
            env=environment(videos),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    said = [process.communicate(timeout=LONGEST)[1] for process in both]
    statuses = sorted(process.returncode for process in both)
    return {"statuses": statuses, "tells": sum("in use by another" in text for text in said) == 1}


def lost_rank(videos: Path, folder: Path) -> dict:
    """Kill the second of two ranks in the middle of training.

    Returns:
        Exit ``status``, ``seconds`` until the other has ended, whether the message ``tells`` rank
        and signal.
    """
    output = folder / "ranks"
    process = subprocess.Popen(
        command("--num-gpus", "2", output=output, SOLVER__MAX_EPOCH=200, SOLVER__STEPS="[150]"),
        env=environment(videos),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + LONGEST
    while not (output / "last_checkpoint").exists() and time.monotonic() < deadline:
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.05)
    ranks = [int(pid) for pid in children(process.pid) if is_rank(int(pid))]
    killed = time.monotonic()
    os.kill(max(ranks), signal.SIGKILL)
    said = process.communicate(timeout=LONGEST)[1]
    tells = bool(re.search(r"rank 1\b.*SIGKILL", said)) and "Traceback" not in said
    seconds = round(time.monotonic() - killed, 1)
    return {"status": process.returncode, "seconds": seconds, "tells": tells}


def children(pid: int) -> list[str]:
    """Process numbers of a process's children."""
    return Path(f"/proc/{pid}/task/{pid}/children").read_text().split()


def is_rank(pid: int) -> bool:
    """Whether a child is a rank, not Python's own resource tracker."""
    return b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()
