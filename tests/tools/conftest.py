import logging
import runpy
import sys
from collections.abc import Callable

import pytest


@pytest.fixture
def run_tool(monkeypatch, capsys) -> Callable[..., tuple[int, str, str]]:
    """Runs a tool in this process, as a command line would; gives exit status and output."""

    def run(tool: object, *words: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", [str(tool), *words])
        # Or a handler that another test left, whose stream is closed, complains in the output.
        monkeypatch.setattr(logging, "raiseExceptions", False)
        status = 0
        try:
            runpy.run_path(str(tool), run_name="__main__")
        except SystemExit as stopped:
            status = stopped.code
        return status, *capsys.readouterr()

    return run
