"""Runs that are killed at random moments, resumed, and compared with one that was not killed."""

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
import yaml

from tests.helpers.small_runs import CONFIG, OPTIONS, ROOT, command, environment

LONGEST = 600.0  # seconds for one process
LOG = "printed.log"

DDDEFENSE = ROOT / "configs/Defense/synthetic/dddefense.yml"
ALL_PARTS = {
    "DEFENSE__STEPS": 1,
    "DEFENSE__WARMUP_EPOCHS": 1,
    "DEFENSE__CENTROIDS__SOURCE": "bank",
    "DATALOADER__NUM_INSTANCE": 2,
    "DATALOADER__NUM_WORKERS": 1,
    "SOLVER__EMA_DECAY": 0.9,
    "SOLVER__IMS_PER_BATCH": 8,
    "TEST__EVAL_PERIOD": 3,
}

GENERATOR = """
SEED: 0
MODEL: {DEVICE: cpu}
DATASETS:
  BALANCE:
    GENERATOR:
      SIZE: [32, 16]
      CHANNELS: [8, 8]
      LAYERS: 1
      BATCH: 2
      STEPS: 60
      CHECKPOINT_PERIOD: 5
"""


@dataclass(frozen=True)
class Subject:
    """Something that can be killed and goes on when it is started again.

    Attributes:
        name: for the figures.
        start: folder to the command line that starts or goes on.
        environment: of the process.
        state: folder of an ended run to what must not depend on kills, by name.
    """

    name: str
    start: Callable[[Path], list[str]]
    environment: dict[str, str]
    state: Callable[[Path], dict]


def subjects(videos: Path, images: Path, folder: Path) -> list[Subject]:
    """SADSTRM, DDDefense with all parts, a generator, an ablation.

    Args:
        videos: a FASTREID_DATASETS folder with a rendered HITSZ-VCM.
        images: one with a rendered Market-1501.
        folder: for the configs.
    """
    generator = folder / "generator.yml"
    generator.write_text(GENERATOR)
    balance = [sys.executable, str(ROOT / "tools/balance_data.py"), "train"]
    return [
        Subject(
            "SADSTRM",
            lambda output: command("--resume", output=output / "run"),
            environment(videos),
            final_checkpoint,
        ),
        Subject(
            "DDDefense",
            lambda output: command(
                "--resume", output=output / "run", config=DDDEFENSE, **ALL_PARTS
            ),
            environment(images),
            final_checkpoint,
        ),
        Subject(
            "generator",
            lambda output: [
                *(*balance, "--config-file", str(generator)),
                *("DATASETS.BALANCE.DIR", str(output / "generator")),
            ],
            environment(images),
            lambda output: load(output / "generator/generator.pth"),
        ),
        Subject("ablation", start_ablation, environment(folder / "ablation"), ablation_state),
    ]


def start_ablation(output: Path) -> list[str]:
    """Two rows of one epoch each on a data set of their own; the file lies in ``output``."""
    small = {key: value for key, value in OPTIONS.items() if key.startswith(("INPUT", "SOLVER"))}
    skeleton = {"MODEL.META_ARCHITECTURE": "VVIBaseline", "SOLVER.STEP": "SimpleStep"}
    tree = {
        "config": str(CONFIG),
        "dataset": {
            "name": "tiny",
            "render": {"preset": "quick", "train_ids": 6, "test_ids": 4, "height": 32, "width": 16},
        },
        "metrics": ["I2V/mAP"],
        "seeds": [0],
        "options": small
        | {"MODEL.TEMPORAL.NAME": "TemporalMean", "MODEL.DEVICE": "cpu"}
        | {"SOLVER.MAX_EPOCH": 2, "DATALOADER.NUM_WORKERS": 0, "TEST.RANK_PICTURE": 0},
        "rows": {
            "baseline": {"description": "the skeleton", "overrides": skeleton},
            "full": {"description": "attacked"},
        },
    }
    file = output / "project/ablation.yml"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(yaml.safe_dump(tree, sort_keys=False))
    return [sys.executable, str(ROOT / "tools/ablate.py"), str(file)]


def ablation_state(output: Path) -> dict:
    """The recorded metrics and the weights of each row."""
    rows = json.loads((output / "project/results/ablation.json").read_text())
    state: dict = {row["row"]: row["metrics"] for row in rows}
    for file in sorted(output.glob("logs/**/model_final.pth")):
        state[f"{file.parent.parent.name}/model"] = load(file)["model"]
    return state


def final_checkpoint(output: Path) -> dict:
    """All of it but where it was written."""
    return {
        key: value for key, value in load(output / "run/model_final.pth").items() if key != "config"
    }


def load(file: Path) -> dict:
    """Tensors and plain values."""
    return torch.load(file, weights_only=True)


def leaves(tree: object, name: str = "") -> dict[str, object]:
    """Leaves of nested dictionaries and lists, by path."""
    if isinstance(tree, dict):
        return {
            k: v for key, part in tree.items() for k, v in leaves(part, f"{name}/{key}").items()
        }
    if isinstance(tree, list | tuple):
        return leaves(dict(enumerate(tree)), name)
    return {name: tree}


def differing(first: dict, second: dict) -> list[str]:
    """Names of leaves that are not equal to the bit."""
    one, other = leaves(first), leaves(second)
    return [
        name
        for name in sorted(one.keys() | other.keys())
        if name not in one or name not in other or not equal(one[name], other[name])
    ]


def equal(first: object, second: object) -> bool:
    """Equality to the bit."""
    if isinstance(first, torch.Tensor) and isinstance(second, torch.Tensor):
        return first.dtype == second.dtype and torch.equal(first, second)
    return type(first) is type(second) and first == second


def kill_and_resume(subject: Subject, folder: Path, kills: int, generator: random.Random) -> dict:
    """Kill a subject ``kills`` times at random moments, resume it, compare what it ends with.

    A run that ends before its next kill is compared and a new one begins. One may end before any
    kill, where the machine is faster now than it was before: it is compared and not counted.

    Returns:
        ``kills``, ``runs`` that were killed, ``different`` tensors and values, by name.
    """
    began = time.monotonic()
    process = begin(subject, folder / "whole")
    assert process.wait(LONGEST) == 0, log(folder / "whole")
    seconds = time.monotonic() - began
    expected = subject.state(folder / "whole")
    done, ended, runs, different = 0, 0, 0, []
    while done < kills:
        output, before = folder / f"killed{ended}", done
        while True:
            process = begin(subject, output)
            try:
                left = LONGEST if done == kills else generator.uniform(0.1, 1.0) * seconds
                assert process.wait(left) == 0, log(output)
                break
            except subprocess.TimeoutExpired:
                kill(process, output)
                done += 1
        ended += 1
        runs += done > before
        different += [f"{output.name}{name}" for name in differing(expected, subject.state(output))]
    return {"kills": done, "runs": runs, "different": different}


def begin(subject: Subject, output: Path) -> subprocess.Popen:
    """Start a subject in a session of its own; what it prints is appended beside ``output``."""
    output.mkdir(parents=True, exist_ok=True)
    with open(output / LOG, "ab") as file:
        return subprocess.Popen(
            subject.start(output),
            env=subject.environment,
            cwd=output,
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def kill(process: subprocess.Popen, output: Path) -> None:
    """Kill the process, its group, and whatever else was started for ``output``."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if (entry / "cwd").readlink() == output:
                os.kill(int(entry.name), signal.SIGKILL)


def log(output: Path) -> str:
    """The end of what a run printed."""
    return (output / LOG).read_text(errors="replace")[-3000:]
