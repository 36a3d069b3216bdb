"""Load the weights that a fastreid network starts from: a file's, or published ones of ImageNet.

A network that starts from other weights than intended trains, and reaches less. So every weight
that the file should hold must be there and fit; anything else is an error.
"""

import logging
from collections.abc import Callable, Iterable
from pathlib import Path

import torch
from fastreid.config import CfgNode
from fastreid.modeling.backbones import osnet, resnet
from fastreid.utils import comm
from torch import Tensor, nn
from torchvision.models import MobileNet_V2_Weights

from plugins.errors import InputError, one_line
from plugins.modeling.backbones.trunks import KINDS, MOBILENET, OSNET, configured_kind, kind_of
from plugins.modeling.backbones.weight_names import mobilenet_names
from plugins.utils.io import read_tensors, require_file

logger = logging.getLogger(__name__)

# No ImageNet file holds the first (the non-local blocks start as the identity); files from before
# torch 0.4.1 lack the second.
NOT_IN_FILES = ("NL_", "num_batches_tracked")
WAYS_OUT = "or set MODEL.BACKBONE.PRETRAIN_PATH, or MODEL.BACKBONE.PRETRAIN False"


def load_pretrained(network: nn.Module, cfg: CfgNode) -> None:
    """Load ``MODEL.BACKBONE.PRETRAIN_PATH``, or published weights for this depth, into a network.

    Raises:
        InputError: no file, not a file of weights, or weights of another network.
    """
    given = cfg.MODEL.BACKBONE.PRETRAIN_PATH
    path = weights_file(cfg) if given else published_file(cfg)
    weights = read_weights(path)
    if kind_of(network) is MOBILENET:
        weights = mobilenet_names(weights)
    check_weights(weights, network.state_dict(), path)
    unused = network.load_state_dict(weights, strict=False).unexpected_keys
    if unused:
        logger.warning("%s: %d weights fit no part: %s", path, len(unused), first_few(unused))
    logger.info("Loaded the pretrained weights %s", path)


def without_pretraining(cfg: CfgNode) -> CfgNode:
    """Copy a config and set MODEL.BACKBONE.PRETRAIN False."""
    untrained = cfg.clone()
    untrained.defrost()
    untrained.MODEL.BACKBONE.PRETRAIN = False
    return untrained


def build_pretrained(build: Callable[[CfgNode], nn.Module], cfg: CfgNode) -> nn.Module:
    """Build a model with the pretrained weights of its backbone, and refuse wrong weights.

    fastreid loads the weights of a file that fit and logs the rest, so known backbones load it here
    instead. fastreid fetches their published weights, except those of a MobileNetV2.

    Raises:
        InputError: as ``load_pretrained``.
    """
    backbone = cfg.MODEL.BACKBONE
    if not backbone.PRETRAIN:
        return build(cfg)
    if backbone.PRETRAIN_PATH:
        read_weights(weights_file(cfg))
    stock = next((kind for kind in KINDS if kind.builder == backbone.NAME), None)
    if stock is MOBILENET or (stock is not None and backbone.PRETRAIN_PATH):
        model = build(without_pretraining(cfg))
        load_pretrained(model.get_submodule("backbone"), cfg)
        return model
    try:
        return build(cfg)
    except ModuleNotFoundError as error:
        if error.name != "gdown":
            raise
        raise InputError(
            f"MODEL.BACKBONE.PRETRAIN: fastreid fetches weights with gdown: pip install gdown, "
            f"{WAYS_OUT}"
        ) from error
    except OSError as error:
        raise InputError(
            f"MODEL.BACKBONE.PRETRAIN: {one_line(error)}; put it into fastreid's cache, {WAYS_OUT}"
        ) from error


def weights_file(cfg: CfgNode) -> Path:
    """Return the file of MODEL.BACKBONE.PRETRAIN_PATH.

    Raises:
        InputError: there is none.
    """
    path = Path(cfg.MODEL.BACKBONE.PRETRAIN_PATH).expanduser()
    require_file(path, "MODEL.BACKBONE.PRETRAIN_PATH")
    return path


def published_url(cfg: CfgNode) -> str:
    """Return the address of published weights for the configured trunk, depth, IBN and SE.

    Raises:
        InputError: there are none.
    """
    addresses, name = published(cfg)
    if name not in addresses:
        raise InputError(
            f"MODEL.BACKBONE.PRETRAIN: fastreid has no weights for {name}, "
            f"only for {', '.join(addresses)}; {WAYS_OUT.removeprefix('or ')}"
        )
    return addresses[name]


def published(cfg: CfgNode) -> tuple[dict[str, str], str]:
    """Return addresses of published weights by network, and the name of the configured network."""
    backbone, kind = cfg.MODEL.BACKBONE, configured_kind(cfg)
    if kind is MOBILENET:
        return {"1.0x": MobileNet_V2_Weights.IMAGENET1K_V1.url}, backbone.DEPTH
    if kind is OSNET:
        family = "osnet_ibn" if backbone.WITH_IBN else "osnet"
        return osnet.model_urls, f"{family}_{backbone.DEPTH}"
    prefixes = ("se_" * backbone.WITH_SE) + ("ibn_" * backbone.WITH_IBN)
    return resnet.model_urls, prefixes + backbone.DEPTH


def published_file(cfg: CfgNode) -> Path:
    """Return the file of the published weights, in fastreid's cache folder.

    Raises:
        InputError: there are none, or they cannot be fetched.
    """
    url = published_url(cfg)
    if configured_kind(cfg) is not OSNET:
        return fetch(url)
    # Google Drive gives a browser a page where a program expects a file; fastreid names it so.
    path = cache_folder() / f"{published(cfg)[1]}_imagenet.pth"
    if not path.is_file():
        raise InputError(
            f"MODEL.BACKBONE.PRETRAIN: {path} is missing; put the file of {url} there, {WAYS_OUT}"
        )
    return path


def cache_folder() -> Path:
    """Return the folder where fastreid keeps published weights."""
    return Path(torch.hub.get_dir()).parent / "checkpoints"


def fetch(url: str) -> Path:
    """Return the file of ``url`` in fastreid's cache; the main process fetches a missing file.

    Raises:
        InputError: the file is missing and cannot be fetched.
    """
    path = cache_folder() / Path(url).name
    reason = "the main process could not fetch it"
    if comm.is_main_process() and not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            torch.hub.download_url_to_file(url, str(path))
        except OSError as error:
            # Raised below instead: the other processes wait at the next line.
            reason = str(error)
    comm.synchronize()
    if not path.is_file():
        raise InputError(
            f"MODEL.BACKBONE.PRETRAIN: {path} is missing and {url} does not answer ({reason}); "
            f"put the file there, {WAYS_OUT}"
        )
    return path


def read_weights(path: Path) -> dict[str, Tensor]:
    """Read weights by name, without the classifier (``fc.``) and the prefix ``module.``.

    Args:
        path: a state dict, bare or under the key ``state_dict`` or ``model``; if it is that of a
            fastreid model, such as a checkpoint of ``Baseline``, its backbone is read.

    Raises:
        InputError: the file cannot be read or holds something else.
    """
    content = read_tensors(path, "file of weights")
    for key in ("state_dict", "model"):
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
    if not isinstance(content, dict) or not all(isinstance(v, Tensor) for v in content.values()):
        raise InputError(f"{path}: expected tensors by name, found {type(content).__name__}")
    weights = {str(name).removeprefix("module."): value for name, value in content.items()}
    backbone = {
        name.removeprefix("backbone."): value
        for name, value in weights.items()
        if name.startswith("backbone.")
    }
    return backbone or {n: value for n, value in weights.items() if not n.startswith("fc.")}


def check_weights(weights: dict[str, Tensor], expected: dict[str, Tensor], path: Path) -> None:
    """Refuse weights that leave a part of the network untouched or do not fit it.

    Raises:
        InputError: weights are missing or have another shape; the message names the first few.
    """
    missing = [
        name
        for name in expected
        if name not in weights and not any(part in name for part in NOT_IN_FILES)
    ]
    if missing:
        raise InputError(
            f"{path}: {len(missing)} of {len(expected)} backbone weights are missing: "
            f"{first_few(missing)}; the file holds {first_few(weights)}"
        )
    for name, value in expected.items():
        if name in weights and weights[name].shape != value.shape:
            raise InputError(
                f"{path}: {name} has shape {tuple(weights[name].shape)}, "
                f"but the backbone expects {tuple(value.shape)}"
            )


def first_few(names: Iterable[str], count: int = 3) -> str:
    """Join the first names by commas."""
    names = list(names)
    return ", ".join(names[:count]) + (", ..." if len(names) > count else "")
