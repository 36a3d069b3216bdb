"""A folder is one process's, until that process ends."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from plugins.errors import InputError
from plugins.utils.locks import hold

HOLD_AND_WAIT = """
import os, sys, time
from plugins.utils.locks import hold
with hold(sys.argv[1], "OUTPUT_DIR", "training"):
    if os.fork() == 0:  # as a loader's worker, which may outlive its parent
        print("held", flush=True)  # by the parent: this process has closed its copy of the file
        os.close(1)
        time.sleep(60)
        os._exit(0)
    time.sleep(60)
"""


@pytest.fixture
def holder(tmp_path):
    """A process that holds the folder, in a session of its own."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD_AND_WAIT, str(tmp_path)],
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stdout.readline() == "held\n"
    yield process
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def take(folder: Path, task: str = "training") -> None:
    with hold(folder, "OUTPUT_DIR", task):
        pass


@pytest.mark.slow
def test_a_folder_in_use_is_refused_and_its_holder_named(holder, tmp_path):
    with pytest.raises(InputError) as caught:
        take(tmp_path)
    said = str(caught.value)
    assert said.startswith(f"OUTPUT_DIR {tmp_path}: in use by another training, process ")
    assert f"process {holder.pid} on {os.uname().nodename} since 20" in said
    assert "\n" not in said
    take(tmp_path, "evaluation")  # tasks of other names do not exclude each other


@pytest.mark.slow
def test_a_killed_holder_gives_the_folder_back_although_its_children_live(holder, tmp_path):
    os.kill(holder.pid, signal.SIGKILL)
    holder.wait()
    take(tmp_path)


def test_it_is_given_back_after_an_error(tmp_path):
    with pytest.raises(KeyError), hold(tmp_path, "OUTPUT_DIR", "training"):
        raise KeyError("x")
    take(tmp_path)
    assert not list(tmp_path.glob("*.json"))


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"OUTPUT_DIR .*file: a file; expected a folder"):
        take(tmp_path / "file")


def test_a_folder_that_was_made_for_nothing_is_gone_and_one_that_was_there_stays(tmp_path):
    folder = tmp_path / "new" / "deeper"
    with pytest.raises(InputError), hold(folder, "OUTPUT_DIR"):
        raise InputError("no data set there")
    assert list(tmp_path.iterdir()) == []
    with hold(folder, "OUTPUT_DIR"):
        (folder / "result").touch()
    assert (folder / "result").exists()
    (tmp_path / "old").mkdir()
    with hold(tmp_path / "old", "OUTPUT_DIR"):
        pass
    assert (tmp_path / "old").is_dir()


def test_a_new_folder_may_be_renamed_while_it_is_held(tmp_path):
    with hold(tmp_path / "draft", "--out", "packing") as draft:
        draft.rename(tmp_path / "whole")
    assert [each.name for each in tmp_path.iterdir()] == ["whole"]
