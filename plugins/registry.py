"""Re-export fastreid's four registries, and add those that fastreid lacks.

Registered names are class or function names, so a name in a YAML file can be grepped.
"""

from typing import Any

from fastreid.data.datasets import DATASET_REGISTRY as DATASET
from fastreid.modeling.backbones import BACKBONE_REGISTRY as BACKBONE
from fastreid.modeling.heads import REID_HEADS_REGISTRY as HEADS
from fastreid.modeling.meta_arch import META_ARCH_REGISTRY as META_ARCH
from fastreid.utils.registry import Registry

from plugins.errors import InputError
from plugins.utils.names import closest_names, list_names
from plugins.utils.values import shortened

__all__ = [
    "ATTACK",
    "BACKBONE",
    "DATASET",
    "EVALUATOR",
    "HEADS",
    "LOSS",
    "META_ARCH",
    "SAMPLER",
    "SELF_ATTACK",
    "STEP",
    "TEMPORAL",
    "known",
    "lookup",
]

LOSS = Registry("LOSS")
TEMPORAL = Registry("TEMPORAL")
SAMPLER = Registry("SAMPLER")
ATTACK = Registry("ATTACK")
SELF_ATTACK = Registry("SELF_ATTACK")
STEP = Registry("STEP")
EVALUATOR = Registry("EVALUATOR")


def known(registry: Registry) -> list[str]:
    """List the names registered in ``registry``, sorted."""
    return sorted(registry._obj_map)


def lookup(registry: Registry, name: str, key: str) -> Any:
    """Return the object registered as ``name``.

    Args:
        registry: where to look.
        name: the registered name.
        key: the config key that holds the name, for the message.

    Raises:
        InputError: nothing has that name; the three nearest of the known names are listed.
    """
    if name not in registry._obj_map:
        choices = list_names(closest_names(name[:60], known(registry)))
        raise InputError(
            f"{key}: no {registry._name} is named {shortened(name)}; known: {choices}; "
            "--plugins brings parts of your own"
        )
    return registry.get(name)
