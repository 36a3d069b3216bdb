"""A user's defense step: the arguments of its methods, and what its ``craft`` returns."""

import inspect
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from plugins.errors import InputError
from plugins.registry import check_call
from plugins.utils.own_code import described, is_users
from plugins.utils.values import shortened

KEY = "SOLVER.STEP"
# Methods that a step may override, with the names of their arguments.
METHODS = {"craft": ("batch", "index"), "losses": ("batch", "attacked")}
READ = ("images", "targets", "modalities")  # entries of a batch that models read


def check_methods(step: type) -> None:
    """Raise InputError if a user's method takes other arguments than it will be called with.

    Args:
        step: a subclass of ``AdversarialStep``.
    """
    for method, arguments in METHODS.items():
        function = getattr(step, method)
        if is_users(function):
            is_static = isinstance(inspect.getattr_static(step, method), staticmethod)
            bound = () if is_static else ("self",)
            label = f"{KEY}: {described(step.__name__, step)}"
            check_call(function, method, label, (*bound, *arguments))


def check_crafted(step: object, batch: dict, attacked: object, more: Iterable[str]) -> None:
    """Raise InputError if a user's ``craft`` returned no batch that can be trained on.

    Args:
        step: the step.
        batch: from the loader.
        attacked: what ``craft`` returned for it.
        more: entries that the losses read beside those of every batch.
    """
    kind = type(step)
    if not is_users(getattr(kind, "craft", None)):
        return
    if mistake := batch_mistake(batch, attacked, more):
        raise InputError(f"{KEY}: {described(kind.__name__, kind)}: craft {mistake}")


def batch_mistake(batch: dict, attacked: object, more: Iterable[str]) -> str:
    """Say what is wrong with an attacked batch; "" for nothing. See :func:`check_crafted`."""
    if not isinstance(attacked, Mapping):
        return f"returned {shortened(attacked)}; expected a batch, {{**batch, 'images': images}}"
    needed = [name for name in READ if name in batch]
    if lacking := [name for name in (*needed, *more) if name not in attacked]:
        return f"returned a batch without {lacking[0]}; expected {{**batch, 'images': images}}"
    images, shape = attacked["images"], tuple(batch["images"].shape)
    if not isinstance(images, Tensor):
        return f"returned {shortened(images)} as images; expected a tensor {shape}"
    if images.shape != shape:
        return f"returned images {tuple(images.shape)}; expected {shape}, as those of the batch"
    lowest, highest = torch.stack(images.detach().aminmax()).tolist()
    if not 0 <= lowest <= highest <= 255:
        return f"returned images in [{lowest:g}, {highest:g}]; expected [0, 255]"
    return ""
