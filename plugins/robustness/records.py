"""What attacks leave on disk: enough to go on after a kill, and not to attack twice."""

import copy
import hashlib
import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import torch
import yaml
from fastreid.config import CfgNode
from torch import nn

from plugins.data.datasets.tracklet import as_tracklet
from plugins.errors import InputError
from plugins.robustness.outcomes import Attacked, Outcomes
from plugins.utils.digests import file_state
from plugins.utils.io import read_tensors, write_json, write_tensors

# Settings of an evaluation that an attack's result depends on, beside the weights and the data.
SECTIONS = ("MODEL", "ATTACK")
KEYS = (
    ("INPUT", "SIZE_TEST"),
    ("INPUT", "CROP"),
    ("INPUT", "CLIP"),
    ("TEST", "METRIC"),
    ("TEST", "FLIP"),
    ("TEST", "CLIPS"),
)
# Changes with what an attack does or a record holds, so that older records are not read.
FORMAT = 2
LOSSES = "loss_functions"  # where a meta-architecture keeps them
# Where a model runs and where its weights come from say nothing about it.
PLACES = ("DEVICE", "WEIGHTS")


class Record:
    """The files of one attack on one search; those made with another key count as missing.

    ``NAME.json`` is for people, ``NAME.pt`` holds the Outcomes as {"key", "outcomes"}, and
    ``NAME.parts/`` the finished batches of an attack that has not ended.

    Attributes:
        path: of ``NAME.pt``.
    """

    def __init__(self, folder: Path, name: str, key: str) -> None:
        """Keep the files ``name`` in ``folder``; ``key`` names all that the result depends on."""
        self._key = f"{FORMAT} {key}"
        self._summary, self.path = folder / f"{name}.json", folder / f"{name}.pt"
        self._parts = folder / f"{name}.parts"

    def read(self) -> Outcomes | None:
        """The outcomes, if the attack has ended."""
        return self._load(self.path, Outcomes)

    def keep(self, outcomes: Outcomes, summary: dict) -> None:
        """Write them and a summary of plain values; their parts are no longer needed."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        write_json(self._summary, {"key": self._key, **summary})
        self._save(self.path, outcomes)
        shutil.rmtree(self._parts, ignore_errors=True)

    def read_part(self, number: int) -> Attacked | None:
        """The batch of that number, if it was finished."""
        return self._load(self._part(number), Attacked)

    def keep_part(self, number: int, part: Attacked) -> None:
        """Write a finished batch."""
        self._save(self._part(number), part)

    def _part(self, number: int) -> Path:
        return self._parts / f"{number:06d}.pt"

    def _save(self, path: Path, values: Attacked) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        data = {"key": self._key, "outcomes": vars(values)}
        write_tensors(path, data)

    def _load(self, path: Path, kind: type[Attacked]) -> Attacked | None:
        if not path.is_file():
            return None
        try:
            saved = read_tensors(path, "record of an attack")
            return kind(**saved["outcomes"]) if saved["key"] == self._key else None
        except InputError as error:
            raise InputError(f"{error}; delete it to attack anew") from error
        except (KeyError, TypeError) as error:
            raise InputError(
                f"{path}: no record of an attack ({type(error).__name__}); delete it to attack anew"
            ) from error


def fingerprint(cfg: CfgNode, model: nn.Module, items: Sequence[tuple], **others: object) -> str:
    """SHA-256 of what an attack's result depends on.

    Args:
        cfg: the settings of ``SECTIONS`` and ``KEYS``.
        model: its layers and weights.
        items: query + gallery: files with size and time of their last change, persons, cameras.
        others: plain values, such as the name of the attack and the rows of the search.

    Raises:
        InputError: a file is missing.
    """
    settings = yaml.safe_load(cfg.dump())
    told = {section: settings[section] for section in SECTIONS}
    told["MODEL"] = {key: value for key, value in told["MODEL"].items() if key not in PLACES}
    told |= {f"{section}.{key}": settings[section][key] for section, key in KEYS}
    digest = hashlib.sha256(json.dumps([told, others], sort_keys=True).encode())
    digest.update(f"{without_losses(model)} {hash_weights(model)}".encode())
    for item in items:
        stamps = [file_state(path) for path in as_tracklet(item).img_paths]
        digest.update(repr((tuple(item), stamps)).encode())
    return digest.hexdigest()


def without_losses(model: nn.Module) -> nn.Module:
    """Return a view of a meta-architecture without its losses, on which no feature depends."""
    view = copy.copy(model)
    view._modules = {name: part for name, part in model._modules.items() if name != LOSSES}
    return view


def hash_weights(model: nn.Module) -> str:
    """SHA-256 of all parameters and buffers, without those of losses."""
    digest = hashlib.sha256()
    for name, tensor in without_losses(model).state_dict().items():
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()
