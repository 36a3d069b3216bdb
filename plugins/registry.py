"""Re-export fastreid's four registries, and add those that fastreid lacks.

Registered names are class or function names, so a name in a YAML file can be grepped.
"""

import inspect
from collections.abc import Callable, Sequence
from typing import Any

from fastreid.data.datasets import DATASET_REGISTRY as DATASET
from fastreid.modeling.backbones import BACKBONE_REGISTRY as BACKBONE
from fastreid.modeling.heads import REID_HEADS_REGISTRY as HEADS
from fastreid.modeling.meta_arch import META_ARCH_REGISTRY as META_ARCH
from fastreid.utils.registry import Registry
from torch import nn

from plugins.errors import InputError
from plugins.utils.names import closest_names, list_names
from plugins.utils.own_code import PARTS, call_mistake, unregistered
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


def all_parts() -> list[Any]:
    """List what the registries of this module hold."""
    registries = [each for each in globals().values() if isinstance(each, Registry)]
    return [part for registry in registries for part in registry._obj_map.values()]


PARTS.append(all_parts)


def known(registry: Registry) -> list[str]:
    """List the names registered in ``registry``, sorted."""
    return sorted(registry._obj_map)


def lookup(registry: Registry, name: str, key: str, *arguments: str) -> Any:
    """Return the object registered as ``name``.

    Args:
        registry: where to look.
        name: the registered name.
        key: the config key that holds the name, for the message.
        *arguments: names of what the object will be called with; none leaves that unchecked.

    Raises:
        InputError: nothing has that name, and the three nearest of the known names are listed; or
            the object takes other arguments.
    """
    if name not in registry._obj_map:
        choices = list_names(closest_names(name[:60], known(registry)))
        raise InputError(
            f"{key}: no {registry._name} is named {shortened(name)}; known: {choices}; "
            f"{unregistered(name, registry._name)}"
        )
    part = registry.get(name)
    configurable = hasattr(getattr(part, "__init__", None), "__wrapped__")  # takes a config, too
    if arguments and not configurable:
        check_call(part, name, key, arguments)
    return part


def construct(part: Callable, name: str, key: str, *arguments: Any, **more: Any) -> Any:
    """Call a registered part, which may be a user's module.

    Args:
        part: what :func:`lookup` returned.
        name: the registered name.
        key: the config key that holds the name, for the message.
        *arguments: of the part.
        **more: likewise, by name.

    Raises:
        InputError: a module's constructor does not begin with that of ``nn.Module``.
    """
    try:
        built = part(*arguments, **more)
    except AttributeError as error:
        if "before Module.__init__() call" not in str(error):
            raise
        built = error
    if isinstance(built, AttributeError) or not _began(built):
        raise InputError(
            f"{key}: {name}: its __init__ does not call super().__init__(), or does so too late; "
            "expected that call before the module gets its parts"
        )
    return built


def _began(built: object) -> bool:
    """Tell whether the constructor of ``nn.Module`` ran, where the object is a module."""
    return not isinstance(built, nn.Module) or "_modules" in vars(built)


def check_call(method: Callable, name: str, key: str, arguments: Sequence[str]) -> None:
    """Raise InputError if a callable does not take the arguments that it will be called with.

    Args:
        method: such as a class or a forward function.
        name: of the callable, for the message.
        key: the config key that names the part, for the message.
        arguments: names of the arguments, passed by position.
    """
    if getattr(method, "__init__", None) is nn.Module.__init__:  # it takes anything, and fails
        method = object  # takes nothing
    if mistake := call_mistake(method, *arguments):
        called, signature = name.rpartition(".")[2], inspect.signature(method)
        raise InputError(
            f"{key}: {name}{signature}: {mistake}; expected {called}({', '.join(arguments)})"
        )
