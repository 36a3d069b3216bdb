"""Examine a machine: what runs would meet there, and what to do about it.

Each examination returns findings; none trains on the user's data or writes anything that stays.
"""

import collections
import importlib.metadata
import importlib.util
import inspect
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import torch

from plugins import compat
from plugins.data.datasets.build import datasets_root
from plugins.engine.logs import DISTRIBUTION, versions
from plugins.engine.trial_step import moved_weights
from plugins.registry import DATASET

SHARED_MEMORY = Path("/dev/shm")
# A worker holds some batches there: 32 clips of 10 frames at 288x144 are 40 MB.
LEAST_SHARED = 2**30
LEAST_DISK = 5 * 2**30  # a run of the published size keeps checkpoints of some 100 MB each
MARKET = {"Market1501": "Market-1501-v15.09.15"}  # its reader has the name in its code
# Extra -> its use; setup.py says what each installs.
USES = {
    "video": "videos as input",
    "diffusion": "data balancing",
    "onnx": "the export",
    "checks": "HopSkipJump in reports",
    "parquet": "Parquet files",
    "gradcam": "Grad-CAM in pictures",
    "metric-learning": "losses of pytorch-metric-learning",
    "slurm": "jobs of a cluster",
    "benchmark": "the compiled ranking of fast-reid in benchmarks",
    "weights": "ImageNet weights of fast-reid's own networks",
}
NEED = re.compile(r"([\w.-]+)[^;]*; extra == \"([\w-]+)\"")


class Finding(NamedTuple):
    """State a fact about the machine.

    Attributes:
        subject: what was examined, one or two words.
        fact: what was found.
        advice: what to do; empty if the machine is in order here.
    """

    subject: str
    fact: str
    advice: str = ""


def examine(folder: str = ".") -> Iterator[Finding]:
    """Examine everything, in the order in which a run would need it.

    Args:
        folder: where runs will write.
    """
    yield from examine_versions()
    yield from examine_repairs()
    yield from examine_devices()
    yield from examine_training()
    yield from examine_data()
    yield from examine_folder("disk", Path(folder))
    yield from examine_folder("temporary files", Path(tempfile.gettempdir()))
    yield from examine_shared_memory()
    yield from examine_threads()
    yield from examine_extras()


def examine_versions() -> Iterator[Finding]:
    """Compare the installed packages with the least versions that this package asks for."""
    yield Finding("versions", versions())
    old = []
    for need in importlib.metadata.requires(DISTRIBUTION) or []:
        name, sign, least = need.partition(">=")
        if not sign or ";" in need:
            continue  # an extra
        try:
            installed = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            old.append(f"{name} is missing")
            continue
        if _numbers(installed) < _numbers(least):
            old.append(f"{name} {installed} is older than {least}")
    if old:
        yield Finding("packages", ", ".join(old), f"pip install --upgrade {DISTRIBUTION}")
    else:
        yield Finding("packages", "as new as they need to be")


def _numbers(version: str) -> tuple[int, ...]:
    parts = version.split("+")[0].split(".")
    return tuple(int(part) for part in parts if part.isdigit())


def examine_repairs() -> Iterator[Finding]:
    """List the repairs of fastreid that this Python and this torch need."""
    repairs = ["optimizer", "launcher", "loaders", "ranking"]  # in force everywhere
    if not hasattr(collections, "Mapping"):
        repairs.append("collections.Mapping")
    if importlib.util.find_spec("torch._six") is None:
        repairs.append("torch._six")
    yield Finding("repairs", f"of fastreid {compat.FASTREID_VERSION}: {', '.join(repairs)}")
    if compat.torchvision_is_mended():
        yield Finding(
            "torchvision",
            "its compiled operators do not fit this torch; nothing here needs them, but a program "
            "must import plugins before torchvision",
        )


def examine_devices() -> Iterator[Finding]:
    """Find the GPUs that torch can use, or say why it can use none."""
    if torch.cuda.is_available():
        for number in range(torch.cuda.device_count()):
            free, total = torch.cuda.mem_get_info(number)
            fact = f"{torch.cuda.get_device_name(number)}, {_size(free)} of {_size(total)} free"
            yield Finding(f"cuda:{number}", fact)
        bf16 = torch.cuda.is_bf16_supported(including_emulation=False)
        yield _bfloat16(bf16, "SOLVER.AMP.DTYPE float16")
        return
    if torch.version.cuda is None and shutil.which("nvidia-smi"):
        yield Finding(
            "device",
            "cpu: this torch is built without CUDA, but the machine has an NVIDIA driver",
            "install the CUDA build of the same torch: https://pytorch.org/get-started",
        )
    elif torch.version.cuda:
        advice = "see whether `nvidia-smi` works; without a GPU add MODEL.DEVICE cpu"
        yield Finding("device", "cpu: torch is built for CUDA, but finds no GPU", advice)
    else:
        yield Finding("device", "cpu")
    yield _bfloat16(torch.ops.mkldnn._is_mkldnn_bf16_supported(), "SOLVER.AMP.ENABLED False")


def _bfloat16(supported: bool, instead: str) -> Finding:
    if supported:
        return Finding("bfloat16", "supported: SOLVER.AMP.DTYPE bfloat16 makes runs faster")
    return Finding("bfloat16", f"not supported: {instead} is the choice here")


def examine_training() -> Iterator[Finding]:
    """Take one step of a small SADSTRM on each kind of device and see whether its weights move."""
    for device in ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]:
        moved, total = moved_weights(device)
        fact = f"one step on {device} moves {moved} of {total} weights and biases"
        advice = "" if moved == total else "reinstall torch and fastreid as README says"
        yield Finding("training", fact, advice)


def examine_data() -> Iterator[Finding]:
    """Find the folders of registered data sets in the folder of all data sets."""
    root = datasets_root()
    given = "FASTREID_DATASETS" if os.getenv("FASTREID_DATASETS") else "the default"
    if not os.path.isdir(root):
        advice = "set FASTREID_DATASETS to the folder that holds your data sets"
        yield Finding("data", f"{root} ({given}): no such folder", advice)
        return
    found = [
        f"{name} ({folder})"
        for name, folder in sorted(dataset_folders().items())
        if os.path.isdir(os.path.join(root, folder))
    ]
    advice = ""
    if not found:
        advice = "copy a data set there, or run `make demo`, which renders one"
    yield Finding(
        "data", f"{os.path.abspath(root)} ({given}): {', '.join(found) or 'none'}", advice
    )


def dataset_folders() -> dict[str, str]:
    """Map the name of each registered data set to the folder that its reader looks for."""
    folders = dict(MARKET)
    for name, reader in DATASET._obj_map.items():
        parameter = inspect.signature(reader.__init__).parameters.get("dataset_dir")
        default = parameter.default if parameter else getattr(reader, "dataset_dir", "")
        if isinstance(default, str) and default:
            folders[name] = default
    return folders


def examine_folder(subject: str, folder: Path) -> Iterator[Finding]:
    """See whether a folder can be written, and how much room its disk has."""
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        advice = "choose another folder: OUTPUT_DIR for runs, TMPDIR for temporary files"
        yield Finding(subject, f"{folder.absolute()}: {error.strerror}", advice)
        return
    free = shutil.disk_usage(folder).free
    advice = "" if free >= LEAST_DISK else f"make room: runs want {_size(LEAST_DISK)} or more"
    yield Finding(subject, f"{folder.absolute()}: {_size(free)} free", advice)


def examine_shared_memory(folder: Path = SHARED_MEMORY) -> Iterator[Finding]:
    """See whether the workers of the loaders have room for their batches."""
    if not folder.is_dir():
        advice = "add DATALOADER.NUM_WORKERS 0"
        yield Finding("shared memory", f"{folder}: no such folder", advice)
        return
    free = shutil.disk_usage(folder).free
    advice = ""
    if free < LEAST_SHARED:
        advice = "start the container with --shm-size=8g, or add DATALOADER.NUM_WORKERS 0"
    yield Finding("shared memory", f"{_size(free)} free", advice)


def examine_threads(threads: int | None = None) -> Iterator[Finding]:
    """Compare the threads of torch with the cores that this process may use."""
    cores = len(os.sched_getaffinity(0))
    threads = threads or torch.get_num_threads()
    advice = ""
    if threads > cores:
        advice = f"set OMP_NUM_THREADS={cores}; more threads than cores slow each other down"
    yield Finding("threads", f"{threads} of torch, {cores} cores", advice)


def examine_extras() -> Iterator[Finding]:
    """List the extras that are installed, and how to get the others."""
    lacking = {extra: [need for need in needs if _lacks(need)] for extra, needs in extras().items()}
    there = sorted(extra for extra, needs in lacking.items() if not needs)
    yield Finding("extras", f"{', '.join(there) or 'none'} installed")
    for extra, needs in lacking.items():
        if needs:
            verb = "is" if len(needs) == 1 else "are"
            yield Finding(
                f"extra {extra}",
                f"{', '.join(needs)} {verb} not installed; for {USES[extra]}: "
                f'pip install "{DISTRIBUTION}[{extra}]"',
            )


def extras() -> dict[str, list[str]]:
    """Map each extra of :data:`USES` to the packages that it installs."""
    found: dict[str, list[str]] = {}
    for need in importlib.metadata.requires(DISTRIBUTION) or []:
        if (named := NEED.fullmatch(need)) and named[2] in USES:
            found.setdefault(named[2], []).append(named[1])
    return found


def _lacks(package: str) -> bool:
    try:
        importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return True
    return False


def _size(number: float) -> str:
    return f"{number / 2**30:.1f} GiB"
