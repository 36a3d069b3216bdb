"""Training of the generator, resumable at any step, bit by bit as a run without a stop.

A step draws from (seed, step) alone, so a checkpoint needs no random state.
"""

import csv
import dataclasses
import hashlib
import io
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers.training_utils import EMAModel
from fastreid.config import CfgNode
from torch import Tensor, nn
from tqdm import tqdm

from plugins.balancing.edm import denoising_loss, draw_sigma, to_unit
from plugins.balancing.network import ConditionalUNet
from plugins.balancing.photographs import Photograph, labels, read_photographs
from plugins.engine.checkpoint import read_checkpoint
from plugins.errors import InputError
from plugins.interrupts import Interrupted, StopSignals
from plugins.utils.commands import command_line
from plugins.utils.images import MAX_PIXELS
from plugins.utils.io import write_tensors, write_text
from plugins.utils.random import item_generator

logger = logging.getLogger(__name__)

CHECKPOINT, LOSSES = "generator.pth", "losses.csv"
CLIP_NORM = 1.0  # largest norm of the whole gradient


@dataclass(frozen=True)
class TrainingSettings:
    """All settings that determine the weights of a generator; DATASETS.BALANCE.GENERATOR."""

    size: tuple[int, int]
    channels: tuple[int, ...]
    layers: int
    patch: int
    unknown: float
    ema: float
    batch: int
    base_lr: float
    seed: int

    @classmethod
    def from_config(cls, cfg: CfgNode) -> "TrainingSettings":
        """Read a config; SEED -1 counts as 0, because otherwise no run could be resumed."""
        keys = cfg.DATASETS.BALANCE.GENERATOR
        names = [field.name for field in dataclasses.fields(cls) if field.name != "seed"]
        values = {name: keys[name.upper()] for name in names}
        lists = {name: tuple(values[name]) for name in ("size", "channels")}
        return cls(**values | lists, seed=max(cfg.SEED, 0))

    def network(self, people: int, cameras: int) -> ConditionalUNet:
        """Build the network with random weights from torch's global generator.

        Raises:
            InputError: size and channels do not fit.
        """
        return ConditionalUNet(
            people, cameras, self.size, self.channels, self.layers, patch=self.patch
        )


class GeneratorTraining:
    """Holds the state of a training and advances it.

    Attributes:
        people: known people, sorted; a label is an index in this list.
        cameras: known cameras, likewise.
        step: number of steps so far.
        losses: loss of each step.
    """

    def __init__(
        self,
        photographs: Sequence[Photograph],
        settings: TrainingSettings,
        device: str,
        max_pixels: int = MAX_PIXELS,
    ) -> None:
        """Draw random weights; the images, of at most ``max_pixels``, are read at the first step.

        Raises:
            InputError: there are no images, or the settings describe no network.
        """
        if not photographs:
            raise InputError("DATASETS.BALANCE.NAME: it has no training images")
        self._training_set = training_set(photographs)
        self.people, self.cameras = self._training_set["people"], self._training_set["cameras"]
        self.step = 0
        self.losses: list[float] = []
        self._photographs, self._settings, self._device = photographs, settings, device
        self._max_pixels = max_pixels
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(settings.seed)
            network = settings.network(len(self.people), len(self.cameras))
        self._network = network.to(device)
        self._average = EMAModel(self._network.parameters(), decay=settings.ema)
        self._optimizer = torch.optim.Adam(self._network.parameters(), lr=settings.base_lr)

    def run(self, folder: Path, steps: int, period: int) -> None:
        """Train until ``steps``; save every ``period`` steps, at the end and when interrupted.

        Args:
            folder: folder to write to; a checkpoint in it is resumed.
            steps: steps of the whole training; a larger number continues a finished run.
            period: steps between two checkpoints.

        Raises:
            InputError: the checkpoint is damaged or has other settings, images or layers; or the
                gradient is not finite.
            Interrupted: a signal interrupted the training after a complete, saved step.
        """
        folder.mkdir(parents=True, exist_ok=True)
        if (folder / CHECKPOINT).is_file():
            self._load(folder / CHECKPOINT)
            logger.info("%s: resumed at step %d", folder / CHECKPOINT, self.step)
        if self.step >= steps:
            return
        images = read_photographs(self._photographs, self._settings.size, self._max_pixels)
        people = labels([photograph.person for photograph in self._photographs], self.people)
        cameras = labels([photograph.camera for photograph in self._photographs], self.cameras)
        progress = tqdm(total=steps, initial=self.step, desc="generator", unit="step")
        with StopSignals() as stop, progress as bar:
            while self.step < steps:
                self.losses.append(self._advance(images, people, cameras))
                self.step += 1
                bar.update()
                bar.set_postfix(loss=f"{sum(self.losses[-100:]) / len(self.losses[-100:]):.4f}")
                signal = stop.signal
                if self.step % period == 0 or self.step == steps or signal is not None:
                    self._save(folder)
                if signal is not None and self.step < steps:
                    done = f"saved {folder / CHECKPOINT} after step {self.step} of {steps}"
                    raise Interrupted(signal, f"{done}; the same command goes on from there")

    def _advance(self, images: Tensor, people: Tensor, cameras: Tensor) -> float:
        """Take one step of Adam; all draws are on the CPU, so the device does not change them."""
        settings = self._settings
        generator = item_generator(settings.seed, self.step)
        chosen = torch.randint(len(images), (settings.batch,), generator=generator)
        clean = to_unit(images[chosen])
        noise = torch.randn(clean.shape, generator=generator)
        sigma = draw_sigma(len(clean), generator)
        labels = self._network.forget(people[chosen], cameras[chosen], settings.unknown, generator)
        batch = (part.to(self._device) for part in (clean, noise, sigma, *labels))
        loss = denoising_loss(self._network, *batch)
        self._optimizer.zero_grad()
        loss.backward()
        norm = nn.utils.clip_grad_norm_(self._network.parameters(), CLIP_NORM)
        # The gradient overflows before the loss; updating would spoil weights that may be saved.
        if not norm.isfinite():
            raise InputError(
                f"the generator's gradient is {norm.item()}, its loss {loss.item()}, at step "
                f"{self.step}; lower DATASETS.BALANCE.GENERATOR.BASE_LR {settings.base_lr}"
            )
        self._optimizer.step()
        self._average.step(self._network.parameters())
        return loss.item()

    def _save(self, folder: Path) -> None:
        data = {
            "model": self._network.state_dict(),
            "average": self._average.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "losses": torch.tensor(self.losses, dtype=torch.float64),
            "settings": dataclasses.asdict(self._settings),
            **self._training_set,
        }
        write_tensors(folder / CHECKPOINT, data)
        table = io.StringIO(newline="")
        csv.writer(table, lineterminator="\n").writerows(
            [("step", "loss"), *enumerate(self.losses, start=1)]
        )
        write_text(folder / LOSSES, table.getvalue())

    def _load(self, path: Path) -> None:
        data = read_generator(path)
        current = dataclasses.asdict(self._settings) | self._training_set
        require_same_training(data, current, path)
        require_same_network(self._network, data, path)
        self._network.load_state_dict(data["model"])
        self._average.load_state_dict(data["average"])
        self._average.to(self._device)
        self._optimizer.load_state_dict(data["optimizer"])
        self.losses = data["losses"].tolist()
        self.step = len(self.losses)


def training_set(photographs: Sequence[Photograph]) -> dict[str, Any]:
    """Identify a training set, wherever its folder is: people, cameras, a digest of file names."""
    names = [(Path(image.path).name, image.person, image.camera) for image in photographs]
    return {
        "people": sorted({photograph.person for photograph in photographs}),
        "cameras": sorted({photograph.camera for photograph in photographs}),
        "images": hashlib.sha256(repr(names).encode()).hexdigest()[:12],
    }


def require_same_training(data: dict, current: dict[str, Any], path: Path) -> None:
    """Raise InputError if a checkpoint's settings or training set are not the current ones."""
    for name, value in current.items():
        saved = data["settings"][name] if name in data["settings"] else data[name]
        # Older checkpoints have the number of images instead of a digest.
        if saved != value and not (name == "images" and isinstance(saved, int)):
            raise InputError(
                f"{path}: trained with {name} {shorten(saved)}, now it is {shorten(value)}; "
                "move it away to train anew"
            )


def read_generator(path: Path) -> dict:
    """Read a generator's checkpoint.

    Raises:
        InputError: the file is missing, damaged, not a generator's checkpoint, or from a version
            with other settings.
    """
    if not path.is_file():
        command = f"{command_line('balance_data')} train"
        raise InputError(f"{path}: no such file; {command} writes it")
    data = read_checkpoint(str(path))
    if "average" not in data:
        raise InputError(f"{path}: not a generator's checkpoint: it has no 'average'")
    known = {field.name for field in dataclasses.fields(TrainingSettings)}
    if odd := known ^ data["settings"].keys():
        raise InputError(
            f"{path}: its settings differ from this version's in {', '.join(sorted(odd))}; move it "
            "away to train anew"
        )
    return data


def require_same_network(network: nn.Module, data: dict, path: Path) -> None:
    """Raise InputError if a checkpoint's weights have other names than the network's.

    diffusers' EMAModel identifies weights by their order alone, and would confuse them.
    """
    if data["model"].keys() != network.state_dict().keys():
        raise InputError(
            f"{path}: its network has other layers than this version's; move it away to train anew"
        )


def shorten(value: object) -> str:
    """Format a value for a message; a list is reduced to its length."""
    return f"({len(value)} names)" if isinstance(value, list) else str(value)
