"""A process that has imported the package, and forks processes that run Python files.

Each is as one that ``python FILE`` starts, but for the imports, 2 to 5 seconds, that it finds done.
"""

import array
import atexit
import gc
import importlib
import json
import os
import runpy
import signal
import socket
import sys
import threading
import traceback

import numpy as np

# What a process of a command imports first, done once for all of them.
PRELOADED = [
    *("plugins", "plugins.engine", "plugins.robustness.report", "plugins.inference"),
    "torchvision.transforms.v2",  # and with it what torch compiles with, a second alone
]
# Bytes of a request: words, folder, environment.
LONGEST = 1 << 20


def serve(requests: socket.socket) -> None:
    """Fork a process for each request, until the other side is closed.

    A request is JSON with three files: output, errors, and a pipe that gets the number of the
    process and then its exit status.
    """
    for name in PRELOADED:
        importlib.import_module(name)
    gc.collect()
    gc.freeze()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for those who watch
    while True:
        text, files, *_ = socket.recv_fds(requests, LONGEST, 3)
        if not text:
            return
        if os.fork() == 0:
            requests.close()
            _watch(json.loads(text), *files)
        for file in files:
            os.close(file)


def _watch(request: dict, output: int, errors: int, told: int) -> None:
    """Tell the number and the exit status of a process."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    process = os.fork()
    if process == 0:
        os.close(told)
        os.dup2(output, 1)
        os.dup2(errors, 2)
        os.closerange(3, 64)
        _end(_run(**request))
    os.write(told, array.array("q", [process]).tobytes())
    _, status = os.waitpid(process, 0)
    os.write(told, array.array("q", [os.waitstatus_to_exitcode(status)]).tobytes())
    os._exit(0)


def _run(words: list[str], folder: str, environment: dict[str, str]) -> int:
    """Run a file as a main program; return what Python's exit status would be."""
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    sys.argv = words
    sys.path[:1] = [os.path.dirname(os.path.abspath(words[0]))]
    np.random.seed()  # as of no other process
    try:
        runpy.run_path(words[0], run_name="__main__")
    except SystemExit as end:
        if end.code is None or isinstance(end.code, int):
            return end.code or 0
        print(end.code, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        traceback.print_exc()
        return -signal.SIGINT
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


def _end(status: int) -> None:
    """End the process as Python does: threads, exit handlers, buffers."""
    threading._shutdown()
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    if status < 0:
        signal.signal(-status, signal.SIG_DFL)
        os.kill(os.getpid(), -status)
    os._exit(status)


if __name__ == "__main__":
    serve(socket.socket(fileno=int(sys.argv[1])))
