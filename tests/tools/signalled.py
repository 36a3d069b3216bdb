"""Runs a tool that gets a signal when it first calls a function, as from a terminal or a cluster.

python signalled.py TOOL MODULE:FUNCTION SIGNAL [WORD ...]

The signal goes to all processes of the tool: call this in a session of its own.
"""

import functools
import importlib
import os
import runpy
import signal
import sys


def signal_all(number: int, function):
    @functools.wraps(function)
    def signalling(*args, **kwargs):
        if not told:
            told.append(number)
            os.killpg(0, number)
        return function(*args, **kwargs)

    told = []
    return signalling


def main() -> None:
    tool, place, name, *words = sys.argv[1:]
    sys.path.insert(0, os.path.dirname(os.path.dirname(tool)))
    module, _, path = place.partition(":")
    *owners, last = path.split(".")
    owner = functools.reduce(getattr, owners, importlib.import_module(module))
    setattr(owner, last, signal_all(signal.Signals[name], getattr(owner, last)))
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background ignores it
    sys.argv = [tool, *words]
    runpy.run_path(tool, run_name="__main__")


if __name__ == "__main__":
    main()
