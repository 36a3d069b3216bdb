"""Every block of the README is run, in order, in a folder that looks like a fresh checkout.

Runs are cut short by more config keys at the end of a command. ``make test`` is what runs this
file, so it is only looked up.
"""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from fastreid.modeling.backbones.resnet import Bottleneck, ResNet

from plugins.synthetic import SyntheticSettings, render_hitsz_vcm

ROOT = Path(__file__).resolve().parents[1]
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```", (ROOT / "README.md").read_text(), re.M | re.S)
STEPS = [
    (kind, text)
    for kind, block in BLOCKS
    if kind in ("bash", "python")
    for text in (block.splitlines() if kind == "bash" else [block])
]

SHORT = {
    "MODEL.DEVICE": "cpu",
    "MODEL.TEMPORAL.STIG.STRIPES": "2",
    "SOLVER.MAX_EPOCH": "1",
    "SOLVER.IMS_PER_BATCH": "8",
    "SOLVER.WARMUP_EPOCHS": "0",
    "INPUT.SIZE_TRAIN": "[32,16]",
    "INPUT.SIZE_TEST": "[32,16]",
    "INPUT.CLIP.LENGTH": "1",
    "DATALOADER.NUM_WORKERS": "0",
    "TEST.EXPECTED_RESULTS": "[]",
}


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
    return folder


def flat(options: dict[str, str]) -> str:
    return " ".join(f"{key} {value}" for key, value in options.items())


def shortened(command: str) -> list[str]:
    """The words of a command, with what makes it end soon."""
    words = shlex.split(command)
    if command == "make test":
        return ["make", "--dry-run", "test"]
    if command == "make demo":
        return ["make", "demo", f"VENV={sys.prefix}", f"OPTIONS={flat(SHORT)}"]
    if words[0] == "pip":
        # Everything is installed; the last one would remove this very package for a moment.
        dry = ["--dry-run"] if "-e" in words else []
        return [sys.executable, "-m", *words, *dry]
    assert words[0] == "python"
    if "--layout" in words:
        words += ["--train-ids", "6", "--test-ids", "4", "--height", "32", "--width", "16"]
    if "tools/train_net.py" in words and "logs/run/config.yaml" not in words:
        # Its own number of epochs must go with the config's warm-up.
        left = ["SOLVER.WARMUP_EPOCHS"] if "SOLVER.MAX_EPOCH" in words else []
        words += flat({key: SHORT[key] for key in SHORT if key not in [*words, *left]}).split()
    return [sys.executable, *words[1:]]


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "text"), STEPS)
def test_step_of_the_readme_works(checkout, kind, text):
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    if "configs/VVI/sadstrm.yml" in text:
        environment["FASTREID_DATASETS"] = "licensed"
    command = [sys.executable, "-c", text] if kind == "python" else shortened(text)
    done = subprocess.run(command, cwd=checkout, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    if kind == "python" and "print(" in text:  # a similarity or a score
        assert -1 <= float(done.stdout.splitlines()[-1]) <= 1


def test_tree_of_the_readme_names_what_is_there():
    (tree,) = [block for kind, block in BLOCKS if not kind]
    folder = ROOT
    for line in tree.splitlines():
        name = line.split()[0]
        folder = ROOT / name if not line.startswith(" ") else folder
        path = folder if not line.startswith(" ") else folder / name
        assert path.exists(), path
