"""Try the objective of a user's attack on random features, before any data is read.

Legend: R attacked rows, G gallery items, D feature length.
"""

import inspect
from collections.abc import Callable
from dataclasses import replace

import torch
from fastreid.config import CfgNode
from torch import Tensor

from plugins.attacks.attack import Attack, value_mistake
from plugins.attacks.features import preserved_random_state
from plugins.attacks.guides import Guides
from plugins.attacks.optimizers import GRADIENT_FREE
from plugins.errors import InputError
from plugins.modeling.dry_build import dry_feature_length
from plugins.utils.own_code import call_mistake, described, file_of, is_users, users_errors

# Numbers of rows and items that differ from each other, so that a mix-up shows.
ROWS, ITEMS = 5, 7
ARGUMENTS = "objective(features, guides)"


def try_own_objective(attack: Attack, name: str, key: str, cfg: CfgNode) -> None:
    """Compute the objective of an attack on random features and guides, if it is a user's.

    Args:
        attack: as the config describes it.
        name: its registered name.
        key: config key that names it.
        cfg: config of the run; its model tells D.

    Raises:
        InputError: the objective takes other arguments, fails, does not return one value for each
            row, or has no gradient though the attack needs one.
    """
    function = inspect.getattr_static(type(attack), "objective", None)
    function = getattr(function, "__func__", function)
    if function is None or not is_users(function):
        return
    label = f"{key}: {described(name, attack)}"
    check_arguments(attack, function, label)
    length = dry_feature_length(cfg)
    if not length:
        return
    with preserved_random_state():
        torch.manual_seed(0)
        guides = random_guides(length, cfg.TEST.METRIC)
        images = torch.randn(ROWS, length, requires_grad=True)  # stand for those of the features
        called = f"called with features ({ROWS}, {length}) and a gallery ({ITEMS}, {length})"
        with torch.enable_grad(), users_errors(f"{label}: objective {called}", file_of(function)):
            guides = attack.set_target(guides, torch.arange(ROWS))
            if attack.transform is not None:
                guides = guides.refer(torch.randn(ROWS, length))
            value = attack.objective(images + 0, guides)
        if mistake := value_mistake(value, ROWS):
            raise InputError(f"{label}: objective {mistake}, {called}")
        searches = type(attack).search is Attack.search
        if searches and attack.recipe.optimizer not in GRADIENT_FREE:
            check_gradient(value, images, label)


def check_arguments(attack: Attack, function: Callable, label: str) -> None:
    """Raise InputError unless the attack's objective takes features and guides."""
    mistake = call_mistake(attack.objective, "features", "guides")
    if not mistake:
        return
    if attack.objective is not function and not call_mistake(function, "features", "guides"):
        called = getattr(function, "__name__", "objective")
        raise InputError(
            f"{label}: objective is a plain function, which Python calls with the attack as "
            f"its first argument; expected objective = staticmethod({called})"
        )
    raise InputError(f"{label}: objective: {mistake}; expected {ARGUMENTS}")


def random_guides(length: int, metric: str) -> Guides:
    """Make guides of random features, in which each row has positives and negatives."""
    clean, gallery = torch.randn(ROWS, length), torch.randn(ITEMS, length)
    pids, gallery_pids = torch.arange(ROWS) % 3, torch.arange(ITEMS) % 3
    cameras = torch.zeros(ROWS), torch.ones(ITEMS)
    guides = Guides.from_features(clean, gallery, pids, gallery_pids, *cameras, metric=metric)
    return replace(guides, items=clean)


def check_gradient(value: Tensor, images: Tensor, label: str) -> None:
    """Raise InputError if an objective does not depend on the features in a way to follow."""
    gradient = None
    if value.requires_grad:
        (gradient,) = torch.autograd.grad(value.sum(), images, allow_unused=True)
    if gradient is None:
        raise InputError(
            f"{label}: objective has no gradient with respect to the features; expected one "
            "without detach, torch.no_grad or a comparison as its value"
        )
