"""A small real run: a rendered HITSZ-VCM tree, ResNet-18 at 32 x 16, a few iterations an epoch."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from tests.helpers import commands

ROOT = Path(__file__).resolve().parents[2]
CONFIG = ROOT / "configs/VVI/synthetic/sadstrm.yml"

OPTIONS = {
    "INPUT.SIZE_TRAIN": "[32,16]",
    "INPUT.SIZE_TEST": "[32,16]",
    "INPUT.CLIP.LENGTH": "2",
    "MODEL.DEVICE": "cpu",
    "MODEL.SELF_ATTACK.KIND": "learned",  # all losses of an attacker
    "MODEL.SELF_ATTACK.EPS": "0.3",
    "MODEL.TEMPORAL.STIG.STRIPES": "2",
    "MODEL.TEMPORAL.STIG.COLUMNS": "2",
    "MODEL.TEMPORAL.STIG.DIM": "16",
    "SOLVER.IMS_PER_BATCH": "8",
    "SOLVER.MAX_EPOCH": "3",
    "SOLVER.WARMUP_EPOCHS": "1",
    "SOLVER.STEPS": "[2]",
    "SOLVER.ADVERSARY.START_EPOCH": "1",
    "SOLVER.CHECKPOINT_PERIOD": "1",
    "SOLVER.LOG_PERIOD": "1",
    "DATALOADER.NUM_WORKERS": "0",
    "TEST.EVAL_PERIOD": "3",
    "TEST.RANK_PICTURE": "0",
    "TEST.EXPECTED_RESULTS": "[]",
}


def options(output: Path, **changes) -> list[str]:
    """KEY VALUE pairs of a small run into ``output``; double underscores stand for dots."""
    merged = OPTIONS | {"OUTPUT_DIR": str(output)}
    merged |= {key.replace("__", "."): str(value) for key, value in changes.items()}
    return [word for pair in merged.items() for word in pair]


def command(*flags: str, output: Path, config: Path = CONFIG, **changes) -> list[str]:
    """The command line of a small run."""
    tool = [sys.executable, str(ROOT / "tools/train_net.py"), "--config-file", str(config)]
    return [*tool, *flags, *options(output, **changes)]


def environment(datasets: Path) -> dict[str, str]:
    """Environment of a run; one thread, so that tests beside each other do not fight for cores."""
    return os.environ | {"FASTREID_DATASETS": str(datasets), "OMP_NUM_THREADS": "1"}


def train(
    *flags: str, datasets: Path, output: Path, new: bool = False, **changes
) -> subprocess.CompletedProcess:
    """Run ``tools/train_net.py`` to its end.

    Args:
        *flags: of the command line.
        datasets: the FASTREID_DATASETS folder.
        output: folder of the run.
        new: in a new process, with an order of sets of its own; otherwise in a forked one.
        **changes: config keys, see ``options``.
    """
    words, env = command(*flags, output=output, **changes), environment(datasets)
    if new or changes.get("MODEL__DEVICE", "cpu") != "cpu":  # CUDA refuses a forked process
        return subprocess.run(words, env=env, capture_output=True, text=True, timeout=600)
    return commands.run(words, env=env)


def train_and_kill(
    *, datasets: Path, output: Path, until: str = "last_checkpoint", delay: float = 0.0, **changes
) -> None:
    """Run ``tools/train_net.py``; kill it ``delay`` seconds after the file ``until`` is there."""
    running = subprocess.Popen(
        command(output=output, **changes), env=environment(datasets), stdout=subprocess.DEVNULL
    )
    deadline = time.monotonic() + 300
    while not (output / until).exists() and time.monotonic() < deadline:
        assert running.poll() is None, "ended before it could be killed"
        time.sleep(0.01)
    time.sleep(delay)
    running.send_signal(signal.SIGKILL)
    running.wait()
