"""Every command of the table answers Ctrl-C and SIGTERM in one line, whatever it does."""

import importlib
import os
import re
import signal
import sys

import pytest

from plugins.interrupts import StopSignals
from tools import head
from tools.commands import NAMES

# Of each command that needs arguments, some that it can parse; nothing there is read.
WORDS = {
    "ablate": ["a.yml"],
    "balance_data": ["plan"],
    "benchmark": ["all"],
    "cache_data": ["--out", "c"],
    "check_data": ["HITSZVCM"],
    "compare_attacks": ["--config-file", "c.yml"],
    "compare_cards": ["a.json", "--out", "o.html"],
    "compare_runs": ["a", "b"],
    "compare_temporal": ["a.yml", "--folder", "f"],
    "convert_data": ["--from", "HITSZVCM", "--out", "o"],
    "demo": [],
    "doctor": [],
    "export": ["run", "--out", "m.onnx"],
    "export_onnx": ["--config-file", "c.yml", "--out", "m.onnx"],
    "extract": ["run", "--dataset", "HITSZVCM", "--out", "f.npz"],
    "extract_frames": ["videos.csv", "--out", "o"],
    "import_osnet": ["a.onnx", "--images", "i", "--out", "o.pth"],
    "make_synthetic": ["--out", "o"],
    "robust_report": ["--config-file", "c.yml"],
    "score": ["--gallery", "g", "--query", "q"],
    "search": ["--gallery", "g.npz"],
    "threshold": ["f.npz"],
    "train_net": ["--config-file", "c.yml"],
    "visualize": ["run", "ranks", "--out", "o"],
}


@pytest.fixture
def handlers():
    """A command that a signal ends keeps its handlers; a test restores those of pytest."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    hook = sys.unraisablehook
    signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)
    sys.unraisablehook = hook
    StopSignals._first = None


def replace_body(monkeypatch, main, body) -> None:
    """Let a command run ``body`` instead of its own function, below the head of all commands."""
    assert main.__code__.co_filename == head.__file__, "not a command of tools.head"
    (cell,) = [
        cell
        for name, cell in zip(main.__code__.co_freevars, main.__closure__, strict=True)
        if name == "main"
    ]
    assert cell.cell_contents is main.__wrapped__
    monkeypatch.setattr(cell, "cell_contents", body)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("file", NAMES)
def test_a_signal_in_any_command_is_one_line(file, number, handlers, monkeypatch, capsys):
    command, reached = importlib.import_module(f"tools.{file}").main, []

    def body(args):
        reached.append(args)
        os.kill(os.getpid(), number)
        raise AssertionError("the command went on")

    replace_body(monkeypatch, command, body)
    monkeypatch.setattr(sys, "argv", [f"{file}.py", *WORDS[file]])
    with pytest.raises(SystemExit) as stop:
        command()
    assert reached and stop.value.code == 128 + number
    line = rf"interrupted by {number.name}: .*(same command|--resume|nothing was changed).*\n"
    told = capsys.readouterr()
    assert told.out == "" and re.fullmatch(line, told.err), told.err
