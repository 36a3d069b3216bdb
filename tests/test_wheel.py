"""The wheel alone: built, installed beside fastreid, and used from an empty folder.

``WHEEL_PYTHON=PATH`` names another interpreter that runs the commands, such as one of another
Python version; its environment has fastreid and the requirements of setup.py, and not this package.
"""

import json
import os
import shlex
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.helpers.pages import blocks
from tools.commands import COMMANDS

pytestmark = pytest.mark.slow  # builds, installs, trains

ROOT = Path(__file__).resolve().parents[1]
SOURCES = ("configs", "plugins", "tools")
FILES = ("LICENSE", "MANIFEST.in", "README.md", "pyproject.toml", "setup.py")
CHECK = "docs/extend/check.md"
QUICK = ["ATTACK.QUERIES", "2", "DATALOADER.NUM_WORKERS", "0", "MODEL.DEVICE", "cpu"]
PIP = [sys.executable, "-m", "pip", "--no-cache-dir", "--disable-pip-version-check", "-q"]
PYTHON = os.environ.get("WHEEL_PYTHON", sys.executable)


def files_in(folder: str) -> set[Path]:
    """Files of a folder of the checkout that belong to it, from its root on."""
    found = (ROOT / folder).rglob("*")
    return {
        path.relative_to(ROOT)
        for path in found
        if path.is_file() and "__pycache__" not in path.parts and path.suffix != ".pyc"
    }


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> Path:
    """A copy of the checkout, in which a build may write."""
    copy = tmp_path_factory.mktemp("source")
    for folder in SOURCES:
        ignore = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / folder, copy / folder, ignore=ignore)
    for file in FILES:
        shutil.copy(ROOT / file, copy)
    return copy


@pytest.fixture(scope="module")
def wheel(source, tmp_path_factory) -> Path:
    """The wheel."""
    out = tmp_path_factory.mktemp("wheel")
    build = [
        "wheel",
        "--no-deps",
        "--no-build-isolation",
        "--no-index",
        "-w",
        str(out),
        str(source),
    ]
    subprocess.run([*PIP, *build], check=True)
    (path,) = out.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory) -> Path:
    """The folder that the wheel is installed in."""
    folder = tmp_path_factory.mktemp("installed")
    install = ["install", "--no-deps", "--no-index", "--target", str(folder), str(wheel)]
    subprocess.run([*PIP, *install], check=True)
    return folder


@pytest.fixture(scope="module")
def call(installed, tmp_path_factory):
    """Runs a command of the wheel in a folder that was empty, and gives what it printed."""
    here = tmp_path_factory.mktemp("empty")
    environment = {key: text for key, text in os.environ.items() if key != "FASTREID_DATASETS"}
    environment |= {"PYTHONPATH": str(installed), "OMP_NUM_THREADS": "1"}

    def run(*words: str, status: int = 0, program: Path | None = None) -> str:
        start = [str(program)] if program else ["-m", "fastreid_plugins"]
        done = subprocess.run(
            [PYTHON, *start, *words],
            cwd=here,
            env=environment,
            capture_output=True,
            text=True,
        )
        assert done.returncode == status, done.stdout[-2000:] + done.stderr[-2000:]
        return done.stdout + done.stderr

    run.here = here
    return run


def test_the_wheel_holds_the_packages_commands_and_configs_of_the_checkout(wheel):
    expected = {path.as_posix(): path for path in files_in("plugins")}
    expected |= {
        f"fastreid_plugins/{path.relative_to('tools')}": path for path in files_in("tools")
    }
    expected |= {f"fastreid_plugins/{path.as_posix()}": path for path in files_in("configs")}
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
        assert names == set(expected)
        for name, path in expected.items():
            assert archive.read(name) == (ROOT / path).read_bytes(), name
        entry = "fastreid_plugins-0.1.0.dist-info/entry_points.txt"
        assert b"fastreid-plugins = fastreid_plugins.__main__:main" in archive.read(entry)


def test_wheel_and_sdist_are_fit_for_an_index(source, wheel, tmp_path):
    """The description, which is the README, is rendered as the index would."""
    build = ["setup.py", "-q", "sdist", "-d", str(tmp_path)]
    subprocess.run([sys.executable, *build], cwd=source, check=True, capture_output=True)
    (sdist,) = tmp_path.glob("*.tar.gz")
    check = [sys.executable, "-m", "twine", "check", "--strict", str(wheel), str(sdist)]
    done = subprocess.run(check, capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout.count("PASSED") == 2, done.stdout + done.stderr


def test_every_command_answers_help_by_its_installed_name(call):
    assert "usage: fastreid-plugins COMMAND" in call("--help")
    for name in COMMANDS:
        text = call(name, "--help")
        assert text.startswith(f"usage: fastreid-plugins {name} ")
        assert "\nfastreid-plugins " in text and "tools/" not in text


def test_demo_train_eval_and_report_work_in_an_empty_folder(call, installed):
    # Folders that a user may have, which must not stand in for the packages of the wheel.
    for name in ("plugins", "tools"):
        (call.here / name).mkdir()
        (call.here / name / "__init__.py").write_text("raise RuntimeError('a foreign package')\n")

    told = call("demo", "--quick", "--workers", "1", *QUICK[2:])
    run = call.here / "logs/demo"
    assert f"trained weights:   {Path('logs/demo/model_final.pth')}\n" in told
    assert (
        "\nnext, attack it:   fastreid-plugins report --config-file logs/demo/config.yaml" in told
    )
    assert len(list((run / "pictures").glob("*.png"))) == 2
    assert json.loads((run / "results.json").read_text())["results"].keys() == {"HITSZVCM"}

    config = ["--config-file", "logs/demo/config.yaml"]
    second = ["OUTPUT_DIR", "logs/second", "TEST.RANK_PICTURE", "0"]
    call("train", *config, *second, program=installed / "fastreid_plugins/__main__.py")
    # The same run: its seed is in the config. So the console's file and -m are one program.
    weights = [Path(run.parent, name, "model_final.pth") for name in ("demo", "second")]
    first, again = (json.loads((path.parent / "results.json").read_text()) for path in weights)
    assert first == again

    evaluate = ["MODEL.WEIGHTS", "logs/second/model_final.pth", *second]
    table = call("eval", *config, *evaluate)
    assert "| HITSZVCM/I2V |" in table
    evaluated = json.loads((run.parent / "second/evaluation.json").read_text())
    assert evaluated["results"] == first["results"]

    call("export", "logs/second", "--out", "model.pt2")
    assert (call.here / "model.pt2").stat().st_size > 1e6

    (part,) = (block for block in blocks(CHECK) if block.file)
    (call.here / part.file).write_text(part.text)
    own = ["--plugins", part.file]
    told = call("report", *config, *own, "--out", "report", *evaluate[:2], *QUICK)
    assert "report/HITSZVCM_I2V" in told
    assert "| survivors " in (call.here / "report/HITSZVCM_I2V.md").read_text()
    assert list((call.here / "report").rglob("*.html"))


def test_what_is_missing_is_told_with_the_installed_names(call, installed):
    told = call("train", "--config-file", "VVI/sadstm.yml", status=2)
    shipped = installed / "fastreid_plugins/configs"
    assert told.startswith(
        "error: --config-file VVI/sadstm.yml: no such file, neither here nor in "
        f"{shipped}; nearest there: VVI/sadstrm.yml, "
    )
    pretrain = ["MODEL.BACKBONE.PRETRAIN", "False", "OUTPUT_DIR", "logs/x"]
    shutil.rmtree(call.here / "datasets", ignore_errors=True)
    told = call("train", "--config-file", "VVI/sadstrm.yml", *pretrain, status=2)
    assert "or render a stand-in: fastreid-plugins make-synthetic --preset quick --out" in told


# What makes a command of a page short.
SMALL = ["--train-ids", "4", "--test-ids", "3", "--height", "32", "--width", "16"]
SHORT = ["MODEL.DEVICE", "cpu", "INPUT.SIZE_TRAIN", "[32,16]", "INPUT.SIZE_TEST", "[32,16]"]
SHORT += ["INPUT.CLIP.LENGTH", "1", "SOLVER.IMS_PER_BATCH", "8", "SOLVER.WARMUP_EPOCHS", "0"]
SHORT += ["DATALOADER.NUM_WORKERS", "0", "TEST.RANK_PICTURE", "0"]


def commands_of(page: str) -> list[list[str]]:
    """The words of the commands of a page, without the program."""
    texts = [block.text for block in blocks(page) if block.kind == "bash"]
    lines = "".join(texts).replace("\\\n", " ").splitlines()
    return [shlex.split(line)[1:] for line in lines]


@pytest.fixture(scope="module")
def prepared(call):
    """The folder with data and a model, as the first page about own parts makes them."""
    render, train = commands_of("docs/extend/index.md")
    call(*render, *SMALL)
    call(*train, *SHORT)
    return call


# A part that trains and one that tests; the report of the demo tries a check, and
# tests/docs/test_blocks.py the parts of all pages with the commands of the checkout.
@pytest.mark.parametrize("page", ["docs/extend/loss.md", "docs/extend/evaluator.md"])
def test_the_part_of_a_page_works_with_the_wheel(page, prepared):
    (part,) = (block for block in blocks(page) if block.file)
    (prepared.here / part.file).write_text(part.text)
    (command,) = commands_of(page)
    prepared(*command, *(SHORT if command[0] == "train" else []))
