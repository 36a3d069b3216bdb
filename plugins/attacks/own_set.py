"""Try the perturbation set of a user's attack on random images, before any data is read.

Legend: B clips of T frames of 3 x H x W, pixels in gray levels.
"""

import inspect
import logging
from collections.abc import Callable, Sequence
from typing import TypeVar

import torch
from fastreid.config import CfgNode
from torch import Tensor

from plugins.attacks.attack import Attack, require_set
from plugins.attacks.features import preserved_random_state
from plugins.attacks.threat_model import PerturbationSet
from plugins.errors import InputError
from plugins.utils.own_code import call_mistake, described, file_of, is_users, users_errors
from plugins.utils.values import shortened

logger = logging.getLogger(__name__)

CLIPS = 2
Result = TypeVar("Result")


def try_own_set(attack: Attack, name: str, key: str, cfg: CfgNode) -> None:
    """Build the perturbation set of an attack, if it is a user's, and move random images into it.

    A set may read what random images lack, such as a mask beside a file or what ``prepare`` learns;
    then the first real batch tells its faults.

    Args:
        attack: as the config describes it.
        name: its registered name.
        key: config key that names it.
        cfg: config of the run; it tells T, H and W, in training if ``key`` is one of DEFENSE.

    Raises:
        InputError: ``perturbation_set`` takes other arguments or returns no set; or a method of the
            set fails, or returns images of another shape or outside [0, 255].
    """
    function = inspect.getattr_static(type(attack), "perturbation_set")
    function = getattr(function, "__func__", function)
    if not is_users(function):
        return
    label = f"{key}: {described(name, attack)}"
    if mistake := call_mistake(attack.perturbation_set, "batch"):
        raise InputError(
            f"{label}: perturbation_set: {mistake}; expected perturbation_set(self, batch)"
        )
    size = cfg.INPUT.SIZE_TRAIN if key.startswith("DEFENSE.") else cfg.INPUT.SIZE_TEST
    learns = type(attack).prepare is not Attack.prepare
    lacking = (OSError, LookupError, *([AttributeError] if learns else []))
    with preserved_random_state():
        torch.manual_seed(0)
        try:
            with users_errors(f"{label}: perturbation_set", file_of(function)):
                batch = random_batch(cfg.INPUT.CLIP.LENGTH, size)
                allowed = require_set(attack.perturbation_set(batch), label)
            try_methods(allowed, label)
        except InputError as error:
            if not isinstance(error.__cause__, lacking):
                raise
            logger.debug("no set for random images: %s", error)


def random_batch(frames: int, size: Sequence[int]) -> dict:
    """Make a batch with the entries of a test batch; no file has the names in ``img_paths``."""
    numbers = torch.arange(CLIPS)
    return {
        "images": 255 * torch.rand(CLIPS, frames, 3, *size),
        "targets": numbers,
        "camids": numbers,
        "modalities": numbers % 2,
        "is_pseudo": torch.zeros(CLIPS, dtype=torch.bool),
        "rows": numbers,
        "img_paths": [tuple(f"{clip}/{n}.jpg" for n in range(frames)) for clip in range(CLIPS)],
    }


def try_methods(allowed: PerturbationSet, label: str) -> None:
    """Call the methods of a set that the attacks call, on a random perturbation.

    Raises:
        InputError: one fails, or returns no images of the shape and range of the clean ones.
    """
    noise = torch.randn_like(allowed.clean)
    if not allowed.frames_selected:
        allowed = attempt(label, allowed, "select_frames", lambda: allowed.select_frames(noise))
    calls: dict[str, Callable[[], Tensor]] = {
        "average_tied": lambda: allowed.average_tied(noise),
        "steepest_direction": lambda: allowed.steepest_direction(noise),
        "project": lambda: allowed.project(allowed.clean + allowed.threat.eps * noise),
        "random_point": lambda: allowed.random_point(0, 0),
    }
    for method, call in calls.items():
        found, expected = attempt(label, allowed, method, call), tuple(allowed.clean.shape)
        where = f"{label}: {described(type(allowed).__name__, allowed)}: {method}"
        if not isinstance(found, Tensor) or found.shape != expected:
            shown = f"a tensor {tuple(found.shape)}" if isinstance(found, Tensor) else None
            raise InputError(
                f"{where} returned {shown or shortened(found)}, called with clips {expected}; "
                f"expected a tensor {expected}"
            )
        if method in ("project", "random_point"):
            low, high = torch.stack(found.aminmax()).tolist()
            if not 0 <= low <= high <= 255:
                raise InputError(
                    f"{where} returned images in [{low:g}, {high:g}]; expected [0, 255]"
                )


def attempt(
    label: str, allowed: PerturbationSet, method: str, call: Callable[[], Result]
) -> Result:
    """Call a method of a set; an exception of the user's code becomes an InputError."""
    name = described(type(allowed).__name__, allowed)
    with users_errors(f"{label}: {name}: {method}", file_of(allowed)):
        return call()
