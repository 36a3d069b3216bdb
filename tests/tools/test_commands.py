"""The commands by their names: a table, one help, nearest names, three ways to call one file."""

import argparse
import importlib
import os
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest

from tools.__main__ import main
from tools.commands import COMMANDS, NAMES, as_called

ROOT = Path(__file__).resolve().parents[2]
# Runs a command, then tells its status, whether it imported torch, and whether it was quick.
QUICK = """
import runpy, sys, time
sys.argv[0] = "tools"
try: runpy.run_module("tools", run_name="__main__")
except SystemExit as stop: status = stop.code
print(status, "torch" in sys.modules, time.process_time() < 2, file=sys.stderr)
"""
OTHERS = {"__init__", "__main__", "commands", "head", "trained"}


def call(*words: str, cwd: Path = ROOT) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, *words], capture_output=True, text=True, cwd=cwd)


def test_every_file_has_one_name():
    files = {path.stem for path in (ROOT / "tools").glob("*.py")} - OTHERS
    assert NAMES.keys() == files
    assert len(NAMES) == len(set(NAMES.values()))


def test_the_list_names_every_command_with_what_it_does():
    done = call("-X", "importtime", "-m", "tools", "--help")
    assert done.returncode == 0 and call("-m", "tools").stdout == done.stdout
    for name, command in COMMANDS.items():
        assert f"  {name:18} {command.summary}\n" in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 100
    assert "plugins" not in {line.split("|")[-1].strip() for line in done.stderr.splitlines()}


@pytest.mark.parametrize("words", [["--help"], ["--version"], ["train", "--help"]])
@pytest.mark.parametrize("buffered", ["", "1"])
def test_a_text_that_cannot_be_written_is_one_line(words, buffered):
    line = " ".join([sys.executable, "-m", "tools", *words])
    env = os.environ | {"PYTHONUNBUFFERED": buffered}
    shell = partial(subprocess.run, shell=True, cwd=ROOT, env=env, capture_output=True, text=True)
    full = shell(f"{line} > /dev/full")
    assert full.returncode == 1
    assert full.stderr == "error: standard output: cannot be written: No space left on device\n"
    assert shell(f"{line} | true").stderr == ""


def test_a_working_folder_that_was_removed_is_one_line(tmp_path):
    code = (
        f"cd {tmp_path} && rmdir {tmp_path} && exec {sys.executable} {ROOT}/tools/__main__.py demo"
    )
    done = subprocess.run(["bash", "-c", code], capture_output=True, text=True)
    assert done.returncode != 0 and done.stderr.startswith("error: the working folder was removed")


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("--verson", "did you mean --version? "),
        ("trian", "did you mean train? "),
        ("train_net", "did you mean train? "),
        ("robust_report", "did you mean report? "),
        ("Check_Data", "did you mean check-data? "),
        ("--eval", "did you mean eval? "),
        ("xyz", ""),
        ("x\ny" * 999, ""),
    ],
)
def test_a_wrong_command_is_one_line_that_names_the_nearest(name, nearest):
    done = call("-m", "tools", name)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert done.stderr.startswith("error: no command '") and len(done.stderr) < 200
    assert done.stderr.endswith(f"'; {nearest}--help lists all commands\n")


@pytest.mark.parametrize("name", COMMANDS)
def test_the_help_of_each_command_is_whole_quick_and_without_torch(name):
    done = call("-c", QUICK, name, "--help")
    assert done.stderr == "0 False True\n"
    text = done.stdout
    module = importlib.import_module(f"tools.{COMMANDS[name].file}")
    assert text.startswith(f"usage: python -m tools {name} [-h]")
    assert f"\n\n{module.__doc__.splitlines()[0]}\n" in text
    assert f"\npython -m tools {NAMES[COMMANDS[name].file]} " in text, "an example"
    assert "python tools/" not in text
    statuses = text[text.index("exit status:\n") :]
    assert [int(line.split()[0]) for line in statuses.splitlines()[1:] if line[2] != " "] == [
        *(0, 1, 2, 130, 143)
    ]
    assert len(text.splitlines()[-1]) <= 80


@pytest.mark.parametrize("file", NAMES)
def test_every_option_is_explained(file, monkeypatch, capsys):
    parsers = []
    parse = argparse.ArgumentParser.parse_known_args
    monkeypatch.setattr(
        argparse.ArgumentParser,
        "parse_known_args",
        lambda self, *words: (parsers.append(self), parse(self, *words))[1],
    )
    monkeypatch.setattr(sys, "argv", [f"{file}.py", "--help"])
    with pytest.raises(SystemExit):
        importlib.import_module(f"tools.{file}").parse_arguments()
    unexplained = [action.dest for action in parsers[-1]._actions if not action.help]
    assert parsers[-1].prog == f"{file}.py" and not unexplained
    assert f"python tools/{file}.py" in capsys.readouterr().out


def test_a_command_is_one_file_however_it_is_called(tmp_path):
    ways = [["-m", "tools", "report"], [str(ROOT / "tools"), "report"]]
    ways.append([str(ROOT / "tools/robust_report.py")])
    folders, words = [ROOT, tmp_path, tmp_path], ["--config-file", "x", "--levle"]
    runs = [call(*way, *words, cwd=cwd) for way, cwd in zip(ways, folders, strict=True)]
    line = "error: no argument --levle; did you mean --level; --help lists all arguments\n"
    assert {(done.returncode, done.stderr) for done in runs} == {(2, line)}


def test_eval_is_train_with_a_flag(monkeypatch, capsys):
    config = str(ROOT / "configs/VVI/synthetic/sadstrm.yml")
    monkeypatch.setattr(sys, "argv", ["tools", "eval", "--config-file", config])
    with pytest.raises(SystemExit) as stop:
        main()
    assert stop.value.code == 2
    assert capsys.readouterr().err.startswith("error: --eval-only needs weights")


@pytest.mark.parametrize(
    ("program", "expected"),
    [
        ("fastreid-plugins train", "fastreid-plugins report --out r"),
        ("python -m tools eval", "python -m tools report --out r"),
        ("/a b/train_net.py", "python tools/robust_report.py --out r"),
    ],
)
def test_examples_are_written_as_the_process_was_called(program, expected, monkeypatch):
    monkeypatch.setattr(sys, "argv", [program])
    assert as_called("python tools/robust_report.py --out r") == expected
