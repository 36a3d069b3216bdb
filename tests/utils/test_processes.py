"""Worker processes in commands of their own, which signals and kills reach."""

import subprocess
import sys

import pytest

pytestmark = pytest.mark.slow

HEAD = """
import multiprocessing, os, signal, sys, time
from plugins import interrupts as it
from plugins.errors import user_errors
from plugins.utils.processes import worker_processes
"""


def run(code: str) -> subprocess.CompletedProcess:
    words = [sys.executable, "-c", HEAD + code]
    return subprocess.run(words, capture_output=True, text=True, timeout=300)


def test_workers_let_signals_pass_and_end_when_their_command_is_interrupted():
    done = run("""
def work(number):
    time.sleep(0.05)
    return number

try:
    with it.StopSignals(raising=True), worker_processes(2) as results:
        for number in results(work, range(10000), 1):
            if number == 3:
                for child in multiprocessing.active_children():
                    os.kill(child.pid, signal.SIGINT)
                    os.kill(child.pid, signal.SIGTERM)
            if number == 6:
                os.kill(os.getpid(), signal.SIGTERM)
except it.Interrupted as stop:
    assert not multiprocessing.active_children()
    sys.exit(it.tell_interrupted(stop, f"kept {number}"))
""")
    assert (done.returncode, done.stderr) == (143, "interrupted by SIGTERM: kept 6\n")


def test_a_worker_that_is_killed_ends_the_command_in_one_line():
    done = run("""
def work(number):
    os.kill(os.getpid(), signal.SIGKILL)

@user_errors
def main():
    with worker_processes(2) as results:
        list(results(work, range(10), 1))

main()
""")
    assert done.returncode == 1
    assert done.stderr == "error: a worker process was killed from outside; out of memory?\n"
