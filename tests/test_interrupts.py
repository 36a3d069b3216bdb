"""What SIGINT and SIGTERM do, in processes of their own that import one module alone."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from plugins import interrupts
from plugins.errors import InputError, RunFailed, user_errors
from plugins.interrupts import Interrupted, StopSignals

pytestmark = pytest.mark.slow

HEAD = f"""
import importlib.util, multiprocessing, os, signal, sys, time
spec = importlib.util.spec_from_file_location("interrupts", {interrupts.__file__!r})
it = sys.modules["interrupts"] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(it)
signal.signal(signal.SIGINT, signal.default_int_handler)
kill = lambda name: os.kill(os.getpid(), getattr(signal, name))
"""


def run(code: str) -> subprocess.CompletedProcess:
    words = [sys.executable, "-c", HEAD + code]
    return subprocess.run(words, capture_output=True, text=True, timeout=300)


def ended(pid: str) -> bool:
    status = Path(f"/proc/{pid}/stat")
    return not status.exists() or status.read_text().split()[2] == "Z"


@pytest.fixture(autouse=True)
def _handlers():
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background ignores it
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_command_ends_with_one_line_and_the_status_of_its_signal(capsys, number, status):
    @user_errors(kept="all is kept")
    def main():
        try:
            os.kill(os.getpid(), number)
        finally:
            ended.append(True)

    ended = []
    with pytest.raises(SystemExit) as stopped:
        main()
    assert stopped.value.code == status
    assert ended == [True], "it was not unwound"
    assert capsys.readouterr().err == f"interrupted by {number.name}: all is kept\n"


def test_who_interrupts_may_say_better_what_is_kept(capsys):
    @user_errors
    def main():
        raise Interrupted(signal.SIGTERM, "step 3 is saved")

    with pytest.raises(SystemExit, match="143"):
        main()
    assert capsys.readouterr().err == "interrupted by SIGTERM: step 3 is saved\n"


def test_what_a_signal_breaks_is_no_error_of_its_own(capsys):
    @user_errors(kept="k")
    def main():
        try:
            os.kill(os.getpid(), signal.SIGINT)
        finally:
            raise RuntimeError("a queue is closed")

    with pytest.raises(SystemExit, match="130"):
        main()
    assert capsys.readouterr().err == "interrupted by SIGINT: k\n"


def test_errors_keep_their_lines_and_statuses(capsys):
    for error, status, line in (
        (InputError("bad key"), 2, "error: bad key\n"),
        (RunFailed("diverged"), 1, "error: diverged\n"),
        (RunFailed("diverged", reported=True), 1, ""),
        (RunFailed("killed", status=137), 137, "error: killed\n"),
    ):

        @user_errors
        def main(error=error):
            raise error

        with pytest.raises(SystemExit) as stopped:
            main()
        assert stopped.value.code == status
        assert capsys.readouterr().err == line

    @user_errors
    def broken():
        raise KeyError

    with pytest.raises(KeyError):
        broken()


def test_a_noted_signal_strikes_where_it_may_and_the_handlers_are_put_back():
    before = signal.getsignal(signal.SIGTERM)
    with StopSignals() as stop:
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop.event.wait(5)
        assert stop.signal == signal.SIGTERM == StopSignals.received()
        with pytest.raises(Interrupted, match="SIGTERM"), stop.raising():
            pytest.fail("it was noted before")
    assert signal.getsignal(signal.SIGTERM) is before
    with StopSignals() as stop:
        assert stop.signal is None is StopSignals.received()
        with pytest.raises(Interrupted, match="SIGINT"), stop.raising():
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(5)


def test_the_inner_of_two_blocks_catches_and_what_follows_at_once_is_the_same_signal():
    with StopSignals(raising=True) as outer:
        with StopSignals() as inner:
            os.kill(os.getpid(), signal.SIGINT)
            assert inner.event.wait(5)
        os.kill(os.getpid(), signal.SIGTERM)  # as a launcher passes on what all have got
        assert (inner.signal, outer.signal) == (signal.SIGINT, None)


def test_an_ignored_signal_stays_ignored():
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with StopSignals(raising=True):
        os.kill(os.getpid(), signal.SIGINT)


def test_a_second_signal_ends_the_process_and_its_children_at_once():
    done = run("""
child = multiprocessing.get_context("fork").Process(target=time.sleep, args=(60,))
child.start()
print(child.pid, flush=True)
with it.StopSignals(at_once=lambda: print("told", flush=True)) as stop:
    kill("SIGTERM")
    kill("SIGTERM")
    time.sleep(it.SAME_SIGNAL)
    kill("SIGINT")
    print("still there", flush=True)
""")
    assert done.returncode == 130, done.stderr
    assert done.stderr == "ended at once by a second SIGINT; what was saved before is kept\n"
    pid, *rest = done.stdout.split()
    assert rest == ["told"]
    for _ in range(100):  # the system ends a killed process when it comes to it
        if ended(pid):
            break
        time.sleep(0.1)
    assert ended(pid)


def test_a_signal_after_the_first_is_no_traceback_to_the_very_end():
    done = run("""
import atexit
atexit.register(lambda: kill("SIGINT"))
try:
    with it.StopSignals(raising=True):
        kill("SIGINT")
except it.Interrupted as stop:
    sys.exit(it.tell_interrupted(stop, "kept"))
""")
    assert (done.returncode, done.stderr) == (130, "interrupted by SIGINT: kept\n")


def test_ctrl_c_while_modules_are_imported_is_one_line():
    done = run("""
with it.quiet_import():
    kill("SIGINT")
    time.sleep(5)
""")
    assert done.stderr == "interrupted by SIGINT: nothing was begun\n"
    assert done.returncode in (130, -signal.SIGINT)


def test_a_child_without_handlers_of_its_own_says_nothing_and_ends():
    done = run("""
def work(ready):
    ready.set()
    while True:
        time.sleep(0.01)

context = multiprocessing.get_context("fork")
ready = context.Event()
with it.StopSignals(raising=True):
    child = context.Process(target=work, args=(ready,))
    child.start()
    ready.wait()
    os.kill(child.pid, signal.SIGINT)
    child.join(0.5)
    print(child.exitcode)
    os.kill(child.pid, signal.SIGTERM)
    child.join()
    print(child.exitcode)
""")
    assert (done.returncode, done.stdout, done.stderr) == (0, "None\n143\n", "")


def test_a_garbage_collection_ends_a_loaders_workers():
    done = run("""
import gc
import torch

loader = torch.utils.data.DataLoader(
    torch.zeros(100), num_workers=2, worker_init_fn=it.shield_loader_worker
)
batches = it.start_workers(loader)
next(batches)
print(len(multiprocessing.active_children()))
cycle = [batches]
cycle.append(cycle)
del batches, cycle
gc.collect()
print(multiprocessing.active_children())
""")
    assert (done.returncode, done.stdout, done.stderr) == (0, "2\n[]\n", "")


def test_a_loaders_worker_outlives_what_all_processes_get_but_not_more():
    done = run("""
def work(ready):
    it.shield_loader_worker(0)
    ready.set()
    time.sleep(60)

ready = multiprocessing.Event()
worker = multiprocessing.get_context("fork").Process(target=work, args=(ready,))
worker.start()
ready.wait()
for name in ("SIGINT", "SIGTERM"):
    os.kill(worker.pid, getattr(signal, name))
worker.join(1)
print(worker.is_alive())
worker.terminate()
worker.join(5)
print(worker.exitcode)
""")
    assert done.stdout.split() == ["True", "-15"], done.stderr


def test_signals_are_held_back_from_processes_that_start():
    done = run("""
with it.StopSignals() as stop:
    with it.held_back():
        kill("SIGTERM")
        print(stop.signal)
    print(stop.signal)
""")
    assert done.stdout.split() == ["None", "15"]


def test_a_nudge_is_a_signal_but_never_a_second_one():
    done = run("""
it.catch_as_rank(0)
with it.StopSignals() as stop:
    kill("SIGUSR1")
    print(stop.signal)
    time.sleep(it.SAME_SIGNAL)
    kill("SIGUSR1")
    print("still there")
""")
    assert done.stdout.split() == ["15", "still", "there"]


@pytest.mark.parametrize("moment", ["before", "after_in_parent"])
def test_a_signal_in_a_hook_of_a_fork_interrupts_all_the_same(moment):
    done = run(f"""
def once():
    if not told:
        told.append(1)
        kill("SIGTERM")

told = []
os.register_at_fork({moment}=once)
try:
    with it.StopSignals(raising=True):
        if os.fork() == 0:
            os._exit(0)
        time.sleep(5)
        print("not interrupted")
except it.Interrupted as stop:
    sys.exit(it.tell_interrupted(stop, "kept"))
""")
    assert (done.returncode, done.stdout) == (143, "")
    assert done.stderr == "interrupted by SIGTERM: kept\n"


def test_a_signal_in_a_finalizer_interrupts_all_the_same_and_other_errors_are_told():
    done = run("""
class Last:
    def __del__(self):
        kill("SIGINT")

class Broken:
    def __del__(self):
        raise KeyError("mine")

try:
    with it.StopSignals(raising=True):
        Broken()
        Last()
        time.sleep(5)
        print("not interrupted")
except it.Interrupted as stop:
    sys.exit(it.tell_interrupted(stop, "kept"))
""")
    assert (done.returncode, done.stdout) == (130, "")
    assert "KeyError: 'mine'" in done.stderr
    assert "Interrupted(" not in done.stderr
    assert done.stderr.endswith("interrupted by SIGINT: kept\n")


def test_a_signal_while_loader_workers_start_interrupts_and_the_workers_take_signals_again():
    done = run("""
import torch
from torch.utils.data import DataLoader
from plugins import interrupts
from plugins.errors import user_errors

class Items(torch.utils.data.Dataset):
    def __len__(self):
        return 4

    def __getitem__(self, index):
        blocked = signal.pthread_sigmask(signal.SIG_BLOCK, ())
        return len({*interrupts.STOP} & blocked)

def batches():
    loader = DataLoader(Items(), 2, num_workers=2, worker_init_fn=interrupts.shield_loader_worker)
    return [batch.tolist() for batch in interrupts.start_workers(loader)]

def once():
    if not told:
        told.append(1)
        kill("SIGTERM")

@user_errors(kept="kept")
def main():
    batches()
    print("not interrupted")

print(batches())
told = []
os.register_at_fork(after_in_parent=once)
main()
""")
    assert (done.returncode, done.stdout) == (143, "[[0, 0], [0, 0]]\n"), done.stderr
    assert done.stderr == "interrupted by SIGTERM: kept\n"


def test_a_loaders_worker_that_is_killed_is_one_line():
    done = run("""
import torch
from torch.utils.data import DataLoader
from plugins import interrupts
from plugins.errors import user_errors

class Items(torch.utils.data.Dataset):
    def __len__(self):
        return 4

    def __getitem__(self, index):
        os.kill(os.getpid(), signal.SIGKILL)

@user_errors
def main():
    list(interrupts.start_workers(DataLoader(Items(), 2, num_workers=1)))

main()
""")
    assert done.returncode == 1
    assert re.fullmatch(
        r"error: a loader worker \(process \d+\) was killed from outside; out of memory or of "
        r"shared memory\? .*; a training goes on with --resume\n",
        done.stderr,
    )


def test_a_rank_that_exits_inside_its_loop_waits_for_no_loader_worker():
    done = run("""
import multiprocessing
import torch
from torch.utils.data import DataLoader
from plugins import interrupts

def rank():
    items = DataLoader(range(99), 2, num_workers=1, worker_init_fn=interrupts.shield_loader_worker)
    batches.append(interrupts.start_workers(items))
    next(batches[0])
    sys.exit(2)

batches = []  # which a traceback keeps alive, too
process = multiprocessing.get_context("fork").Process(target=rank)
process.start()
process.join(20)
print(process.exitcode)
if process.exitcode is None:
    process.kill()
""")
    assert done.stdout == "2\n", done.stderr
