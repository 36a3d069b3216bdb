"""The command lines: fastreid's flags, anywhere among overrides written either way."""

import importlib
import io
import itertools
import os
import shutil
import signal
import subprocess
import sys

import pytest
from fastreid.engine import default_argument_parser
from hypothesis import given
from hypothesis import strategies as st

from plugins.config import setup_cfg
from plugins.errors import InputError
from tests.helpers.small_runs import ROOT
from tools.commands import COMMANDS
from tools.head import add_config, escape_unprintable, new_parser, parse
from tools.train_net import parse_arguments, run_parser, take_stray

FLAGS = [["--eval-only"], ["--num-gpus", "2"], ["--config-file", "c.yml"], ["--dist-url=x"]]
PAIRS = [["SEED", "1"], ["OUTPUT_DIR=o"], ["SOLVER.BASE_LR", "-1e-3"], ["DATASETS.NAMES", "A,B"]]


def test_the_flags_of_fastreid_are_among_ours():
    ours, theirs = run_parser(), default_argument_parser()
    flags = lambda parser: {  # noqa: E731
        (*action.option_strings,): (action.dest, action.default, action.type, action.nargs)
        for action in parser._actions
        if action.option_strings
    }
    assert flags(theirs).items() <= flags(ours).items()


def test_flags_first_are_read_as_fastreid_reads_them():
    words = list(itertools.chain(*FLAGS, ["SEED", "1", "OUTPUT_DIR", "o"]))
    ours, theirs = parse_arguments(words), default_argument_parser().parse_args(words)
    assert vars(theirs) | vars(ours) == vars(ours)


@pytest.mark.slow
@given(st.permutations(FLAGS + PAIRS))
def test_flags_may_stand_anywhere(parts):
    args = parse_arguments(list(itertools.chain(*parts)))
    assert (args.eval_only, args.num_gpus, args.config_file) == (True, 2, "c.yml")
    assert (args.dist_url, args.resume) == ("x", False)
    with pytest.raises(InputError, match=r"SOLVER\.BASE_LR: -0\.001; expected 0 or more"):
        setup_cfg(opts=args.opts)
    cfg = setup_cfg(opts=[*args.opts, "SOLVER.BASE_LR=1"])
    assert (cfg.SEED, cfg.OUTPUT_DIR, cfg.DATASETS.NAMES) == (1, "o", ("A", "B"))


@pytest.mark.parametrize("flag", [["--resume"], ["--resume", "PATH"]])
@given(place=st.integers(0, 4))
def test_resume_takes_a_path_anywhere(tmp_path_factory, flag, place):
    path = tmp_path_factory.getbasetemp() / "model_0010.pth"
    path.touch()
    parts = [["SEED", "1"], ["OUTPUT_DIR=o"], ["--eval-only"], ["SOLVER.STEPS", "3"]]
    parts.insert(place, [str(path) if word == "PATH" else word for word in flag])
    args = parse_arguments(list(itertools.chain(*parts)))
    assert args.resume == (str(path) if len(flag) > 1 else True)
    assert args.opts == ["SEED", "1", "OUTPUT_DIR=o", "SOLVER.STEPS", "3"]


@pytest.mark.parametrize(
    ("words", "path", "rest"),
    [
        ("", "", ""),
        ("x.pth", "x.pth", ""),
        ("SEDE 1", "", "SEDE 1"),
        ("SEDE=1", "", "SEDE=1"),
        ("x.pth SEDE 1", "x.pth", "SEDE 1"),
        ("OUTPUT_DIR x.pth x.pth SEED=1", "x.pth", "OUTPUT_DIR x.pth SEED=1"),
        ("logs/a=b.pth SEED 1", "logs/a=b.pth", "SEED 1"),
    ],
)
def test_a_path_is_told_from_keys(words, path, rest):
    assert take_stray(words.split()) == (path, rest.split())


def test_a_misspelt_key_after_resume_is_told_as_a_key():
    args = parse_arguments(["--resume", "SEDE", "1"])
    assert args.resume is True
    with pytest.raises(InputError, match="command line: no config key 'SEDE'; nearest: SEED"):
        setup_cfg(opts=args.opts)


TAKING_PAIRS = {
    "balance_data": ["plan"],
    "cache_data": ["--out", "c"],
    "check_data": ["HITSZVCM"],
    "compare_attacks": ["--config-file", "c.yml", "--column", "a", "SEED 1"],
    "convert_data": ["--from", "HITSZVCM", "--to", "manifest", "--out", "o"],
    "export": ["logs/run", "--out", "m.onnx"],
    "export_onnx": ["--config-file", "c.yml", "--out", "m.onnx"],
    "robust_report": ["--config-file", "c.yml"],
}


@pytest.mark.parametrize("tool", TAKING_PAIRS)
@pytest.mark.parametrize("flags_last", [False, True])
def test_every_command_that_takes_overrides_reads_them_alike(tool, flags_last, monkeypatch):
    module = importlib.import_module(f"tools.{tool}")
    own, pairs = TAKING_PAIRS[tool], ["SEED", "-1", "OUTPUT_DIR=o", "TEST.ATTACKS", "FNA"]
    positional = own[:1] if not own[0].startswith("-") else []
    flags = own[len(positional) :]
    order = [*positional, *pairs, *flags] if flags_last else [*positional, *flags, *pairs]
    monkeypatch.setattr(sys, "argv", [tool, *order])
    cfg = setup_cfg(opts=module.parse_arguments().opts)
    assert (cfg.SEED, cfg.OUTPUT_DIR, cfg.TEST.ATTACKS) == (-1, "o", ["FNA"])


def test_a_flag_that_there_is_not_is_no_value(capsys):
    parser = new_parser("")
    add_config(parser)
    with pytest.raises(SystemExit):
        parse(parser, ["OUTPUT_DIR", "--eval_only"])
    assert "--eval_only" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--eval_only"], "error: no argument --eval_only; did you mean --eval-only; "),
        (["--evalonly"], "error: no argument --evalonly; did you mean --eval-only; "),
        (["--config-fil=a.yml", "SEED", "1", "--foo"], "error: no argument --foo; --help lists"),
        (["--num-gpus", "two"], "error: argument --num-gpus: invalid int value: 'two'; --help"),
        (["--config-file"], "error: argument --config-file: expected one argument; --help lists"),
        (["--" + "x" * 5000], "error: no argument --" + "x" * 58 + "; --help"),
    ],
)
def test_a_wrong_command_line_is_one_line(words, message, capsys):
    with pytest.raises(SystemExit) as stop:
        parse(run_parser(), words)
    told = capsys.readouterr().err
    assert stop.value.code == 2
    assert told.startswith(message)
    assert told.count("\n") == 1 and len(told) < 600


TOOLS = sorted({command.file for command in COMMANDS.values()})


def answer(tool: str, *words: str, cwd=None) -> tuple[str, set[str]]:
    """What a command prints before it ends with status 0, and the packages that it imports."""
    done = subprocess.run(
        [sys.executable, "-X", "importtime", str(ROOT / f"tools/{tool}.py"), *words],
        capture_output=True,
        text=True,
        cwd=cwd,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout, {
        line.split("|")[-1].strip().split(".")[0] for line in done.stderr.split("\n")
    }


@pytest.mark.slow
@pytest.mark.parametrize("tool", TOOLS)
def test_help_and_version_answer_without_torch(tool):
    for flag, text in (("--help", "--version"), ("--version", "fastreid-plugins ")):
        printed, imported = answer(tool, flag)
        assert text in printed and "torch" not in imported


@pytest.mark.parametrize("tool", [*TAKING_PAIRS, "train_net", "ablate", "compare_temporal"])
def test_a_key_is_explained_without_torch_whatever_else_is_missing(tool):
    printed, imported = answer(tool, "SEED", "1", "--explain", "ATTACK.EPS,SEED")
    assert [line.split(":")[0] for line in printed.splitlines()] == ["ATTACK.EPS", "SEED"]
    assert "torch" not in imported


@pytest.mark.slow
def test_a_key_of_a_user_is_explained_too(tmp_path):
    (tmp_path / "mine.yml").write_text("PLUGINS: [users_parts.py]\n")
    shutil.copy(ROOT / "tests/helpers/users_parts.py", tmp_path)
    words = ["--explain", "MODEL.LOSSES.USERS_CENTER", "--config-file", "mine.yml"]
    printed, _ = answer("train_net", *words, cwd=tmp_path)
    assert printed == (
        "MODEL.LOSSES.USERS_CENTER.WEIGHT: 0.01 by default; a number, 0 or more. Weight of the "
        "distance to the centers.\n  mine.yml: 0.01, the default\n"
    )


def test_layouts_and_placements_are_those_of_the_conversion():
    from plugins.data import conversion
    from tools import convert_data

    assert tuple(conversion.TARGETS) == convert_data.TARGETS
    assert tuple(conversion.PLACEMENTS) == convert_data.PLACEMENTS


@pytest.mark.parametrize(
    "words",
    ["--trcks a.csv", "--trcks=a.csv --out o", "--from HITSZVCM --out o --trcks", "SEED 1 --trcks"],
)
def test_a_misspelled_flag_is_told_before_the_flags_that_it_leaves_missing(words, capsys):
    from tools.convert_data import parse_arguments as convert

    with pytest.MonkeyPatch.context() as patch, pytest.raises(SystemExit, match="2"):
        patch.setattr(sys, "argv", ["convert_data.py", *words.split()])
        convert()
    assert "; did you mean --tracks; --help lists all" in capsys.readouterr().err


def test_a_missing_flag_is_told_as_missing(capsys):
    from tools.convert_data import parse_arguments as convert

    with pytest.MonkeyPatch.context() as patch, pytest.raises(SystemExit, match="2"):
        patch.setattr(sys, "argv", ["convert_data.py", "--tracks", "a.csv"])
        convert()
    assert "arguments are required: --out" in capsys.readouterr().err


def test_an_explanation_that_nobody_reads_to_its_end_is_no_error():
    words = [sys.executable, "tools/train_net.py", "--explain", "MODEL"]
    with subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as asked:
        asked.stdout.close()
        assert asked.stderr.read() == b""
    assert asked.returncode == -signal.SIGPIPE


@pytest.mark.slow
def test_a_name_that_the_terminal_cannot_write_is_escaped(tmp_path):
    """A terminal of Windows may have an encoding without most scripts."""
    (tmp_path / "manifest.csv").write_text(
        "path,person,camera,modality,tracklet,frame,split\n王.jpg,王伟,东,visible,,,train\n",
        encoding="utf-8",
    )
    done = subprocess.run(
        [sys.executable, ROOT / "tools/check_data.py", "ManifestDataset", "--workers", "1"],
        env=os.environ | {"PYTHONIOENCODING": "cp1252", "FASTREID_DATASETS": str(tmp_path)},
        capture_output=True,
    )
    assert done.returncode == 1 and b"Traceback" not in done.stderr, done.stderr
    line = rf"{tmp_path}/manifest.csv:2 ({tmp_path}/\u738b.jpg): no such frame"
    assert line.encode() in done.stdout


@pytest.mark.parametrize("errors", ["strict", "surrogateescape"])
def test_only_a_stream_that_would_fail_is_changed(errors):
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii", errors=errors)
    escape_unprintable(stream, io.StringIO(), None)
    assert stream.errors == ("backslashreplace" if errors == "strict" else errors)
