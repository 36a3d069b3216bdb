"""Checkpoints that were damaged or forged: refused, or read as they were written."""

import io
import os
import pickle
import random
import warnings
import zipfile
from collections import Counter
from pathlib import Path

import torch
from torch import nn
from tqdm import tqdm

from plugins.engine.checkpoint import Checkpointer, RandomState, read_checkpoint
from plugins.errors import InputError
from tests.soak.kills import differing

# Damage is what checksums notice. A forgery has right checksums, so only its reader can refuse it.
DAMAGE = ("bytes", "block", "cut")
FORGERY = ("pickle", "swapped", "payload")


def write_whole(folder: Path) -> Path:
    """A checkpoint as a training writes it: model, optimizer, random states, plain values."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 3))
    optimizer = torch.optim.Adam(model.parameters())
    model(torch.rand(2, 3, 8, 8)).sum().backward()
    optimizer.step()
    state = RandomState()
    state.capture()
    saver = Checkpointer(model, str(folder), optimizer=optimizer, random_state=state)
    saver.save("model_0000", epoch=0, metric=12.5)
    return folder / "model_0000.pth"


def mutated(whole: bytes, kind: str, generator: random.Random, victim: Path) -> bytes:
    """A checkpoint's bytes after one accident, or one attack.

    Args:
        whole: as written.
        kind: one of DAMAGE or FORGERY.
        generator: of the place.
        victim: file that a payload would write.
    """
    data = bytearray(whole)
    if kind == "bytes":
        for _ in range(generator.randint(1, 8)):
            data[generator.randrange(len(data))] ^= generator.randrange(1, 256)
    elif kind == "block":
        start = generator.randrange(len(data) - 64)
        data[start : start + 64] = bytes(255 - byte for byte in data[start : start + 64])
    elif kind == "cut":
        del data[generator.randrange(len(data)) :]
    else:
        parts = read_parts(whole)
        (pickled,) = [name for name in parts if name.endswith("data.pkl")]
        if kind == "pickle":
            program = bytearray(parts[pickled])
            for _ in range(generator.randint(1, 4)):
                program[generator.randrange(len(program))] = generator.randrange(256)
            parts[pickled] = bytes(program)
        elif kind == "swapped":
            first, second = generator.sample(sorted(parts), 2)
            parts[first], parts[second] = parts[second], parts[first]
        else:
            parts[pickled] = pickle.dumps({"model": Payload(victim)}, protocol=2)
        return write_parts(parts)
    return bytes(data)


class Payload:
    """Writes a file when it is unpickled."""

    def __init__(self, victim: Path) -> None:
        self.victim = victim

    def __reduce__(self) -> tuple:
        return os.mkdir, (str(self.victim),)


def read_parts(data: bytes) -> dict[str, bytes]:
    """Contents of a zip file by name."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return {entry.filename: archive.read(entry) for entry in archive.infolist()}


def write_parts(parts: dict[str, bytes]) -> bytes:
    """A zip file with right checksums."""
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", zipfile.ZIP_STORED) as archive:
        for name, part in parts.items():
            archive.writestr(name, part)
    return data.getvalue()


def mutate_checkpoints(folder: Path, count: int, generator: random.Random) -> dict:
    """Read ``count`` mutations of one checkpoint.

    Returns:
        ``mutations``, ``refused``, ``equal`` in contents, ``forged contents read`` (of valid
        checksums), ``silently different`` (damaged, yet read), ``tracebacks`` and ``payloads run``.
    """
    path, victim = write_whole(folder), folder / "victim"
    whole, expected = path.read_bytes(), read_checkpoint(str(path))
    found: Counter[str] = Counter(mutations=count)
    for number in tqdm(range(count), desc="mutations", unit="file"):
        kind = (*DAMAGE, *FORGERY)[number % 6]
        path.write_bytes(mutated(whole, kind, generator, victim))
        found[judge(path, expected, kind)] += 1
    found["payloads run"] = int(victim.exists())
    names = ("refused", "equal", "forged contents read", "silently different", "tracebacks")
    return {name: found[name] for name in ("mutations", *names, "payloads run")}


def judge(path: Path, expected: dict, kind: str) -> str:
    """What reading one mutation comes to, a key of the figures."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch wonders about the pickle's protocol
            content = read_checkpoint(str(path))
    except InputError as error:
        return "refused" if "\n" not in str(error) else "tracebacks"
    except Exception:
        return "tracebacks"
    if not differing(expected, content):
        return "equal"
    return "silently different" if kind in DAMAGE else "forged contents read"
