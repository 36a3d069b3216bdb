"""Write checkpoints atomically, load them without unpickling objects, refuse those that do not fit.

A file holds the keys ``model, optimizer, lr_sched, warmup_sched, epoch, metric`` of fastreid and
``sampler, random_state, best_metric, config`` and the step's own optimizers. ``model`` is what is
deployed; with SOLVER.EMA_DECAY it is an average, and ``live`` holds the network in training.
"""

import logging
import math
import os
import random
from collections.abc import Callable, Collection
from pathlib import Path
from shlex import quote
from typing import Any, cast

import numpy as np
import torch
from fastreid.config import CfgNode
from fastreid.utils import comm
from fastreid.utils.checkpoint import Checkpointer as FastreidCheckpointer
from torch import Tensor

from plugins.config import flatten
from plugins.config.tree import plain
from plugins.engine.interruption import KEY
from plugins.errors import InputError, one_line
from plugins.modeling.dual_norm import BRANCHES
from plugins.utils.io import read_tensors, read_text, require_file, write_tensors, write_text
from plugins.utils.names import list_names
from plugins.utils.values import shortened
from plugins.utils.yaml_files import parse_yaml

logger = logging.getLogger(__name__)

# Another set of people has another classifier, and an evaluation needs neither it nor an adversary
# nor what losses learn.
CLASSIFIERS = ("heads.weight", "heads.cls_layer.", "heads.relation.weight", "heads.frame_weight")
LEARNED_BY_LOSSES = ("loss_functions.", "relation_losses.", "frame_losses.")
OPTIONAL_KEYS = (*CLASSIFIERS, "attack.", *LEARNED_BY_LOSSES)
# Parts of a network that decide its features; a tensor of a file that finds no place there tells
# that the file is of another network.
FEATURE_PATH = ("backbone.", "temporal.", "heads.")
# Batches counted by a BatchNorm, which no feature depends on; a frozen BatchNorm counts none.
COUNTER = "num_batches_tracked"
LIVE = "live"
# Settings that a resumed run cannot change: its optimizers and schedule go on as saved.
OPTIMIZER = ("OPT", "BASE_LR", "BIAS_LR_FACTOR", "HEADS_LR_FACTOR", "MOMENTUM", "NESTEROV")
DECAY = ("WEIGHT_DECAY", "WEIGHT_DECAY_NORM", "WEIGHT_DECAY_BIAS")
RATES = ("SCHED", "STEPS", "GAMMA", "DELAY_EPOCHS", "ETA_MIN_LR")
WARMUP = ("WARMUP_FACTOR", "WARMUP_EPOCHS", "WARMUP_ITERS", "WARMUP_METHOD")
ADVERSARY = ("ADVERSARY.BASE_LR", "ADVERSARY.MOMENTUM", "ADVERSARY.WEIGHT_DECAY")
SCHEDULE = (
    *(f"SOLVER.{name}" for name in (*OPTIMIZER, *DECAY, *RATES, *WARMUP, *ADVERSARY)),
    "SOLVER.FREEZE_ITERS",
    "MODEL.FREEZE_LAYERS",
    "DEFENSE.DISCRIMINATOR.BASE_LR",
    "DEFENSE.DISCRIMINATOR.HIDDEN",
)


class Checkpointer(FastreidCheckpointer):
    """Make fastreid's checkpointer safe against kills, half-written files and wrong weights."""

    def save(self, name: str, **kwargs: Any) -> None:
        """Write ``name``.pth completely or not at all, then point ``last_checkpoint`` at it."""
        if not self.save_dir or not self.save_to_disk:
            return
        data = {"model": self.model.state_dict()}
        data |= {key: obj.state_dict() for key, obj in self.checkpointables.items()}
        data |= kwargs
        path = Path(self.save_dir, f"{name}.pth")
        self.logger.info("Saving checkpoint to %s", path)
        write_tensors(path, data)
        self.tag_last_checkpoint(path.name)

    def tag_last_checkpoint(self, last_filename_basename: str) -> None:
        """Write the name of the newest checkpoint into ``last_checkpoint``, atomically."""
        write_text(Path(self.save_dir, "last_checkpoint"), last_filename_basename)

    def has_checkpoint(self) -> bool:
        """Tell whether there is a checkpoint to resume from."""
        return bool(newest_checkpoint(Path(self.save_dir))[0])

    def get_checkpoint_file(self) -> str:
        """Return :func:`newest_checkpoint` of the folder; warn if ``last_checkpoint`` is wrong."""
        path, remark = newest_checkpoint(Path(self.save_dir))
        if remark:
            self.logger.warning("%s", remark)
        return path

    def load(self, path: str, checkpointables: list[str] | None = None) -> dict:
        """Load a checkpoint as fastreid does, but only if it fits.

        Args:
            path: file; empty loads nothing.
            checkpointables: names to restore beside the model; None restores all, and then the
                weights must fit exactly, as a resumed run needs.

        Raises:
            InputError: no such file, not a whole checkpoint, weights of another model, or a state
                that a part of this run cannot go on from.
        """
        if path:
            require_file(path, "MODEL.WEIGHTS")
        self._path, self._exactly = path, checkpointables is None
        if not path:
            return super().load(path, checkpointables)
        self.logger.info("Loading checkpoint from %s", path)
        checkpoint = self._load_file(path)
        self._load_model(checkpoint)
        for key in self.checkpointables if checkpointables is None else checkpointables:
            if key in checkpoint:
                self.logger.info("Loading %s from %s", key, path)
                self._restore(key, checkpoint.pop(key))
        return checkpoint

    def _restore(self, key: str, state: object) -> None:
        try:
            self.checkpointables[key].load_state_dict(state)
        except InputError:
            raise
        # Each part reads its state in its own way; of a state made by hand anything may be wrong.
        except Exception as error:
            raise InputError(
                f"{self._path}: cannot resume from it: its '{key}' is not what this run saves "
                f"({type(error).__name__}: {one_line(error)}); to start from its weights alone, "
                "set MODEL.WEIGHTS and leave out --resume"
            ) from error

    def _load_file(self, f: str) -> dict:
        checkpoint = read_checkpoint(f, bare=not self._exactly)
        if self._exactly:
            if (LIVE in checkpoint) != (LIVE in self.checkpointables):
                had, expected = ("with", "above 0") if LIVE in checkpoint else ("without", "0")
                raise InputError(
                    f"{f}: cannot resume from it: its run was {had} averaged weights; expected "
                    f"SOLVER.EMA_DECAY {expected}; to start from its weights alone, set "
                    "MODEL.WEIGHTS and leave out --resume"
                )
            missing = [key for key in self.checkpointables if key not in checkpoint]
            if missing:
                raise InputError(
                    f"{f}: cannot resume from it: it lacks {', '.join(missing)}; "
                    "to start from its weights alone, set MODEL.WEIGHTS and leave out --resume"
                )
        return checkpoint

    def _load_model(self, checkpoint: dict) -> None:
        weights = {
            key.removeprefix("module."): value for key, value in checkpoint.pop("model").items()
        }
        expected = self.model.state_dict()
        for name, part in self.model.named_modules():
            if hasattr(part, "check_weights"):
                prefix = f"{name}."
                names = {key.removeprefix(prefix) for key in weights if key.startswith(prefix)}
                part.check_weights(names, self._path)
        optional = () if self._exactly else OPTIONAL_KEYS
        kept = []
        for key in [key for key in expected if key.startswith(optional)] if optional else []:
            if key not in weights or weights[key].shape != expected[key].shape:
                why = "is not in the file" if key not in weights else "is of another shape there"
                kept.append(f"{key} {why}")
                weights[key] = expected[key]
        wrong = [f"{key} (missing)" for key in expected if key not in weights]
        wrong += [
            f"{key} {tuple(weights[key].shape)} instead of {tuple(expected[key].shape)}"
            for key in expected
            if key in weights and weights[key].shape != expected[key].shape
        ]
        if wrong:
            raise InputError(
                f"{self._path}: not the weights of this {type(self.model).__name__}: "
                f"{len(wrong)} of {len(expected)} tensors do not fit, such as "
                f"{', '.join(wrong[:3])}"
            )
        self._refuse_kinds(weights, expected)
        self._refuse_unused([key for key in weights if key not in expected], expected)
        for each in kept:
            self.logger.info("%s: %s, so that it is not loaded", self._path, each)
        self.model.load_state_dict({key: weights[key] for key in expected})

    def _refuse_kinds(self, weights: dict[str, Tensor], own: dict[str, Tensor]) -> None:
        """Raise InputError for a tensor of another kind of numbers, which torch would convert."""
        for key, tensor in own.items():
            found, expected = number_kind(weights[key]), number_kind(tensor)
            if found != expected:
                raise InputError(
                    f"{self._path}: {key} holds {found} numbers ({weights[key].dtype}); expected "
                    f"{expected} ones ({tensor.dtype})"
                )

    def _refuse_unused(self, unused: list[str], expected: Collection[str]) -> None:
        """Raise InputError for unused tensors of the feature path; warn of others.

        Args:
            unused: names of the tensors of the file that the model does not have.
            expected: names of the model's tensors.
        """
        foreign = [
            key
            for key in unused
            if key.startswith(FEATURE_PATH) and not key.startswith(OPTIONAL_KEYS)
            if not key.endswith(COUNTER) or key.removesuffix(COUNTER) + "running_var" in unused
            if without_branch(key) not in expected
        ]
        if foreign:
            raise InputError(
                f"{self._path}: not the weights of this {type(self.model).__name__}: "
                f"{len(foreign)} of its tensors find no place in backbone, temporal part or head, "
                f"such as {', '.join(foreign[:3])}; expected the config of the training"
            )
        if unused := [key for key in unused if not key.endswith(COUNTER)]:
            self.logger.warning(
                "%s: %d tensors are not used, which no feature depends on: %s",
                self._path,
                len(unused),
                ", ".join(unused[:3]) + (", ..." if unused[3:] else ""),
            )


def without_branch(key: str) -> str:
    """Leave out the branch of MODEL.DUAL_NORM, which a model without it does not deploy.

    >>> without_branch("backbone.bn1.attacked.weight")
    'backbone.bn1.weight'
    """
    return ".".join(part for part in key.split(".") if part not in BRANCHES)


def read_checkpoint(path: str, *, bare: bool = False) -> dict:
    """Read a checkpoint file, which holds tensors and plain values only.

    Args:
        path: of the file.
        bare: take a plain state dict too, as a checkpoint that holds its ``model`` alone.

    Raises:
        InputError: the file is damaged, is not a checkpoint, or holds other objects.
    """
    try:
        checkpoint = read_tensors(path, "checkpoint")
    except InputError as error:
        raise InputError(f"{error}; others in its folder: {_others(path)}") from error
    if is_state_dict(checkpoint):
        if bare:
            return {"model": checkpoint}
        raise InputError(
            f"{path}: a plain state dict, which holds weights alone; to start from them, set "
            "MODEL.WEIGHTS and leave out --resume"
        )
    if not isinstance(checkpoint, dict) or not isinstance(checkpoint.get("model"), dict):
        raise InputError(
            f"{path}: not a checkpoint: it has no 'model' of named tensors"
            f"{_what_it_has(path, checkpoint)}"
        )
    for name, value in checkpoint["model"].items():
        if not (isinstance(name, str) and isinstance(value, torch.Tensor)):
            raise InputError(
                f"{path}: not a checkpoint: its 'model' holds a {type(value).__name__} under "
                f"{name!r}; expected tensors by their names"
            )
    return checkpoint


def _what_it_has(path: str, content: object) -> str:
    """Say what a foreign file holds, and how to take its weights out; after a semicolon."""
    if not isinstance(content, dict):
        return f"; it holds a {type(content).__name__}"
    keys = f"; it has {list_names([str(key) for key in content])}" if content else "; it is empty"
    weights = [key for key, value in content.items() if is_state_dict(value)]
    if not weights:
        return keys
    file = Path(path)
    code = (
        f"import torch; torch.save(torch.load({str(file)!r}, weights_only=True)[{weights[0]!r}], "
        f"{str(file.with_stem(f'{file.stem}_weights'))!r})"
    )
    return (
        f"{keys}; MODEL.WEIGHTS takes the weights in {weights[0]!r} alone: python -c {quote(code)}"
    )


def check_progress(path: str, checkpoint: dict) -> None:
    """Raise InputError if a checkpoint's epoch or metric is missing or no number."""
    epoch, metric = checkpoint.get("epoch"), checkpoint.get("metric", -1.0)
    for name, value, expected in (("epoch", epoch, int), ("metric", metric, (int, float))):
        number = isinstance(value, expected) and not isinstance(value, bool)
        if not (number and math.isfinite(cast(float, value))):
            raise InputError(
                f"{path}: cannot resume from it: its {name} is {value!r}; expected a number"
            )
    assert isinstance(epoch, int)
    if epoch < -1:  # -1: interrupted in the first epoch
        raise InputError(
            f"{path}: cannot resume from it: its epoch is {epoch}; expected -1 or more"
        )


def number_kind(tensor: Tensor) -> str:
    """Say what a tensor holds: "floating-point", "whole", "complex", "sparse" or "quantized"."""
    if tensor.layout != torch.strided:
        return "sparse"
    if tensor.is_quantized:
        return "quantized"
    if tensor.is_complex():
        return "complex"
    return "floating-point" if tensor.is_floating_point() else "whole"


def is_state_dict(content: object) -> bool:
    """Tell whether a value is a dictionary of one or more tensors by name."""
    return (
        isinstance(content, dict)
        and bool(content)
        and all(isinstance(k, str) and isinstance(v, torch.Tensor) for k, v in content.items())
    )


def check_schedule(path: str, cfg: CfgNode) -> None:
    """Raise InputError if a resumed run asks for another schedule than its checkpoint had.

    A cosine falls to its end at SOLVER.MAX_EPOCH, so with it that belongs to the schedule.
    """
    checkpoint = read_checkpoint(path)
    check_states(path, checkpoint)
    saved = checkpoint.get("config")
    if saved and not (isinstance(saved, dict) and isinstance(saved.get("yaml"), str)):
        raise InputError(f"{path}: cannot resume from it: its 'config' holds no YAML of a config")
    changed = changed_settings(saved["yaml"], cfg, path) if saved else {}
    cosine = cfg.SOLVER.SCHED == "CosineAnnealingLR"
    for key in [*SCHEDULE, *(["SOLVER.MAX_EPOCH"] if cosine else [])]:
        if key in changed:
            before, now = changed[key]
            raise InputError(
                f"{path}: cannot resume from it with {key} {now}; was {before}: optimizer and "
                "schedule go on as saved; to start anew from its weights, set MODEL.WEIGHTS and "
                "leave out --resume"
            )


def check_states(path: str, checkpoint: dict) -> None:
    """Raise InputError for a best metric, scheduler or random state that no run saves.

    Called before any data is read. An entry that is missing is told when the run has its parts.

    Args:
        path: of the checkpoint, for the message.
        checkpoint: contents of the file.
    """
    for key, check in STATES.items():
        if key in checkpoint and (wrong := check(checkpoint[key], checkpoint)):
            raise InputError(
                f"{path}: cannot resume from it: its '{key}' is not what a run saves: {wrong}"
            )


def _wrong_best(state: Any, checkpoint: dict) -> str:
    value: Any = state.get("value") if isinstance(state, dict) else None
    if type(value) in (int, float) and -1 <= value < math.inf:
        return ""
    return f"found {shortened(state)}; expected a finite 'value' of -1 or more"


def _wrong_schedule(state: Any, checkpoint: dict) -> str:
    """Check a learning-rate scheduler; that of epochs has taken no more steps than epochs ended."""
    count: Any = state.get("last_epoch") if isinstance(state, dict) else None
    if type(count) is not int or count < 0:
        return f"its last_epoch is {shortened(count)}; expected a whole number of 0 or more"
    rates = ("base_lrs", "_last_lr")
    for name in rates:
        values = state.get(name, [])
        if not isinstance(values, list) or not all(map(_is_rate, values)):
            return f"its {name} is {shortened(values)}; expected finite numbers of 0 or more"
    return ""


def _wrong_epochs(state: Any, checkpoint: dict) -> str:
    if wrong := _wrong_schedule(state, checkpoint):
        return wrong
    count, epoch = state["last_epoch"], checkpoint.get("epoch")
    if type(epoch) is int:
        # A run that was interrupted in an evaluation has ended the next epoch but for that.
        most = epoch + (2 if KEY in checkpoint else 1)
        if count > most:
            return f"its last_epoch is {count}; expected {most} or less, as its epoch is {epoch}"
    return ""


def _is_rate(value: object) -> bool:
    if isinstance(value, Tensor):
        value = value.item() if value.numel() == 1 else None
    return type(value) in (int, float) and 0 <= cast(float, value) < math.inf


def _wrong_random(state: Any, checkpoint: dict) -> str:
    ranks = state.get("ranks") if isinstance(state, dict) else None
    if not isinstance(ranks, list) or not ranks:
        return f"its ranks are {shortened(ranks)}; expected a state for each process"
    before = random.getstate(), np.random.get_state(), torch.get_rng_state()
    try:
        for rank in ranks:
            restore_generators(rank)
    except Exception as error:
        return f"{type(error).__name__}: {one_line(error)}"
    finally:
        random.setstate(before[0])
        np.random.set_state(before[1])
        torch.set_rng_state(before[2])
    return ""


STATES: dict[str, Callable[[Any, dict], str]] = {
    "best_metric": _wrong_best,
    "lr_sched": _wrong_epochs,
    "warmup_sched": _wrong_schedule,
    "random_state": _wrong_random,
}


def changed_settings(before: str, cfg: CfgNode, path: str) -> dict[str, tuple]:
    """Return (value in the YAML ``before``, value now) by key, where the two differ.

    Args:
        before: config of a checkpoint.
        cfg: config of this run.
        path: of the checkpoint, for messages.

    Raises:
        InputError: ``before`` is no YAML, holds objects, or is no mapping.
    """
    source = f"{path}: cannot resume from it: its 'config'"
    tree = parse_yaml(before, source)
    if not isinstance(tree, dict):
        raise InputError(f"{source}: found {shortened(tree)}; expected KEY: VALUE lines")
    old, new = dict(flatten(tree)), dict(flatten(plain(cfg)))
    keys = sorted(old.keys() | new.keys())
    return {key: (old.get(key), new.get(key)) for key in keys if old.get(key) != new.get(key)}


def newest_checkpoint(folder: Path) -> tuple[str, str]:
    """Find the checkpoint that ``last_checkpoint`` names, else the newest one in the folder.

    Returns:
        A path, empty where the folder has no checkpoint, and a remark where ``last_checkpoint``
        does not name the file.
    """
    tag = folder / "last_checkpoint"
    name = read_text(tag).strip() if tag.is_file() else ""
    if name and (folder / name).is_file():
        return str(folder / name), ""
    files = newest_first(folder)
    if not files:
        return "", ""
    if not tag.is_file():
        return str(files[0]), ""
    found = f"'{name}', which is not there" if name else "no checkpoint"
    return str(files[0]), (
        f"{tag} names {found}; going on from the newest checkpoint beside it, {files[0]}"
    )


def newest_first(folder: Path) -> list[Path]:
    """List the checkpoints of a run's folder without model_best.pth, the newest first."""
    files = [file for file in folder.glob("model_*.pth") if file.name != "model_best.pth"]
    return sorted(files, key=os.path.getmtime, reverse=True)


def _others(path: str) -> str:
    files = sorted(Path(path).parent.glob("model_*.pth"), key=os.path.getmtime, reverse=True)
    return ", ".join(str(file) for file in files if file != Path(path)) or "none"


class RandomState:
    """Keep the states of the random generators of all ranks for a checkpoint.

    All ranks call :meth:`capture`; rank 0 saves what it gathered.
    """

    def __init__(self) -> None:
        """Begin without captured states."""
        self._states: list[dict] = []

    def capture(self) -> None:
        """Gather the state of Python's, numpy's and torch's generators from every rank."""
        version, python, gauss = random.getstate()
        kind, keys, position, has_gauss, cached = cast(tuple, np.random.get_state())
        states = {
            "python": [version, list(python), gauss],
            "numpy": [kind, keys.tolist(), position, has_gauss, cached],
            "torch": torch.get_rng_state(),
            "cuda": torch.cuda.get_rng_state() if torch.cuda.is_available() else None,
        }
        self._states = comm.gather(states)

    def state_dict(self) -> dict:
        """Return the states, one for each rank."""
        return {"ranks": self._states}

    def load_state_dict(self, state: dict) -> None:
        """Restore this rank's generators; with another number of ranks they go on as seeded."""
        ranks = self._states = state["ranks"]
        if len(ranks) != comm.get_world_size():
            return
        mine = ranks[comm.get_rank()]
        restore_generators(mine)
        if mine["cuda"] is not None and torch.cuda.is_available():
            torch.cuda.set_rng_state(mine["cuda"])


def restore_generators(states: dict) -> None:
    """Set the generators of Python, numpy and torch's CPU to what ``RandomState`` captured."""
    version, python, gauss = states["python"]
    random.setstate((version, tuple(python), gauss))
    np.random.set_state(tuple(states["numpy"]))
    torch.set_rng_state(states["torch"])


class BestMetric:
    """Keep the best ``metric`` so far, so that a resumed run overwrites no better model."""

    def __init__(self) -> None:
        """Begin with a value below every metric."""
        self.value = -1.0

    def state_dict(self) -> dict:
        """Return the value."""
        return {"value": float(self.value)}

    def load_state_dict(self, state: dict) -> None:
        """Restore the value."""
        self.value = state["value"]


class SavedConfig:
    """Keep the config inside a checkpoint; a resumed run logs the settings that differ."""

    def __init__(self, cfg: CfgNode) -> None:
        """Take this run's config."""
        self._cfg = cfg

    def state_dict(self) -> dict:
        """Return the config as YAML."""
        return {"yaml": self._cfg.dump()}

    def load_state_dict(self, state: dict) -> None:
        """Log every key whose value differs from that of the checkpoint's run."""
        changed = changed_settings(state["yaml"], self._cfg, "the checkpoint")
        for key, (before, now) in changed.items():
            logger.warning("Resuming with %s %s; was %s", key, now, before)
