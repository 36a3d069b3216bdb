"""Fingerprints: what the result of an attack depends on, as one hash."""

import copy
import hashlib
import json
from collections.abc import Sequence

import torch
from fastreid.config import CfgNode
from torch import nn

from plugins.config import flatten
from plugins.config.tree import ADDED_BY, plain
from plugins.data.datasets.tracklet import as_tracklet
from plugins.utils.digests import file_state
from plugins.utils.own_code import code_digest

# Settings of an evaluation that an attack's result depends on, besides the weights and the data.
SECTIONS = ("MODEL", "ATTACK")
KEYS = (
    ("INPUT", "SIZE_TEST"),
    ("INPUT", "CROP"),
    ("INPUT", "CLIP"),
    ("TEST", "METRIC"),
    ("TEST", "FLIP"),
    ("TEST", "CLIPS"),
)
LOSSES = "loss_functions"  # where a meta-architecture keeps them
# The device and the file of the weights change nothing in the model.
IRRELEVANT = ("DEVICE", "WEIGHTS")


def fingerprint(cfg: CfgNode, model: nn.Module, items: Sequence[tuple], **others: object) -> str:
    """Hash, with SHA-256, all that the result of an attack depends on, the user's code included.

    Args:
        cfg: config whose ``SECTIONS``, ``KEYS`` and keys of users' parts count.
        model: model whose layers and weights count.
        items: query + gallery: files with size and time of their last change, persons, cameras.
        others: plain values, such as the name of the attack and the rows of the task.

    Raises:
        InputError: a file is missing.
    """
    settings = plain(cfg)
    relevant = {section: settings[section] for section in SECTIONS}
    relevant["MODEL"] = {
        key: value for key, value in relevant["MODEL"].items() if key not in IRRELEVANT
    }
    relevant |= {f"{section}.{key}": settings[section][key] for section, key in KEYS}
    relevant |= {key: value for key, value in flatten(settings) if key in ADDED_BY}
    digest = hashlib.sha256(json.dumps([relevant, others], sort_keys=True).encode())
    digest.update(f"{without_losses(model)} {hash_weights(model)}".encode())
    digest.update(code_digest().encode())
    for item in items:
        states = [file_state(path) for path in as_tracklet(item).img_paths]
        digest.update(repr((tuple(item), states)).encode())
    return digest.hexdigest()


def without_losses(model: nn.Module) -> nn.Module:
    """Return a view of a meta-architecture without its losses, on which no feature depends."""
    view = copy.copy(model)
    view._modules = {name: part for name, part in model._modules.items() if name != LOSSES}
    return view


def hash_weights(model: nn.Module) -> str:
    """Hash, with SHA-256, all parameters and buffers but those of losses."""
    digest = hashlib.sha256()
    for name, tensor in without_losses(model).state_dict().items():
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()
