"""Every block of README.md and docs/ is run, in order, in a folder like a fresh checkout.

The blocks of docs/extend/ run in a folder that was empty. Runs are cut short by more config keys at
the end of a command. ``make test`` is what runs this file, so it is only looked up.
"""

import itertools
import os
import shlex
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from fastreid.modeling.backbones.resnet import Bottleneck, ResNet

from plugins.config import flatten, setup_cfg
from plugins.synthetic import SyntheticSettings, render_hitsz_vcm
from tests.helpers import commands
from tests.helpers.pages import ROOT, Block, blocks, pages
from tools.commands import COMMANDS

EXTEND = "docs/extend/"
BLOCKS = [block for page in pages() for block in blocks(page)]
SHORT = {
    "MODEL.DEVICE": "cpu",
    "MODEL.TEMPORAL.STIG.STRIPES": "2",
    "MODEL.TEMPORAL.STIG.COLUMNS": "2",
    "SOLVER.MAX_EPOCH": "1",
    "SOLVER.IMS_PER_BATCH": "8",
    "SOLVER.WARMUP_EPOCHS": "0",
    "INPUT.SIZE_TRAIN": "[32,16]",
    "INPUT.SIZE_TEST": "[32,16]",
    "INPUT.CLIP.LENGTH": "1",
    "DATALOADER.NUM_WORKERS": "0",
    "TEST.EXPECTED_RESULTS": "[]",
}
SMALL = ["--train-ids", "6", "--test-ids", "4", "--height", "32", "--width", "16"]
ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1"}


def steps(extend: bool) -> list[pytest.param]:
    """Lines of bash blocks and whole Python blocks, in order."""
    found = []
    for block in BLOCKS:
        if block.kind in ("bash", "python") and block.page.startswith(EXTEND) == extend:
            lines = block.text.replace("\\\n", " ").splitlines()
            texts = lines if block.kind == "bash" else [block.text]
            name = block.page.removeprefix("docs/").removesuffix(".md")
            found += [
                pytest.param(block, text, id=f"{name}: {text[:60].strip()}") for text in texts
            ]
    return found


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The repository's files in a folder of their own, with small data and weights in it."""
    folder = tmp_path_factory.mktemp("checkout")
    for path in ROOT.iterdir():
        if path.name not in (".git", "datasets", "logs"):
            (folder / path.name).symlink_to(path)
    settings = SyntheticSettings(train_ids=6, test_ids=4, height=32, width=16)
    render_hitsz_vcm(folder / "licensed/HITSZ-VCM", settings)
    resnet = ResNet(1, "BN", False, False, False, Bottleneck, [3, 4, 6, 3], [0, 2, 3, 0])
    torch.save(resnet.state_dict(), folder / "resnet50-19c8e357.pth")
    record(folder)
    return folder


def record(folder: Path) -> None:
    """Videos of one person each, as docs/use.md has them."""
    av = pytest.importorskip("av")
    draw = np.random.default_rng(0)
    for name in ("day/anna_north.mp4", "day/ben_north.mp4", "night/anna_south.mp4"):
        path = folder / "recordings" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with av.open(str(path), "w") as container:
            stream = container.add_stream("mpeg4", rate=5)
            stream.width, stream.height, stream.pix_fmt = 32, 64, "yuv420p"
            for _ in range(4):
                pixels = draw.integers(0, 256, (64, 32, 3), dtype=np.uint8)
                frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
                container.mux(stream.encode(frame))
            container.mux(stream.encode())


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("empty")


def flat(options: dict[str, str]) -> str:
    return " ".join(f"{key} {value}" for key, value in options.items())


def own_data(words: list[str]) -> bool:
    """Tell whether a ResNet-50 trains on all of the demo's people: few batches are enough."""
    return not {"own/folder.yml", "own/manifest.yml"}.isdisjoint(words)


def shortened(words: list[str]) -> list[str]:
    """The words of a command of the package, with what makes it end soon."""
    name = words[1]
    assert name in COMMANDS or name.startswith("--"), f"no command {name}"
    if name == "make-synthetic" and ("--layout" in words or "quick" in words):
        words += SMALL
    if name == "train" and not {"logs/run/config.yaml", "--explain", "--help"} & set(words):
        # Its own number of epochs must go with the config's warm-up.
        left = ["SOLVER.WARMUP_EPOCHS"] if "SOLVER.MAX_EPOCH" in words else []
        short = SHORT | {"SOLVER.IMS_PER_BATCH": "32"} if own_data(words) else SHORT
        words += flat({key: short[key] for key in short if key not in [*words, *left]}).split()
    return [str(ROOT / "tools/__main__.py"), *words[1:]]


def call(text: str, folder: Path) -> tuple[int, str]:
    """Run a line of a bash block; return exit status and output."""
    words = shlex.split(text)
    if words[0] == "fastreid-plugins":
        environment = dict(ENVIRONMENT)
        if "VVI/sadstrm.yml" in words:
            environment["FASTREID_DATASETS"] = "licensed"
        return run(shortened(words), folder, environment)
    if words == ["make", "test"]:
        words.append("--dry-run")
    elif words == ["make", "demo"]:
        # "-o": everything is installed, whatever the age of the file that says so.
        words += [f"VENV={sys.prefix}", "-o", f"{sys.prefix}/installed", f"OPTIONS={flat(SHORT)}"]
    else:
        # Everything is installed; another one would remove this very package for a moment.
        assert words[:2] == ["pip", "install"]
        own = "." in words
        extra = ["--dry-run", "--no-build-isolation", "--no-deps"] if own else []
        words = [sys.executable, "-m", *words, *dict.fromkeys(extra)]
    done = subprocess.run(words, cwd=folder, env=ENVIRONMENT, capture_output=True, text=True)
    return done.returncode, done.stdout + done.stderr


def run(words: list[str], folder: Path, environment: dict[str, str]) -> tuple[int, str]:
    """Run a Python file with arguments in a folder; return exit status and output."""
    done = commands.run([sys.executable, *words], folder, environment, timeout=None, merged=True)
    return done.returncode, done.stdout


def python(block: Block, folder: Path) -> tuple[int, str]:
    """Run a Python block, or write the file that it is."""
    file = folder / (block.file or "block.py")
    file.write_text(block.text)
    return (0, "") if block.file else run([str(file)], folder, dict(ENVIRONMENT))


@pytest.mark.slow
@pytest.mark.parametrize(("block", "text"), steps(extend=False))
def test_step_of_a_page_works(checkout, block, text):
    status, told = python(block, checkout) if block.kind == "python" else call(text, checkout)
    assert status == 0, told
    words = shlex.split(text) if block.kind == "bash" else []
    for option, file in itertools.pairwise(words):
        assert option != "--out" or (checkout / file).exists(), told
    if block.kind == "python" and "print(" in text:  # a similarity, a distance or a score
        assert -1 <= float(told.split()[-1]) <= 2


@pytest.mark.slow
@pytest.mark.parametrize(("block", "text"), steps(extend=True))
def test_step_of_a_page_about_own_parts_works_in_an_empty_folder(empty, block, text):
    if "metric_learning" in text and "pytorch-metric-learning" not in installed():
        pytest.skip("needs the extra metric-learning")
    status, told = python(block, empty) if block.kind == "python" else call(text, empty)
    assert status == 0, told


def installed() -> set[str]:
    return {found.name for found in metadata.distributions()}


def test_a_page_about_a_part_has_less_than_40_lines_of_code():
    """The part itself and the commands that run it, with their empty lines."""
    for page in pages_of_parts():
        parts = [block for block in blocks(page) if block.file]
        assert len(parts) == 1, page
        assert sum(len(block.text.splitlines()) for block in blocks(page)) < 40, page
    (adapter,) = (block for block in blocks(f"{EXTEND}metric-learning.md") if block.file)
    assert len([line for line in adapter.text.splitlines() if line.strip()]) <= 20


def pages_of_parts() -> list[str]:
    return [page for page in pages() if page.startswith(EXTEND) and "index" not in page]


def test_ten_commands_go_from_videos_to_a_ranked_list():
    (ten, *_) = (block for block in BLOCKS if block.page == "docs/use.md")
    lines = ten.text.replace("\\\n", " ").splitlines()
    assert len(lines) == 10
    (search,) = (line for line in lines if "found.csv" in line)
    for name in ("day", "night"):
        made = [
            line for line in lines[: lines.index(search)] if f"--clips recordings/{name}" in line
        ]
        assert len(made) == 1 and f"logs/run/{name}.npz" in made[0] and f"{name}.npz" in search


def test_a_config_of_a_page_is_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    configs = [block for block in BLOCKS if block.kind == "yaml" and "_BASE_" in block.text]
    assert configs
    for block in configs:
        Path("own.yml").write_text(block.text)
        own = yaml.safe_load(block.text)
        base = dict(flatten(setup_cfg(own.pop("_BASE_"))))
        changed = [pair for pair in flatten(setup_cfg("own.yml")) if base[pair[0]] != pair[1]]
        assert changed == flatten(own), block.page


def test_no_block_stands_twice():
    texts = [block.text for block in BLOCKS if block.kind in ("bash", "python")]
    assert len(texts) == len(set(texts))
