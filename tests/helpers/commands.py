"""Run commands of the package in processes of their own that need not import it anew."""

import array
import functools
import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
NUMBER = array.array("q").itemsize


def run(
    words: Sequence[str | os.PathLike],
    cwd: str | os.PathLike = ".",
    env: Mapping[str, str] | None = None,
    timeout: float | None = 600.0,
    merged: bool = False,
) -> subprocess.CompletedProcess:
    """Run ``sys.executable FILE ARGUMENTS`` as subprocess.run does, and capture what it prints.

    The process is forked from one of ``tests.helpers.fork_server``. What depends on an import, on
    the order of a set, or on a kill, is tested in a new process instead; so is each command once.

    Args:
        words: the command line.
        cwd: the folder in which it runs.
        env: its environment; None for that of this process.
        timeout: seconds; then it is killed. None waits.
        merged: its errors are a part of its output.
    """
    python, *rest = map(str, words)
    assert python == sys.executable
    environment = dict(os.environ if env is None else env)
    request = {"words": rest, "folder": os.path.abspath(cwd), "environment": environment}
    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors:
        heard, told = os.pipe()
        files = [output.fileno(), (output if merged else errors).fileno(), told]
        socket.send_fds(_server()[0], [json.dumps(request).encode()], files)
        os.close(told)
        with open(heard, "rb") as pipe:
            process = _number(pipe.read(NUMBER))
            if not select.select([pipe], [], [], timeout)[0]:
                os.kill(process, signal.SIGKILL)
                raise subprocess.TimeoutExpired(rest, timeout)
            status = _number(pipe.read(NUMBER))
        texts = []
        for file in (output, errors):
            file.seek(0)
            texts.append(file.read().decode())
    return subprocess.CompletedProcess(list(words), status, *texts)


def _number(data: bytes) -> int:
    (number,) = array.array("q", data)
    return number


@functools.cache
def _server() -> tuple[socket.socket, subprocess.Popen]:
    """Start the process that forks, once in a process; it ends with this one."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.helpers.fork_server", str(theirs.fileno())],
        pass_fds=[theirs.fileno()],
        stdin=subprocess.DEVNULL,
        cwd=ROOT,
    )
    theirs.close()
    return ours, process
