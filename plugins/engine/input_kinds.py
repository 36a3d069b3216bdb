"""Refuse a model or a sampler whose input is of another kind than what a data set holds.

A model of this package takes clips of two modalities, and single images as clips of one frame.
fastreid's own models take fastreid's images alone, (B, 3, H, W).
"""

from pathlib import Path
from typing import Any

from fastreid.config import CfgNode

from plugins.config import read_config
from plugins.config.files import shipped_configs
from plugins.data.build import FASTREID_SAMPLERS
from plugins.data.clips import ClipDataset
from plugins.data.datasets.wrapped import chain
from plugins.errors import InputError
from plugins.registry import META_ARCH, SAMPLER

SHOWN = 3  # configs in a message
IMAGES = "single images of one modality"
PLAIN = ("baseline", "vanilla")  # configs that others build on


def check_kinds(cfg: CfgNode, *keys: str) -> None:
    """Compare model, sampler and data sets, as far as the names tell, before any data is read.

    Args:
        cfg: config of a run.
        keys: of DATASETS, "NAMES" or "TESTS".

    Raises:
        InputError: the model reads single images and a set holds clips; or the sampler needs two
            modalities and the training sets hold one.
    """
    for key in keys:
        for name in cfg.DATASETS[key]:
            refuse_clips(cfg, key, name, kind_of(name, cfg))
    if "NAMES" not in keys or not needs_modalities(cfg):
        return
    if all(kind_of(name, cfg) == IMAGES for name in cfg.DATASETS.NAMES):
        name = cfg.DATASETS.NAMES[0]
        raise InputError(
            f"DATALOADER.SAMPLER_TRAIN: {cfg.DATALOADER.SAMPLER_TRAIN} needs two modalities, but "
            f"DATASETS.NAMES {name} holds {IMAGES}; expected IdentitySampler, with which "
            f"MODEL.META_ARCHITECTURE {cfg.MODEL.META_ARCHITECTURE} trains on images too, or "
            f"{fitting_configs(name, IMAGES)}"
        )


def check_items(cfg: CfgNode, key: str, name: str, clips: ClipDataset) -> None:
    """Refuse a data set by its items once they are listed: a table may hold either kind.

    Raises:
        InputError: the model reads single images and the set holds clips.
    """
    if not clips.holds_images:
        refuse_clips(cfg, key, name, "clips or images of two modalities")


def refuse_clips(cfg: CfgNode, key: str, name: str, kind: str) -> None:
    """Raise InputError if the model reads single images and the set holds another kind.

    Args:
        cfg: config of a run.
        key: of DATASETS.
        name: of a data set.
        kind: what the set holds; "" where that is not known.
    """
    if kind in ("", IMAGES) or not reads_images_alone(cfg):
        return
    raise InputError(
        f"MODEL.META_ARCHITECTURE: fastreid's {cfg.MODEL.META_ARCHITECTURE} reads {IMAGES}, but "
        f"DATASETS.{key} {name} holds {kind}; expected an image set, such as Market1501, or "
        f"{fitting_configs(name, kind)}"
    )


def reads_images_alone(cfg: CfgNode) -> bool:
    """Tell whether the meta-architecture is one of fastreid's, or takes images as these do."""
    architecture = META_ARCH.get(cfg.MODEL.META_ARCHITECTURE)
    methods = (getattr(architecture, name, None) for name in ("forward", "preprocess_image"))
    return all(getattr(each, "__module__", "").startswith("fastreid.") for each in methods)


def needs_modalities(cfg: CfgNode) -> bool:
    """Tell whether the sampler takes items of both modalities into each batch."""
    name = cfg.DATALOADER.SAMPLER_TRAIN
    return getattr(SAMPLER.get(FASTREID_SAMPLERS.get(name, name)), "sides", 1) > 1


def kind_of(name: str, cfg: CfgNode) -> str:
    """Say what a data set holds, by the reader of its files; "" where only the files tell."""
    reader: Any = list(chain(name, cfg).values())[-1]
    if not hasattr(reader, "directions"):  # a reader of fastreid's kind
        return IMAGES
    return getattr(reader, "holds", "")


def fitting_configs(name: str, kind: str) -> str:
    """Name configs of the package that test a data set, or sets of its kind."""
    files = [Path(file) for file in shipped_configs() if name in tested(file)]
    files = [file for file in files if not file.name.startswith("Base-")]
    files.sort(key=lambda file: (file.stem not in PLAIN, len(file.parts), file))
    other = "Defense/vanilla.yml" if kind == IMAGES else "VVI/baseline.yml"
    return f"a config such as {', '.join(map(str, files[:SHOWN])) or other}"


def tested(file: str) -> list[str]:
    """List the sets that a config of the package tests on."""
    return read_config(file).get("DATASETS", {}).get("TESTS", [])
