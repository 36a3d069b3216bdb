"""Ranks start without an interruption."""

import subprocess
import sys

import pytest

# What starts in the block ends at a signal without a word, so none may arrive there.
MASK = """
import signal
import sys
import torch.multiprocessing
from multiprocessing import resource_tracker
import plugins.engine

def spawn(*args, **kwargs):
    resource_tracker.ensure_running()  # as starting a process does; it takes signals again
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    print(sorted(number.name for number in blocked), flush=True)

torch.multiprocessing.spawn = spawn
launch = sys.modules["plugins.engine.launch"]
launch.wait_for_ranks = lambda *args: None
launch.launch(print, 2, 1, 0, "tcp://127.0.0.1:1", "cpu", ())
"""


@pytest.mark.slow
def test_signals_wait_until_the_ranks_have_started():
    command = [sys.executable, "-c", MASK]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == "['SIGINT', 'SIGTERM', 'SIGUSR1']\n"
